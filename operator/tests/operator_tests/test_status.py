"""What a pool says of itself, and when that is worth a write."""

from dataclasses import replace
from typing import Any

import pytest

from warmpool.registry import Counts
from warmpool_operator.informer import Pod
from warmpool_operator.pool import SandboxPool
from warmpool_operator.status import Publisher, Trouble, View, status, trouble

NOW = "2026-01-01T00:00:00Z"


def pool(**changes: object) -> SandboxPool:
    made = SandboxPool(
        name="p", namespace="n", uid="u", generation=3, deleting=False, status={},
        spec={"replicas": 1, "image": "i", "keySecret": {"name": "k"}},
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def pod(**changes: object) -> Pod:
    made = Pod(
        name="p-1", uid="1", pool="p", template=pool().template_hash, phase="Running", ready=True, ip="10.0.0.1",
        deleting=False,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def counts(idle: int = 0, leased: int = 0) -> Counts:
    return Counts(warming=0, idle=idle, leased=leased, retiring=0)


def said_of(
    pool: SandboxPool, pods: list[Pod], counts: Counts | None, why: Trouble | None = None,
    floor: Trouble | None = None, now: str = NOW,
) -> dict[str, Any]:  # fmt: skip
    view = View(pool=pool, desired=pool.replicas, pods=pods, counts=counts, why=why, floor=floor)
    return status(view, now)


def condition(said: dict[str, Any], kind: str) -> tuple[str, str]:
    return next((one["status"], one["reason"]) for one in said["conditions"] if one["type"] == kind)


def test_a_pool_is_ready_once_as_many_pods_serve_as_are_wanted() -> None:
    said = said_of(pool(), [pod()], counts(leased=1))

    assert condition(said, "Ready") == ("True", "PoolReady")
    assert condition(said, "Confined") == ("True", "ProbePassed")


@pytest.mark.parametrize(
    ("more", "profile"),
    [({}, "no network"), ({"network": {"tcpPorts": [443, 8443]}}, "TCP to 443, 8443 and no other port")],
)
def test_a_confined_pool_says_its_network_profile(more: dict[str, Any], profile: str) -> None:
    made = pool(spec={**pool().spec, **more})

    said = said_of(made, [pod(template=made.template_hash)], counts(idle=1))

    (message,) = [one["message"] for one in said["conditions"] if one["type"] == "Confined"]
    assert message.endswith(profile)


def test_a_pool_with_pods_of_an_older_template_is_still_rolling_out() -> None:
    said = said_of(pool(), [pod(template="older")], counts(idle=1))

    assert condition(said, "Ready") == ("False", "RollingOut")


def test_a_pool_whose_registry_is_away_says_so_and_keeps_its_last_counts() -> None:
    said = said_of(pool(), [pod()], None)

    assert condition(said, "Ready") == ("False", "RegistryUnavailable")
    assert "idle" not in said


def test_a_sandbox_below_the_floor_makes_the_pool_unconfined_in_the_sandboxs_own_words() -> None:
    ended = pod(phase="Failed", ready=False, trouble="Exit3", message="Landlock ABI: 5, at least 6 is asked for")
    why = trouble([ended], None)

    said = said_of(pool(), [ended], counts(), why, why)

    assert condition(said, "Ready") == ("False", "SandboxBelowFloor")
    assert condition(said, "Confined") == ("False", "SandboxBelowFloor")
    assert condition(said, "Degraded") == ("True", "SandboxBelowFloor")
    assert all("Landlock ABI: 5" in one["message"] for one in said["conditions"] if one["type"] != "Progressing")


def test_an_image_that_is_not_there_is_the_reason() -> None:
    waiting = pod(phase="Pending", ready=False, trouble="ImagePullBackOff", message="no such image")

    assert trouble([waiting], None) == Trouble("ImagePullFailed", "1 pods; p-1: ImagePullBackOff no such image")


def test_a_pool_that_gets_there_progresses_and_is_not_degraded() -> None:
    starting = said_of(pool(), [pod(ready=False)], counts())
    there = said_of(pool(), [pod()], counts(idle=1))

    assert condition(starting, "Progressing") == ("True", "PodsStarting")
    assert condition(there, "Progressing") == ("True", "PoolComplete")
    assert condition(there, "Degraded") == ("False", "AsExpected")


def test_a_rollout_whose_first_pods_fail_is_halted_and_says_why() -> None:
    old = pod(template="older")
    new = pod(name="p-2", ready=False, trouble="ImagePullBackOff", message="no such image")
    why = trouble([new], None)

    said = said_of(pool(), [old, new], counts(idle=1), why)

    assert condition(said, "Progressing") == ("False", "RolloutHalted")
    assert condition(said, "Degraded") == ("True", "ImagePullFailed")


def test_a_paused_pool_says_so() -> None:
    paused = pool(spec={**pool().spec, "paused": True, "replicas": 2})

    assert condition(said_of(paused, [pod()], counts(idle=1)), "Progressing") == ("False", "Paused")


def test_the_size_that_demand_asks_for_is_what_is_desired() -> None:
    view = View(pool=pool(), desired=7, pods=[pod()], counts=counts(idle=1), why=None, floor=None)
    said = status(view, NOW)

    assert said["desired"] == 7
    assert condition(said, "Ready") == ("False", "PodsStarting")


def test_a_condition_keeps_the_time_of_its_last_change() -> None:
    before = said_of(pool(), [pod()], counts(idle=1))

    after = said_of(pool(status=before), [pod()], counts(idle=1), now="2026-01-02T00:00:00Z")

    assert after["conditions"] == before["conditions"]


def test_a_change_of_what_people_wait_for_is_written_at_once() -> None:
    publisher = Publisher()
    publisher.done(said_of(pool(), [pod(ready=False)], counts()), now=-1.0)

    assert publisher.due(said_of(pool(), [pod()], counts(idle=1)), now=0.0)


def test_pods_that_come_up_one_by_one_are_written_once_a_second() -> None:
    publisher, written = Publisher(), 0
    for ready in range(100):
        now = ready * 0.05
        said = said_of(pool(), [pod(ready=number < ready) for number in range(100)], counts())
        if publisher.due(said, now):
            publisher.done(said, now)
            written += 1

    assert written == 5


def test_leases_alone_are_written_only_once_they_lasted() -> None:
    publisher = Publisher()
    publisher.done(said_of(pool(), [pod()], counts(idle=1)), now=-1.0)
    leased = said_of(pool(), [pod()], counts(leased=1))

    assert not publisher.due(leased, now=0.0)
    assert not publisher.due(leased, now=9.0)
    assert publisher.due(leased, now=10.0)


def test_leases_that_came_and_went_are_never_written() -> None:
    publisher = Publisher()
    idle = said_of(pool(), [pod()], counts(idle=1))
    publisher.done(idle, now=-1.0)

    for second in range(0, 60, 4):
        moment = idle if second % 8 else said_of(pool(), [pod()], counts(leased=1))
        assert not publisher.due(moment, now=float(second))

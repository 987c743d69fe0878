"""A keeper at work between an API server on a socket and a real Redis."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import REGISTRY, generate_latest
from redis.asyncio import Redis

from operator_tests.api_server import ApiServer, until
from warmpool.errors import Superseded
from warmpool.registry import Lease, PodState, Registry, connect
from warmpool_operator import keeper as keeper_module
from warmpool_operator import observe
from warmpool_operator.handlers import Keepers
from warmpool_operator.informer import Informer
from warmpool_operator.keeper import Keeper
from warmpool_operator.pace import PER_NODE, UNPROVEN
from warmpool_operator.pool import SandboxPool

SPEC = {"replicas": 2, "image": "i", "keySecret": {"name": "k"}}
POOL = SandboxPool(name="p", namespace="n", uid="u", generation=1, spec=SPEC, status={}, deleting=False)


@pytest.fixture
async def server() -> ApiServer:
    return ApiServer()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """The client that the registry is meant to have, on an empty Redis."""
    client = connect(redis_url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def registry(redis: Redis) -> Registry:
    return Registry(redis, "p")


@pytest.fixture
async def keeper(server: ApiServer, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Keeper]:
    monkeypatch.setattr(keeper_module, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(keeper_module, "COALESCE_SECONDS", 0.0)
    async with server.running() as api:
        informer = Informer(api, "n", lambda _: made.poke())
        made = Keeper(api, informer, registry, POOL)
        tasks = [asyncio.create_task(informer.run()), asyncio.create_task(made.run())]
        yield made
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def full(server: ApiServer, registry: Registry) -> list[str]:
    """The pool's pods once they serve and the pool has said so."""
    await until(lambda: len(server.pods) == 2, "the pods are made")
    for name, pod in list(server.pods.items()):
        if pod["status"]["phase"] == "Pending":
            server.serve(name)
    async with asyncio.timeout(10):
        while (await registry.counts()).idle < 2:
            await asyncio.sleep(0.01)
    await until(lambda: server.condition("Ready") == ("True", "PoolReady"), "the pool is ready")
    return list(server.pods)


async def states(registry: Registry) -> dict[str, PodState]:
    return {pod.id: pod.state for pod in await registry.pods()}


async def test_pods_become_idle_once_they_are_ready(server: ApiServer, keeper: Keeper, registry: Registry) -> None:
    await until(lambda: len(server.pods) == 2, "the pods are made")
    assert set((await states(registry)).values()) == {PodState.WARMING}

    names = await full(server, registry)

    assert await states(registry) == dict.fromkeys(names, PodState.IDLE)
    assert server.condition("Confined") == ("True", "ProbePassed")


async def test_a_pod_that_starts_is_given_no_time_for_a_program_that_it_cannot_have(
    server: ApiServer, keeper: Keeper, registry: Registry
) -> None:
    await until(lambda: len(server.pods) == 2, "the pods are made")
    starting = next(iter(server.pods))
    await registry.retire(starting, "")

    await until(lambda: starting in server.graces, "it is deleted")
    ready = (await full(server, registry))[0]
    await registry.retire(ready, "")
    await until(lambda: ready in server.graces, "it is deleted")

    assert (server.graces[starting], server.graces[ready]) == (2, None)


async def test_a_pod_that_vanishes_is_forgotten_with_its_lease_and_replaced(
    server: ApiServer, keeper: Keeper, registry: Registry
) -> None:
    await full(server, registry)
    lease = await registry.acquire(execution="e", tenant="t", gateway="g", hold_seconds=60, quota=9)
    assert isinstance(lease, Lease)

    server.vanish(lease.pod)
    await until(lambda: server.created == 3, "its replacement is made")
    names = await full(server, registry)

    assert lease.pod not in names
    assert await states(registry) == dict.fromkeys(names, PodState.IDLE)


async def test_no_pod_of_a_lost_registry_is_ever_leased_again(
    server: ApiServer, keeper: Keeper, registry: Registry, redis: Redis
) -> None:
    before = await full(server, registry)

    await redis.flushall()
    await until(lambda: not set(before) & set(server.pods), "they are replaced")
    after = await full(server, registry)

    assert not set(before) & set(after)
    assert await states(registry) == dict.fromkeys(after, PodState.IDLE)


async def test_a_pod_that_the_registry_took_for_gone_is_deleted_and_replaced(
    server: ApiServer, keeper: Keeper, registry: Registry
) -> None:
    """As after a creation whose answer was lost: forgotten before it was seen, it can never be registered."""
    await until(lambda: len(server.pods) == 2, "the pods are made")
    orphan = next(iter(server.pods))
    await registry.remove(orphan)

    server.serve(orphan)
    await until(lambda: orphan not in server.pods, "it is deleted")

    assert orphan not in await full(server, registry)


async def test_a_watch_that_lags_makes_no_pod_too_many(server: ApiServer, keeper: Keeper) -> None:
    server.hidden = True
    await until(lambda: server.created == 2, "the pods are made")
    passed = keeper.passed_at
    await until(lambda: keeper.passed_at > passed + 0.2, "it has looked again and again")

    assert server.created == 2


async def test_a_quota_is_a_condition_and_one_event_and_no_storm(
    server: ApiServer, keeper: Keeper, registry: Registry
) -> None:
    server.refusal = (403, 'pods "p-1" is forbidden: exceeded quota: q')
    await until(lambda: server.condition("Ready") == ("False", "QuotaExceeded"), "it says so")
    passed = keeper.passed_at
    await until(lambda: keeper.passed_at > passed + 0.2, "it has looked again and again")

    assert [event["reason"] for event in server.events] == ["QuotaExceeded"]
    assert server.created == 0

    server.refusal = None
    await full(server, registry)


async def test_a_pod_that_has_to_go_is_dealt_with_when_the_registry_says_so(
    server: ApiServer, keeper: Keeper, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at the next look, which is too far away here."""
    await full(server, registry)
    monkeypatch.setattr(keeper_module, "TICK_SECONDS", 3600)
    await until(lambda: time.monotonic() > keeper.passed_at + 0.5, "it looks no more by itself")
    lease = await registry.acquire(execution="e", tenant="t", gateway="g", hold_seconds=60, quota=9)
    assert isinstance(lease, Lease)

    await registry.release(lease, clean=False)
    await until(lambda: lease.pod not in server.pods, "the dirty pod is deleted")


async def use(registry: Registry) -> str:
    """Leases a pod and releases it clean; its name."""
    lease = await registry.acquire(execution="e", tenant="t", gateway="g", hold_seconds=60, quota=9)
    assert isinstance(lease, Lease)
    await registry.release(lease, clean=True)
    return lease.pod


async def test_a_used_pod_of_single_use_is_replaced_at_once_and_deleted_once_it_has_ended(
    server: ApiServer, keeper: Keeper, registry: Registry
) -> None:
    keeper.update(replace(POOL, generation=2, spec={**SPEC, "recycle": {"mode": "single-use"}}))
    await full(server, registry)

    used = await use(registry)
    await until(lambda: len(server.pods) == 3, "there is one in its place")
    passed = keeper.passed_at
    await until(lambda: keeper.passed_at > passed, "it was looked at again")
    assert used in server.pods

    server.become(used, phase="Running", containerStatuses=[{"state": {"terminated": {"exitCode": 0}}}])
    await until(lambda: used not in server.pods, "it is deleted")
    assert (len(server.pods), server.graces[used]) == (2, 0)


async def test_one_that_does_not_end_is_deleted_all_the_same(
    server: ApiServer, keeper: Keeper, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observe, "END_SECONDS", 0.1)
    keeper.update(replace(POOL, generation=2, spec={**SPEC, "recycle": {"mode": "single-use"}}))
    await full(server, registry)

    used = await use(registry)

    await until(lambda: used not in server.pods, "it is deleted")
    assert server.graces[used] is None


async def test_programs_that_run_go_before_pods_that_nobody_waits_for(
    server: ApiServer, keeper: Keeper, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observe, "HOLD_SECONDS", 3600.0)
    monkeypatch.setattr(observe, "HELD_FOR", 1)
    keeper.update(replace(POOL, generation=2, spec={**SPEC, "recycle": {"mode": "single-use"}}))
    await full(server, registry)
    created = server.created
    running = await registry.acquire(execution="e1", tenant="t", gateway="g", hold_seconds=60, quota=9)
    await use(registry)
    await looked_at(keeper)
    assert server.created == created

    assert isinstance(running, Lease)
    await registry.release(running, clean=True)
    await until(lambda: server.created > created, "they are replaced once it has ended")


async def looked_at(keeper: Keeper) -> None:
    """By a look that began after this."""
    await one_more_look(keeper)
    await one_more_look(keeper)


async def one_more_look(keeper: Keeper) -> None:
    passed = keeper.passed_at
    keeper.poke()
    await until(lambda: keeper.passed_at > passed, "it was looked at")


async def test_a_template_that_has_served_is_trusted_when_its_pool_grows(
    server: ApiServer, keeper: Keeper, registry: Registry
) -> None:
    await full(server, registry)

    keeper.update(replace(POOL, generation=2, spec={**SPEC, "replicas": 2 + PER_NODE}))
    await until(lambda: len(server.pods) == 2 + PER_NODE, "all are made, though none of the new ones is ready yet")

    keeper.update(replace(POOL, generation=3, spec={**SPEC, "replicas": 24, "image": "another"}))
    passed = keeper.passed_at
    await until(lambda: keeper.passed_at > passed + 0.1, "it was looked at again")
    assert len(server.pods) <= 2 + PER_NODE + UNPROVEN


@pytest.mark.parametrize(
    ("change", "wakes"),
    [({"status": {"idle": 1}}, False), ({"generation": 2}, True), ({"deleting": True}, True), ({"uid": "v"}, True)],
)
async def test_a_pool_wakes_its_keeper_when_it_is_another_than_it_was(
    server: ApiServer, registry: Registry, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], wakes: bool
) -> None:
    """Its status is what the keeper said of it itself."""
    pokes: list[bool] = []
    async with server.running() as api:
        keeper = Keeper(api, Informer(api, "n", lambda _: None), registry, POOL)
        monkeypatch.setattr(keeper, "poke", lambda: pokes.append(True))

        keeper.update(replace(POOL, **change))

    assert bool(pokes) == wakes


async def test_one_refusal_stands_for_all_the_pods_that_would_have_followed(
    server: ApiServer, keeper: Keeper, registry: Registry
) -> None:
    await full(server, registry)
    asked = server.asked
    server.refusal = (403, 'pods "p-1" is forbidden: exceeded quota: q')

    keeper.update(replace(keeper.pool, generation=2, spec=SPEC | {"replicas": 40}))
    await until(lambda: server.asked > asked, "it has asked for one")
    passed = keeper.passed_at
    await until(lambda: keeper.passed_at > passed, "it has looked on from there")

    assert server.asked == asked + 1


async def test_an_operator_supersedes_the_one_before_it_and_ends_when_it_is_superseded(
    server: ApiServer, redis: Redis, registry: Registry
) -> None:
    """Such as one that was frozen, and does not know yet that its Lease is gone."""
    before, after = Registry(redis, "p"), Registry(redis, "p")
    await before.take_over()
    async with server.running() as api:
        informer = Informer(api, "n", lambda _: keeper.poke())
        keeper = Keeper(api, informer, Registry(redis, "p"), POOL)
        watching, keeping = asyncio.create_task(informer.run()), asyncio.create_task(keeper.run())
        names = await full(server, registry)
        with pytest.raises(Superseded):
            await before.retire(names[0], "ScaledDown")

        await after.take_over()
        server.vanish(names[0])
        with pytest.raises(ExceptionGroup) as ended:
            await keeping
        assert ended.group_contains(Superseded)
        watching.cancel()
    assert set(server.pods) == {names[1]}


async def test_a_sandbox_below_the_floor_makes_the_pool_unconfined(server: ApiServer, keeper: Keeper) -> None:
    await until(lambda: len(server.pods) == 2, "the pods are made")
    ended = {"exitCode": 3, "message": "Landlock ABI: 5, at least 6 is asked for"}
    server.become(next(iter(server.pods)), phase="Failed", containerStatuses=[{"state": {"terminated": ended}}])

    await until(lambda: server.condition("Confined") == ("False", "SandboxBelowFloor"), "it says so")
    assert server.condition("Ready") == ("False", "SandboxBelowFloor")


async def test_a_deleted_pool_leaves_no_pod_and_no_key(
    server: ApiServer, keeper: Keeper, registry: Registry, redis: Redis
) -> None:
    await full(server, registry)

    keeper.update(replace(keeper.pool, deleting=True))
    async with asyncio.timeout(10):
        await keeper.gone.wait()

    assert server.pods == {}
    assert await redis.keys("*") == []


async def test_a_leased_pod_outlives_the_deletion_of_its_pool_until_its_release(
    server: ApiServer, keeper: Keeper, registry: Registry
) -> None:
    await full(server, registry)
    lease = await registry.acquire(execution="e", tenant="t", gateway="g", hold_seconds=60, quota=9)
    assert isinstance(lease, Lease)

    keeper.update(replace(keeper.pool, deleting=True))
    await until(lambda: set(server.pods) == {lease.pod}, "the idle one is deleted")
    passed = keeper.passed_at
    await until(lambda: keeper.passed_at > passed + 0.2, "it has looked again and again")
    assert set(server.pods) == {lease.pod}

    await registry.release(lease, clean=True)
    async with asyncio.timeout(10):
        await keeper.gone.wait()
    assert server.pods == {}


async def test_requests_are_counted_by_what_they_asked_for(
    server: ApiServer, keeper: Keeper, registry: Registry
) -> None:
    taken, refused = ("POST", "pods", 201), ("POST", "pods", 403)
    before = {kind: requests(*kind) for kind in (taken, refused)}
    server.refusal = (403, 'pods "p-1" is forbidden: exceeded quota: q')
    await until(lambda: server.asked > 0, "one is refused")
    server.refusal = None
    await full(server, registry)

    assert requests(*taken) - before[taken] == server.created
    assert requests(*refused) - before[refused] == server.asked - server.created


def requests(verb: str, resource: str, code: int) -> float:
    labels = {"verb": verb, "resource": resource, "code": str(code)}
    return REGISTRY.get_sample_value("warmpool_operator_api_requests_total", labels) or 0.0


async def test_a_pool_that_is_no_more_leaves_no_series_behind(server: ApiServer, registry: Registry) -> None:
    async with server.running() as api, asyncio.TaskGroup() as group:
        informer = Informer(api, "n", lambda name: keepers.poke(name))
        keepers = Keepers(group, api, informer, lambda _: registry)
        watching = group.create_task(informer.run())
        keepers.update(POOL)
        await full(server, registry)
        assert b'pool="p"' in generate_latest()

        keepers.drop("p")
        assert b'pool="p"' not in generate_latest()
        watching.cancel()


async def test_an_operator_that_slept_over_the_loss_of_its_lease_forgets_no_pod_of_its_successor(
    server: ApiServer, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the pods over last, so the registry would hear it, and it has never seen them."""
    await registry.announce("theirs")
    await registry.register("theirs", "10.0.0.1:8888", max_executions=9, max_age_seconds=900)
    leads, late = True, Registry(registry._redis, "p")

    async def sleep_and_take_over() -> None:
        nonlocal leads
        leads = False
        await Registry.take_over(late)

    monkeypatch.setattr(late, "take_over", sleep_and_take_over)
    monkeypatch.setattr(keeper_module, "TICK_SECONDS", 0.01)
    async with server.running() as api:
        fenced = api.fenced(lambda: leads)
        informer = Informer(fenced, "n", lambda _: None)
        keeper = Keeper(fenced, informer, late, POOL)
        tasks = [asyncio.create_task(informer.run()), asyncio.create_task(keeper.run())]
        await until(lambda: not leads, "it wakes up")
        passed = keeper.passed_at
        await until(lambda: keeper.passed_at > passed + 0.1, "it has looked again and again")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    assert await states(registry) == {"theirs": PodState.IDLE}

"""Programs that want too much, in a pod: the program ends in its status, and the pod's supervisor never notices.

What each kind of hostile program meets is tested without a cluster; here it is that the pod's own limits, which take
every process of the container at once, do not come first.
"""

import asyncio
from typing import Any

import psycopg
import pytest
from harness.caller import Caller
from harness.waiting import until
from k8s.cluster import Pools, restarts
from k8s.wholeness import POOL
from kubernetes.aio import client

from warmpool.registry import Registry

MEMORY_HOG = "hoard = []\nwhile True:\n    hoard.append(b'x' * 2**20)"
MEMORY_HOGS = """
import os
for _ in range(4):
    if os.fork() == 0:
        break
hoard = []
while True:
    hoard.append(b'x' * 2**20)
"""
FORK_BOMB = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
SLEEPER = "import time\ntime.sleep(60)"


async def pod_of(registry: Registry, pods: list[client.V1Pod], before: dict[str, int]) -> client.V1Pod:
    """The one that has served more often than before."""
    (name,) = [pod.id for pod in await registry.pods() if pod.executions > before.get(pod.id, 0)]
    return next(pod for pod in pods if pod.metadata.name == name)


@pytest.mark.parametrize(
    ("code", "seconds", "statuses"),
    [
        (MEMORY_HOG, 15, {"memory_limit"}),
        (MEMORY_HOGS, 15, {"memory_limit"}),
        (FORK_BOMB, 3, {"timeout", "cpu_limit"}),
        (SLEEPER, 2, {"timeout"}),
    ],
    ids=["memory hog", "several memory hogs", "fork bomb", "past its deadline"],
)
async def test_a_program_that_wants_too_much_ends_in_its_status_and_its_pod_lives(
    caller: Caller,
    pools: Pools,
    registry: Registry,
    postgres: psycopg.AsyncConnection[Any],
    code: str,
    seconds: float,
    statuses: set[str],
):
    pods = await pools.pods(POOL)
    before = {pod.id: pod.executions for pod in await registry.pods()}
    ran = await caller.run(code, seconds=seconds)
    assert ran["status"] in statuses, ran
    served = await pod_of(registry, pods, before)
    if await is_clean(postgres, ran["id"]):  # the very pod serves on: it was used last, so it is next
        again = await caller.run("return 6 * 7")
        assert (again["status"], again["result"]) == ("ok", 42), again
        turns = {pod.id: pod.executions for pod in await registry.pods()}
        assert turns[served.metadata.name] == before[served.metadata.name] + 2
        assert served.metadata.uid in {pod.metadata.uid for pod in await pools.pods(POOL)}
        assert restarts(await pools.pods(POOL)) == 0
    else:
        await until(lambda: is_gone(pools, served), 30, "the dirty pod is replaced")


async def is_gone(pools: Pools, pod: client.V1Pod) -> bool:
    return pod.metadata.uid not in {there.metadata.uid for there in await pools.pods(POOL)}


async def is_clean(postgres: psycopg.AsyncConnection[Any], id: str) -> bool:
    """The supervisor's verdict, as it was recorded."""

    async def row() -> Any:
        return await (await postgres.execute("SELECT clean FROM executions WHERE id = %s", [id])).fetchone()

    (clean,) = await until(row, 5, "the record")
    return clean is True


async def test_hostile_programs_in_every_pod_at_once_leave_the_pool_as_it_was(
    caller: Caller, pools: Pools, registry: Registry
):
    """Each pod has a user of its own, so that one's processes are not taken from another's."""
    ran = await asyncio.gather(*(caller.run(code, seconds=4) for code in (FORK_BOMB, FORK_BOMB, MEMORY_HOG)))
    assert {execution["status"] for execution in ran} <= {"timeout", "cpu_limit", "memory_limit"}, ran
    pods = await pools.pods(POOL)
    assert restarts(pods) == 0
    assert {pod.status.phase for pod in pods} <= {"Running", "Pending"}

"""Whether a stack is as it was when it had just started: nothing leased, nothing lost, nothing left behind."""

import asyncio
from typing import Final

import psutil
from harness.caller import Caller
from harness.running import RunningStack
from harness.waiting import until
from redis.asyncio import Redis

from warmpool.errors import RetryLater
from warmpool.registry import Counts, Registry

WHOLE_SECONDS: Final = 20.0
"""For pods to be replaced, two at a time, beside whatever else the machine does."""


async def assert_whole(running: RunningStack, registry: Registry, redis: Redis, caller: Caller) -> None:
    """Every pod is idle, runs a program, and is idle again; no lease, process or tenant's count is left over."""
    await _until_idle(running, registry)
    # At once, and long enough that each pod gets one.
    asked = [caller.run(f"import time\ntime.sleep(0.5)\nreturn {number} + 1") for number in range(running.pods)]
    for number, ran in enumerate(await asyncio.gather(*asked)):
        assert (ran["status"], ran["result"]) == ("ok", number + 1), ran
    await _until_idle(running, registry)
    assert [pod.lease for pod in await registry.pods()] == [None] * running.pods
    assert await redis.hgetall(f"warmpool:{{{registry.pool}}}:tenants") == {}
    assert {pod.id for pod in await registry.pods()} == {pod.id for pod in running.parts.pool.pods}
    for pod in running.parts.pool.pods:
        assert len(programs(pod.pid)) == 0, f"{pod.id} has {programs(pod.pid)}"


async def _until_idle(running: RunningStack, registry: Registry) -> None:
    expected = Counts(warming=0, idle=running.pods, leased=0, retiring=0)

    async def as_at_first() -> bool:
        try:
            return await registry.counts() == expected and len(running.parts.pool.pods) == running.pods
        except RetryLater:
            return False

    await until(as_at_first, WHOLE_SECONDS, f"{expected}")


def is_running(running: RunningStack) -> bool:
    """Whether a program runs in any pod."""
    return any(programs(pod.pid) for pod in running.parts.pool.pods)


def zygote(supervisor: int) -> psutil.Process | None:
    """The one child that a supervisor has."""
    try:
        children = psutil.Process(supervisor).children()
    except psutil.NoSuchProcess:
        return None
    return children[0] if children else None


def programs(supervisor: int) -> list[psutil.Process]:
    """What descends from a supervisor's zygote: the processes of a program."""
    parent = zygote(supervisor)
    try:
        return [] if parent is None else parent.children(recursive=True)
    except psutil.NoSuchProcess:
        return []

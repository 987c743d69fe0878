"""The queue over a real registry in a real Redis."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from warmpool.errors import PoolExhausted, QuotaExceeded, Unavailable
from warmpool.registry import Lease, PodState, Registry, Released
from warmpool.settings import QueueSettings
from warmpool_gateway import queue as queue_module
from warmpool_gateway.queue import Ask, PoolQueue
from warmpool_gateway.redis_link import PipelinedRedis


class House:
    """A registry with pods, and gateways' queues over it."""

    def __init__(self, redis: PipelinedRedis) -> None:
        self.registry = Registry(redis, "default")
        self.queues: list[PoolQueue] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def pods(self, *ids: str, max_executions: int = 1000, per_tenant: bool = False) -> None:
        for id in ids:
            await self.registry.register(
                id, f"127.0.0.1:{len(id)}", max_executions=max_executions, max_age_seconds=3600, per_tenant=per_tenant
            )

    async def gateway(self, **settings: Any) -> PoolQueue:
        made = PoolQueue(self.registry, QueueSettings(**settings), gateway=f"g{len(self.queues)}")
        self.queues.append(made)
        await made.look()
        self._tasks.append(asyncio.create_task(made.run()))
        return made

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for queue in self.queues:
            await queue.aclose()


@pytest.fixture
async def house(redis, redis_url) -> AsyncIterator[House]:
    client = PipelinedRedis.connect(redis_url, timeout_seconds=2.0)
    made = House(client)
    yield made
    await made.end()
    await client.aclose()


def acquire(queue: PoolQueue, execution="e", tenant="acme", *, seconds=10.0, gone=None) -> asyncio.Task[Lease | None]:
    ask = Ask(execution=execution, tenant=tenant, hold_seconds=30.0, deadline=queue.clock() + seconds)
    gone = gone or asyncio.get_running_loop().create_future()
    return asyncio.create_task(queue.acquire(ask, gone))


async def until_waiting(queue: PoolQueue, number: int) -> None:
    async with asyncio.timeout(5):
        while queue.waiting != number or queue._in_flight:
            await asyncio.sleep(0)


async def until_idle(registry: Registry, number: int) -> None:
    async with asyncio.timeout(5):
        while (await registry.counts()).idle != number:
            await asyncio.sleep(0)


async def test_an_idle_pod_is_leased_at_once(house):
    await house.pods("a")
    queue = await house.gateway()
    lease = await acquire(queue, "exe_1")
    assert (lease.pod, lease.execution, lease.gateway) == ("a", "exe_1", "g0")


async def test_a_released_pod_goes_to_whoever_waits(house):
    await house.pods("a")
    queue = await house.gateway(tick_seconds=60)
    first = await acquire(queue)
    second = acquire(queue, "exe_2")
    await until_waiting(queue, 1)
    assert await queue.release(first, clean=True) is Released.IDLE
    assert (await asyncio.wait_for(second, 5)).pod == "a"


async def test_an_acquire_that_overtakes_the_release_loses_nothing(house, redis):
    await house.pods("a")
    queue = await house.gateway(tick_seconds=60)
    first = await acquire(queue)
    second = acquire(queue, "exe_2")
    await until_waiting(queue, 1)
    known = dict(house.registry._scripts._scripts)
    known["release"].sha = "0" * 40  # Redis does not know it: it is loaded first, and the acquire goes ahead
    await queue.release(first, clean=True)
    assert (await asyncio.wait_for(second, 5)).execution == "exe_2"


async def test_a_pod_that_another_gateway_releases_wakes_this_one(house):
    await house.pods("a")
    one, other = await house.gateway(tick_seconds=60), await house.gateway(tick_seconds=60)
    lease = await acquire(one)
    waiting = acquire(other, "exe_2")
    await until_waiting(other, 1)
    await one.release(lease, clean=True)
    assert (await asyncio.wait_for(waiting, 5)).execution == "exe_2"


async def test_a_new_pod_wakes_whoever_waits(house):
    queue = await house.gateway(tick_seconds=60)
    waiting = acquire(queue)
    await until_waiting(queue, 1)
    await house.pods("a")
    assert (await asyncio.wait_for(waiting, 5)).pod == "a"


async def test_the_tick_finds_a_pod_whose_push_was_lost(house, redis):
    queue = await house.gateway(tick_seconds=0.02)
    waiting = acquire(queue)
    await until_waiting(queue, 1)
    queue._belief.pushed = lambda now: False  # deaf
    await house.pods("a")
    assert (await asyncio.wait_for(waiting, 5)).pod == "a"


async def test_a_thousand_callers_share_a_few_pods_and_redis_is_not_asked_in_vain(house, redis):
    await house.pods(*"abcd")
    queue = await house.gateway(tick_seconds=60)
    await redis.config_resetstat()

    async def use(number: int) -> None:
        lease = await acquire(queue, f"exe_{number}", f"tenant-{number % 3}", seconds=30)
        await queue.release(lease, clean=True)

    await asyncio.gather(*(use(number) for number in range(1000)))
    calls = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert 2000 <= calls < 2100
    await until_idle(house.registry, 4)


async def test_two_gateways_under_load_lose_no_wakeup(house):
    await house.pods(*"abc")
    queues = [await house.gateway(tick_seconds=60) for _ in range(2)]

    async def use(number: int) -> None:
        queue = queues[number % 2]
        await queue.release(await acquire(queue, f"exe_{number}", seconds=30), clean=True)

    await asyncio.wait_for(asyncio.gather(*(use(number) for number in range(300))), 20)
    await until_idle(house.registry, 3)


async def test_tenants_take_turns_whoever_came_first(house):
    await house.pods("a")
    queue = await house.gateway(tick_seconds=60)
    lease = await acquire(queue)
    order: list[str] = []

    async def use(tenant: str) -> None:
        lease = await acquire(queue, tenant=tenant)
        order.append(tenant)
        await queue.release(lease, clean=True)

    tasks = [asyncio.create_task(use(tenant)) for tenant in ["big"] * 6 + ["small"] * 2]
    await until_waiting(queue, 8)
    await queue.release(lease, clean=True)
    await asyncio.gather(*tasks)
    assert sorted(order) == ["big"] * 6 + ["small"] * 2
    # By turns; one that asked in vain, as it may, comes right behind the next.
    assert order[:5].count("small") == 2, order


async def test_a_wait_ends_at_its_deadline(house):
    queue = await house.gateway()
    with pytest.raises(PoolExhausted) as caught:
        await acquire(queue, seconds=0.05)
    assert caught.value.retry_after >= 1.0
    assert queue.waiting == 0


async def test_a_full_queue_refuses_at_once(house):
    queue = await house.gateway(max_waiting=2)
    waiting = [acquire(queue), acquire(queue)]
    await until_waiting(queue, 2)
    with pytest.raises(PoolExhausted, match="full") as caught:
        await acquire(queue)
    assert caught.value.fields == {"waiting": 2}
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_wait_that_cannot_end_in_time_is_refused_at_once(house):
    now = 0.0
    queue = PoolQueue(house.registry, QueueSettings(), gateway="g", clock=lambda: now)
    house.queues.append(queue)
    waiting = [acquire(queue, seconds=1000) for _ in range(20)]
    await until_waiting(queue, 20)
    now = 100.0
    with pytest.raises(PoolExhausted) as caught:
        await acquire(queue, seconds=10)
    assert caught.value.retry_after > 10
    assert caught.value.fields["expected_wait_seconds"] > 10
    another = acquire(queue, "exe_2", "another", seconds=10)  # whose turn comes second
    await until_waiting(queue, 21)
    for task in [*waiting, another]:
        task.cancel()
    await asyncio.gather(*waiting, another, return_exceptions=True)


async def test_the_registrys_quota_is_the_tenants_and_leaves_the_pod_to_others(house):
    await house.pods("a", "b")
    queue = await house.gateway(tenant_quota=1, tick_seconds=60)
    first = await acquire(queue)
    with pytest.raises(QuotaExceeded):
        await acquire(queue)
    assert {first.pod, (await acquire(queue, tenant="other")).pod} == {"a", "b"}


async def test_a_caller_that_goes_away_leaves_the_line(house):
    queue = await house.gateway(tick_seconds=60)
    gone = asyncio.get_running_loop().create_future()
    waiting = acquire(queue, gone=gone)
    await until_waiting(queue, 1)
    gone.set_result(None)
    assert await waiting is None
    assert queue.waiting == 0


@pytest.mark.parametrize("turns", range(12))
@pytest.mark.parametrize("how", ["cancelled", "gone"])
async def test_no_lease_is_lost_and_no_pod_used_up_whenever_the_caller_leaves(house, how, turns):
    await house.pods("a", max_executions=1)
    queue = await house.gateway(tick_seconds=60)
    gone = asyncio.get_running_loop().create_future()
    task = acquire(queue, gone=gone)
    for _ in range(turns):
        await asyncio.sleep(0)
    lease = None
    if how == "gone":
        if not gone.done():
            gone.set_result(None)
        lease = await task
    else:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            lease = await task
    if lease is not None:
        await queue.release(lease, clean=True, used=False)
    while queue._tasks:
        await asyncio.gather(*queue._tasks)
    pod = (await house.registry.pods())[0]
    assert (pod.state, pod.reason) == (PodState.IDLE, None)


async def test_the_lease_of_a_caller_cancelled_in_the_very_moment_goes_to_the_next(house):
    await house.pods("a")
    queue = await house.gateway(tick_seconds=60)
    ask = Ask(execution="exe_1", tenant="acme", hold_seconds=30, deadline=queue.clock() + 10)
    task = asyncio.create_task(queue.acquire(ask, asyncio.get_running_loop().create_future()))
    await asyncio.sleep(0)
    queue._serve = lambda: task.cancel() and vars(queue).pop("_serve")  # called right after the lease was handed over
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await asyncio.wait_for(acquire(queue, "exe_2"), 5)).execution == "exe_2"


async def test_callers_wait_through_a_restart_of_redis(house, redis_server):
    queue = await house.gateway(tick_seconds=0.02)
    waiting = acquire(queue)
    await until_waiting(queue, 1)
    redis_server.restart()
    await house.pods("a")  # as whoever owns the pods does when it finds the registry empty
    assert (await asyncio.wait_for(waiting, 5)).pod == "a"


async def test_a_redis_that_stays_away_is_told_to_everyone(house, redis_server, monkeypatch):
    monkeypatch.setattr(queue_module, "AWAY_SECONDS", 0.05)
    queue = await house.gateway(tick_seconds=0.02)
    waiting = acquire(queue)
    await until_waiting(queue, 1)
    redis_server.stop()
    try:
        with pytest.raises(Unavailable):
            await asyncio.wait_for(waiting, 5)
        with pytest.raises(Unavailable):
            await acquire(queue)
    finally:
        redis_server.start()


async def test_closing_turns_everyone_away(house):
    queue = await house.gateway()
    waiting = acquire(queue)
    await until_waiting(queue, 1)
    await queue.aclose()
    with pytest.raises(Unavailable, match="shutting down"):
        await waiting


# -- pods of one tenant each


async def serve(queue: PoolQueue, tenant: str) -> str:
    lease = await acquire(queue, tenant=tenant)
    assert lease is not None
    await queue.release(lease, clean=True)
    return lease.pod


async def test_a_caller_whose_tenant_has_no_pod_holds_up_nobody_who_has(house):
    await house.pods("a", per_tenant=True)
    queue = await house.gateway(tick_seconds=60)
    assert await serve(queue, "acme") == "a"
    first = acquire(queue, tenant="globex")
    await until_waiting(queue, 1)

    assert [await serve(queue, "acme") for _ in range(3)] == ["a", "a", "a"]
    assert not first.done()
    await house.pods("b", per_tenant=True)
    lease = await first
    assert lease is not None
    assert lease.pod == "b"


async def test_many_callers_of_one_tenant_share_its_pod_though_another_waits_before_them(house):
    await house.pods("a", per_tenant=True)
    queue = await house.gateway(tick_seconds=60)
    assert await serve(queue, "acme") == "a"
    other = acquire(queue, tenant="globex")
    await until_waiting(queue, 1)
    async with asyncio.timeout(5):
        assert await asyncio.gather(*(serve(queue, "acme") for _ in range(20))) == ["a"] * 20
    other.cancel()


# -- what the operator is told


async def test_the_operator_learns_at_once_of_callers_that_wait(house):
    queue = await house.gateway(tick_seconds=60)
    async with house.registry.changes() as changes, asyncio.timeout(5):
        waiting = acquire(queue)
        await anext(changes)
    (demand,) = (await house.registry.demands(60)).values()
    assert (demand.arrivals, demand.waiting) == (1, 1)
    await house.pods("a")
    lease = await waiting
    await queue.release(lease, clean=True)
    async with asyncio.timeout(5):
        while (demand := next(iter((await house.registry.demands(60)).values()))).releases == 0:
            await asyncio.sleep(0.01)
    assert (demand.arrivals, demand.waiting) == (1, 0)
    assert 0 < demand.held_seconds < 5


async def test_a_gateway_without_callers_reports_nothing(house, redis):
    queue = await house.gateway()
    await queue._demand.report()
    assert await house.registry.demands(60) == {}

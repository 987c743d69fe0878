"""What `make chaos` sees in Redis: the registry's own work, on a real one, by its MONITOR."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from harness.waiting import until
from redis.asyncio import Redis

sys.path.append(str(Path(__file__).parent / "e2e"))

from chaos.evidence import Evidence
from chaos.judge import judge
from chaos.watch import Watch

from warmpool.local.embedded import RedisServer, service_folder
from warmpool.registry import Lease, PodState, Registry, connect

POD = "default-aaaaaaaa"


@pytest.fixture
async def own_redis() -> AsyncIterator[tuple[RedisServer, Redis]]:
    with service_folder() as folder:
        server = RedisServer(folder)
        server.start()
        client = connect(server.address)
        yield server, client
        await client.aclose()
        server.stop()


@asynccontextmanager
async def watching(redis: Redis) -> AsyncIterator[Watch]:
    watch = Watch(redis, "default")
    task = asyncio.create_task(watch.run())
    await watch.attached.wait()
    yield watch
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def served(redis: Redis) -> Registry:
    """A registry whose one pod is idle."""
    registry = Registry(redis, "default")
    await registry.take_over()
    await registry.announce(POD)
    await registry.register(POD, "10.0.0.1:8888", max_executions=7, max_age_seconds=60, per_tenant=True)
    return registry


async def leased(registry: Registry, execution: str) -> Lease:
    lease = await registry.acquire(execution=execution, tenant="one", gateway="g", hold_seconds=20, quota=9)
    assert isinstance(lease, Lease)
    return lease


async def test_a_pods_life_and_its_lease_are_seen_as_the_registry_made_them(redis: Redis):
    async with watching(redis) as watch:
        registry = await served(redis)
        lease = await leased(registry, "exe_1")
        await registry.release(lease, clean=False)
        await registry.remove(POD)
        await until(lambda: len(watch.seen.moves) == 5, 5, "all moves are seen")
    seen = watch.seen
    states = [PodState.WARMING, PodState.IDLE, PodState.LEASED, PodState.RETIRING, PodState.GONE]
    assert [move.state for move in seen.moves] == states
    (found,) = seen.leases
    assert (found.pod, found.execution, found.fence) == (POD, "exe_1", lease.fence)
    assert (seen.most_executions, seen.per_tenant, seen.reasons) == ({POD: 7}, {POD}, {POD: "Dirty"})
    assert judge(Evidence(seen=seen, most_pods=1)) == []


async def test_a_pod_that_somebody_makes_idle_while_it_is_leased_is_seen_to_be_leased_twice(redis: Redis):
    async with watching(redis) as watch:
        registry = await served(redis)
        await leased(registry, "exe_1")
        await redis.zadd("warmpool:{default}:idle", {POD: 0})  # as a script would, that forgot to look
        await leased(registry, "exe_2")
        await until(lambda: len(watch.seen.leases) == 2, 5, "both leases are seen")
    (wrong,) = judge(Evidence(seen=watch.seen, most_pods=1))
    assert "leased by exe_1" in wrong
    assert "leased by exe_2" in wrong


async def test_a_tool_call_is_seen_by_its_execution(redis: Redis):
    async with watching(redis) as watch:
        await redis.hincrby("warmpool:budget:{some-tenant:exe_1}", "calls", 1)
        await until(lambda: watch.seen.tool_calls == {"exe_1": 1}, 5, "the call is seen")


async def test_a_flush_begins_a_new_life_and_nothing_is_missed(redis: Redis):
    async with watching(redis) as watch:
        await served(redis)
        await redis.flushall()
        await served(redis)
        await until(lambda: len(watch.seen.moves) == 4, 5, "all moves are seen")
    assert [move.life for move in watch.seen.moves] == [0, 0, 1, 1]
    assert watch.seen.watch == 1


async def test_a_redis_that_comes_back_empty_has_lost_all_and_the_witness_goes_on(own_redis: tuple[RedisServer, Redis]):
    server, redis = own_redis
    async with watching(redis) as watch:
        await served(redis)
        await until(lambda: len(watch.seen.moves) == 2, 5, "all moves are seen")
        server.kill()
        server.start()
        await until(lambda: watch.seen.watch == 2, 10, "the witness is back")
        await served(redis)
        await until(lambda: len(watch.seen.moves) == 4, 5, "all moves are seen")
    assert [move.life for move in watch.seen.moves] == [0, 0, 1, 1]
    assert len(watch.seen.away) == 2


async def test_connections_that_are_cut_lose_nothing_but_what_happens_meanwhile(redis: Redis):
    async with watching(redis) as watch:
        registry = await served(redis)
        await until(lambda: len(watch.seen.moves) == 2, 5, "all moves are seen")
        await redis.client_kill_filter(_type="normal", skipme=True)
        await until(lambda: watch.seen.watch == 2, 10, "the witness is back")
        await leased(registry, "exe_1")
        await until(lambda: watch.seen.leases, 5, "the lease is seen")
    assert watch.seen.life == 0
    assert watch.seen.losses == []


async def test_a_connection_that_has_gone_silent_is_given_up_for_another(redis: Redis, monkeypatch: pytest.MonkeyPatch):
    """As one is whose other end went without a word."""
    monkeypatch.setattr("chaos.watch.SILENCE_SECONDS", 0.05)
    async with watching(redis) as watch:
        await until(lambda: watch.seen.watch >= 2, 5, "the witness has connected again")

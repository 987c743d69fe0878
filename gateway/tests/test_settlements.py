"""How executions end in Redis, with Redis away for a moment and for good."""

import asyncio
from typing import Any

import pytest

from warmpool.records import STREAM
from warmpool.registry import PodState, Registry
from warmpool.settings import QueueSettings
from warmpool_gateway import settlements as module
from warmpool_gateway.ids import created_at, new_id
from warmpool_gateway.queue import Ask, PoolQueue
from warmpool_gateway.responses import ExecutionRecord
from warmpool_gateway.settlements import Settlements


class Desk:
    """One leased pod, and what is needed to end its lease."""

    def __init__(self, link: Any) -> None:
        self.registry = Registry(link, "default")
        self.queue = PoolQueue(self.registry, QueueSettings(), gateway="g")
        self.settlements = Settlements(self.queue, link)

    async def lease(self) -> Any:
        await self.registry.register("pod-1", "127.0.0.1:1", max_executions=10, max_age_seconds=60)
        await self.queue.look()
        ask = Ask(execution="exe_1", tenant="acme", hold_seconds=30, deadline=self.queue.clock() + 5)
        return await self.queue.acquire(ask, asyncio.get_running_loop().create_future())


@pytest.fixture
def desk(link) -> Desk:
    return Desk(link)


def record(stdout: str = "x") -> ExecutionRecord:
    id = new_id()
    texts = dict.fromkeys(("tenant", "key_id", "pool", "code", "code_sha256", "status", "stderr"), "x")
    nothing = dict.fromkeys(("pod", "fence", "result", "error", "clean"))
    return ExecutionRecord(
        id=id,
        created_at=created_at(id),
        queue_seconds=0,
        truncated=[],
        limits={},
        usage={},
        residue=[],
        stdout=stdout,
        **texts,
        **nothing,
    )


async def state(desk) -> PodState:
    return (await desk.registry.pods())[0].state


@pytest.mark.parametrize(("clean", "expected"), [(True, PodState.IDLE), (False, PodState.RETIRING)])
async def test_lease_and_record_are_settled_together(desk, redis, clean, expected):
    await desk.settlements.settle(await desk.lease(), clean=clean, record=record())
    assert await state(desk) is expected
    assert await redis.xlen(STREAM) == 1


async def test_a_record_without_a_lease_is_written(desk, redis):
    await desk.settlements.settle(None, clean=True, record=record())
    assert await redis.xlen(STREAM) == 1


async def test_with_redis_away_the_caller_does_not_wait_and_the_record_follows(desk, redis_server, link):
    lease = await desk.lease()
    redis_server.stop()
    try:
        await asyncio.wait_for(desk.settlements.settle(lease, clean=True, record=record()), 1)
    finally:
        redis_server.start()
    await desk.settlements.aclose(10)
    assert await link.xlen(STREAM) == 1


async def test_a_record_that_redis_never_takes_is_named_in_the_log_without_its_texts(desk, redis_server, caplog):
    await desk.lease()
    lost = record(stdout="a tenant's secret")
    redis_server.stop()
    try:
        await desk.settlements.settle(None, clean=True, record=lost)
        await desk.settlements.aclose(0.01)
    finally:
        redis_server.start()
    assert lost.id in caplog.text
    assert "secret" not in caplog.text


async def test_too_many_late_settlements_refuse_new_executions(desk, redis_server, monkeypatch):
    monkeypatch.setattr(module, "MAX_LATE", 2)
    await desk.lease()
    redis_server.stop()
    try:
        for _ in range(2):
            assert not desk.settlements.overloaded
            await desk.settlements.settle(None, clean=True, record=record())
        assert desk.settlements.overloaded
    finally:
        redis_server.start()
    await desk.settlements.aclose(10)
    assert not desk.settlements.overloaded


async def test_late_records_are_bounded_by_their_bytes_and_none_is_dropped(desk, link, monkeypatch):
    monkeypatch.setattr(module, "MAX_LATE_BYTES", 400_000)
    lease = await desk.lease()
    await link.config_set("maxmemory", 1)  # Redis is full: it takes a lease back, and no record
    try:
        await desk.settlements.settle(lease, clean=False, record=record("x" * 300_000))
        assert not desk.settlements.overloaded
        await desk.settlements.settle(None, clean=True, record=record("x" * 300_000))
        assert desk.settlements.overloaded
    finally:
        await link.config_set("maxmemory", 0)
    await desk.settlements.aclose(10)
    assert not desk.settlements.overloaded
    assert await link.xlen(STREAM) == 2

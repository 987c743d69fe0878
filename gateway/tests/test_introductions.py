"""A gateway knows the pods that it will lease next."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from warmpool.registry import Lease, Registry
from warmpool_gateway.introductions import AHEAD, Introductions
from warmpool_gateway.pods import PodConnections

KEY = b"k" * 32


class Pool:
    """A pool, and one gateway's introductions to its pods."""

    def __init__(self, redis: Any) -> None:
        self.registry = Registry(redis, "default")
        self.connections = PodConnections(key=KEY, pool="default")
        self.introductions = Introductions(self.registry, self.connections)

    async def add(self, pod: str, address: str) -> None:
        await self.registry.register(pod, address, max_executions=1000, max_age_seconds=1e6)


@pytest.fixture
async def pool(link) -> AsyncIterator[Pool]:
    made = Pool(link)
    yield made
    await made.connections.aclose()


async def test_an_idle_pod_is_known_before_it_is_leased_and_met_once(pool, supervisor):
    await pool.add("pod-1", supervisor.address)
    await pool.introductions.look()
    await pool.introductions.look()
    assert (supervisor.connections, len(pool.connections)) == (1, 1)
    assert pool.connections.knows("pod-1", supervisor.address)


async def test_a_leased_pod_is_not_met(pool, supervisor):
    await pool.add("pod-1", supervisor.address)
    lease = await pool.registry.acquire(execution="e", tenant="t", gateway="g", hold_seconds=30, quota=10)
    assert isinstance(lease, Lease)
    await pool.introductions.look()
    assert supervisor.connections == 0


async def test_a_pod_that_lost_its_stream_is_met_again(pool, supervisor):
    await pool.add("pod-1", supervisor.address)
    await pool.introductions.look()
    pool.connections.drop("pod-1")
    await pool.introductions.look()
    assert (supervisor.connections, len(pool.connections)) == (2, 1)


async def test_a_pod_that_gives_no_answer_is_asked_once_as_long_as_it_stays(pool):
    asked = 0

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        await pool.add("pod-1", f"{host}:{port}")
        await pool.introductions.look()
        await pool.introductions.look()
        assert (asked, len(pool.connections)) == (1, 0)
        await pool.registry.remove("pod-1")
        await pool.introductions.look()
        await pool.add("pod-2", f"{host}:{port}")
        await pool.introductions.look()
        assert asked == 2


async def test_of_a_large_pool_those_that_come_next_are_met(pool, supervisor):
    await pool.add("pod-1", supervisor.address)
    for number in range(AHEAD):
        await pool.add(f"idle-{number}", "127.0.0.1:1")
    await pool.introductions.look()
    assert supervisor.connections == 0
    await pool.registry.acquire(execution="e", tenant="t", gateway="g", hold_seconds=30, quota=10)
    await pool.introductions.look()
    assert supervisor.connections == 1

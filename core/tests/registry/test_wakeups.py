"""Waiting callers are woken by a push, and no loss of Redis lets one sleep on."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager

import pytest

from warmpool.registry import Registry, connect, wakeups

SECONDS = 10
"""Long enough for any push; only a failing test waits it out."""


async def item(waiting):
    async with asyncio.timeout(SECONDS):
        await anext(waiting)


async def silent(pool, waiting):
    """Whether nothing was pushed: a mark pushed by hand is then the next item, and the only one."""
    await pool.redis.publish("warmpool:{main}:wakeups", "mark")
    await item(waiting)
    for _ in range(5):
        try:
            async with asyncio.timeout(0.01):
                await anext(waiting)
        except TimeoutError:
            continue
        return False
    return True


async def test_registering_wakes_a_waiter(pool):
    async with pool.registry.wakeups() as waiting:
        waiter = asyncio.create_task(item(waiting))
        await pool.add("p1")
        await waiter


async def test_a_clean_release_wakes_a_waiter_in_another_gateway(pool, redis):
    await pool.add("p1")
    lease = await pool.lease()
    async with Registry(redis, "main").wakeups() as waiting:
        waiter = asyncio.create_task(item(waiting))
        await pool.registry.release(lease, clean=True)
        await waiter


async def test_what_makes_no_pod_idle_wakes_nobody(pool):
    await pool.add("p1", "p2", "p3")
    dirty, removed = await pool.lease(), await pool.lease()
    async with pool.registry.wakeups() as waiting:
        await pool.registry.announce("p4")
        await pool.registry.heartbeat(["p1", "p2", "p3"])
        await pool.registry.release(dirty, clean=False)
        await pool.registry.remove(removed.pod)
        await pool.registry.retire("p3", "ScaledDown")
        pool.clock.advance(60)
        await pool.registry.reap()
        assert await silent(pool, waiting)


async def test_a_pod_that_became_idle_before_the_first_item_was_asked_for_is_not_missed(pool):
    async with pool.registry.wakeups() as waiting:
        await pool.add("p1", "p2")
        await item(waiting)
        await item(waiting)


async def test_a_waiter_that_gave_up_can_wait_again(pool):
    async with pool.registry.wakeups() as waiting:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.005):
                    await anext(waiting)
        await pool.add("p1")
        await item(waiting)


async def test_every_waiter_hears_of_every_pod(pool):
    async with pool.registry.wakeups() as first, pool.registry.wakeups() as second:
        await pool.add("p1")
        await asyncio.gather(item(first), item(second))


async def test_a_restart_of_redis_gives_an_item_and_the_pushes_go_on(pool, redis_server):
    async with pool.registry.wakeups() as waiting:
        redis_server.restart()
        await item(waiting)
        await pool.add("p1")
        await item(waiting)


async def test_a_crash_of_redis_while_waiting_gives_an_item_once_it_is_back(pool, redis_server):
    async with pool.registry.wakeups() as waiting:
        waiter = asyncio.create_task(item(waiting))
        await asyncio.sleep(0)
        async with stopped(redis_server):
            assert not waiter.done()
        await waiter


async def test_a_subscription_may_begin_while_redis_is_away(pool, redis_server):
    redis_server.stop()
    try:
        async with pool.registry.wakeups() as waiting:
            waiter = asyncio.create_task(item(waiting))
            await asyncio.sleep(0)
            redis_server.start()
            await waiter
    finally:
        redis_server.start()


async def test_a_redis_that_hangs_is_found_out_though_the_connection_holds(pool, redis_server, monkeypatch):
    monkeypatch.setattr(wakeups, "QUIET_SECONDS", 0.02)
    monkeypatch.setattr(wakeups, "ANSWER_SECONDS", 0.05)
    async with pool.registry.wakeups() as waiting:
        before = waiting._pubsub
        waiter = asyncio.create_task(item(waiting))
        os.kill(redis_server.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(SECONDS):
                while waiting._pubsub is before:
                    await asyncio.sleep(0.005)
        finally:
            os.kill(redis_server.pid, signal.SIGCONT)
        await waiter


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_quiet_redis_that_answers_is_believed(redis, redis_url, monkeypatch, protocol):
    monkeypatch.setattr(wakeups, "QUIET_SECONDS", 0.005)
    client = connect(f"{redis_url}&protocol={protocol}")
    async with Registry(client, "main").wakeups() as waiting:
        before = waiting._pubsub
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await anext(waiting)
        assert waiting._pubsub is before
        await redis.publish("warmpool:{main}:wakeups", "p1")
        await item(waiting)
    await client.aclose()


async def test_leaving_gives_the_connection_back(pool):
    for _ in range(3):
        async with pool.registry.wakeups():
            assert (await pool.redis.pubsub_numsub("warmpool:{main}:wakeups"))[0][1] == 1
    async with asyncio.timeout(SECONDS):
        while (await pool.redis.pubsub_numsub("warmpool:{main}:wakeups"))[0][1]:
            await asyncio.sleep(0)


@asynccontextmanager
async def stopped(server):
    server.kill()
    try:
        yield
    finally:
        server.start()

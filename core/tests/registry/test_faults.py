"""Redis lost, emptied, restarted or away: nothing is run twice and every caller gets a typed answer."""

import asyncio
import os
import signal

import pytest

from warmpool.errors import Unavailable
from warmpool.registry import Counts, NoPod, PodState, Registry, Released, connect

CALLS = {
    "announce": lambda registry, lease: registry.announce("p9"),
    "register": lambda registry, lease: registry.register("p9", "a", max_executions=1, max_age_seconds=1),
    "heartbeat": lambda registry, lease: registry.heartbeat(["p1"]),
    "acquire": lambda registry, lease: registry.acquire(
        execution="e", tenant="t", gateway="g", hold_seconds=1, quota=1
    ),
    "renew": lambda registry, lease: registry.renew(lease, 30),
    "release": lambda registry, lease: registry.release(lease, clean=True),
    "retire": lambda registry, lease: registry.retire("p1", "ScaledDown"),
    "remove": lambda registry, lease: registry.remove("p1"),
    "reap": lambda registry, lease: registry.reap(),
    "retiring": lambda registry, lease: registry.retiring(),
    "pods": lambda registry, lease: registry.pods(),
    "unseen": lambda registry, lease: registry.unseen(1),
    "next_up": lambda registry, lease: registry.next_up(1),
    "counts": lambda registry, lease: registry.counts(),
}


async def test_every_call_says_unavailable_while_redis_is_away_and_works_once_it_is_back(pool, redis_server):
    await pool.add("p1")
    lease = await pool.lease()
    redis_server.stop()
    try:
        for call in CALLS.values():
            with pytest.raises(Unavailable) as away:
                await call(pool.registry, lease)
            assert (away.value.message, away.value.retry_after) == ("The pool's registry is away.", 1)
            assert away.value.__cause__ is not None
    finally:
        redis_server.start()
    await until_available(pool.registry)
    for call in CALLS.values():
        await call(pool.registry, lease)


async def test_a_redis_that_hangs_is_unavailable_after_the_timeout(redis_url, redis_server):
    hasty = connect(redis_url, timeout_seconds=0.05)
    registry = Registry(hasty, "main")
    os.kill(redis_server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable):
            await registry.counts()
    finally:
        os.kill(redis_server.pid, signal.SIGCONT)
    await hasty.aclose()


async def test_a_connection_that_redis_closed_fails_no_later_call(redis, redis_relay):
    client = connect(redis_relay.url)
    registry = Registry(client, "main")
    await registry.counts()
    await redis.client_kill_filter(_type="normal", skipme=True)
    await redis_relay.until_cut()
    assert await registry.counts() == Counts(warming=0, idle=0, leased=0, retiring=0)
    await client.aclose()


async def test_a_cancellation_at_any_moment_ends_a_call(redis_url):
    """One in fifteen was lost by the client's way to send."""
    client = connect(redis_url)
    registry = Registry(client, "main")
    for steps in range(300):
        calls = asyncio.create_task(call_for_ever(registry))
        for _ in range(steps % 60):
            await asyncio.sleep(0)
        calls.cancel()
        done, _ = await asyncio.wait({calls}, timeout=1)
        assert done, f"still calling after a cancellation at step {steps}"
        assert calls.cancelled()
    await client.aclose()


async def call_for_ever(registry):
    while True:
        await registry.heartbeat(["p1"])
        await registry.reap()
        await registry.counts()


async def test_a_full_redis_takes_no_new_pod_and_goes_on_leasing(pool):
    await pool.add("p1")
    await pool.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(Unavailable):
            await pool.add("p2")
        assert await pool.registry.release(await pool.lease(), clean=True) is Released.IDLE
        assert await pool.registry.release(await pool.lease(), clean=False) is Released.RETIRED
    finally:
        await pool.redis.config_set("maxmemory", 0)
    assert await pool.registry.counts() == Counts(warming=0, idle=0, leased=0, retiring=1)
    assert await pool.tenants() == {}


async def test_scripts_are_sent_again_to_a_redis_that_forgot_them(pool):
    await pool.add("p1")
    await pool.redis.script_flush()
    assert (await pool.lease()).pod == "p1"


async def test_a_script_is_sent_once_and_called_by_its_hash(pool):
    await pool.add("p1")
    await pool.lease()
    await pool.redis.config_resetstat()
    for _ in range(5):
        await pool.acquire()
    calls = await pool.redis.info("commandstats")
    assert calls["cmdstat_evalsha"]["calls"] == 5
    assert "cmdstat_script" not in calls
    assert "cmdstat_eval" not in calls


async def test_a_release_after_redis_was_emptied_is_stale(pool):
    await pool.add("p1")
    lease = await pool.lease()
    await pool.redis.flushall()
    assert await pool.registry.release(lease, clean=True) is Released.STALE
    assert not await pool.registry.renew(lease, 30)
    assert await pool.registry.counts() == Counts(warming=0, idle=0, leased=0, retiring=0)


async def test_a_release_after_redis_restarted_empty_is_stale(pool, redis_server):
    await pool.add("p1")
    lease = await pool.lease()
    redis_server.kill()
    redis_server.start()
    await until_available(pool.registry)
    assert await pool.registry.release(lease, clean=True) is Released.STALE


async def test_after_a_loss_the_heartbeat_finds_every_pod_and_none_is_idle_again(pool):
    await pool.add("p1", "p2")
    await pool.lease()
    await pool.redis.flushall()
    unknown = await pool.registry.heartbeat(["p1", "p2"])
    assert unknown == ["p1", "p2"]
    for pod in unknown:
        await pool.registry.retire(pod, "RegistryLost")
    assert sorted(await pool.registry.retiring()) == ["p1", "p2"]
    assert await pool.acquire() is NoPod.EMPTY


async def test_fencing_numbers_grow_across_a_loss_of_redis(redis):
    """With the real clock, as it is in service."""
    registry = Registry(redis, "main")
    fences = []
    for pod in ("p1", "p2", "p3"):
        await registry.register(pod, "a", max_executions=9, max_age_seconds=900)
        lease = await registry.acquire(execution="e", tenant="t", gateway="g", hold_seconds=9, quota=9)
        fences.append(lease.fence)
        await redis.flushall()
    assert fences == sorted(set(fences))


async def test_a_pod_whose_record_alone_was_lost_is_retired(pool):
    await pool.add("p1")
    await pool.redis.delete("warmpool:{main}:pod:p1")
    assert await pool.acquire() is NoPod.EMPTY
    pod = await pool.pod("p1")
    assert (pod.state, pod.reason, pod.address) == (PodState.RETIRING, "RecordLost", "")


async def test_a_leased_pod_whose_record_alone_was_lost_is_reaped(pool):
    await pool.add("p1")
    lease = await pool.lease()
    await pool.redis.delete("warmpool:{main}:pod:p1")
    assert await pool.registry.release(lease, clean=True) is Released.STALE
    pool.clock.advance(30)
    assert await pool.registry.reap() == ["p1"]


async def until_available(registry):
    """The event loop hears of a connection's end a moment after it ended."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await registry.counts()
            except Unavailable:
                await asyncio.sleep(0)

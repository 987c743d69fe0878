"""The registry's invariants, each directed and as a property; test_model.py holds 1 to 4 over whole histories.

1. A pod has at most one unexpired lease.        4. A pod that is gone is never handed out again.
2. A lease has one winner.                       6. Acquire and release cost O(log n) in the pool's size.
3. A pod with an expired lease is never idle.    7. A waiting caller is woken by a push.
"""

import asyncio
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from warmpool.errors import QuotaExceeded
from warmpool.registry import Lease, NoPod, PodState, Released

examples = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


async def acquired(pool, callers, tenant="acme", quota=1000):
    """What callers got who asked at the same time, refusals left out."""
    asked = (pool.acquire(tenant, quota, gateway=f"g{caller % 2}") for caller in range(callers))
    replies = await asyncio.gather(*asked, return_exceptions=True)
    unexpected = [reply for reply in replies if isinstance(reply, Exception) and not isinstance(reply, QuotaExceeded)]
    assert unexpected == []
    return [reply for reply in replies if isinstance(reply, Lease)]


# 1


async def test_a_leased_pod_is_not_leased_again_until_its_release(pool):
    await pool.add("p1")
    lease = await pool.lease()
    assert await pool.acquire() is NoPod.EMPTY
    await pool.registry.release(lease, clean=True)
    assert (await pool.lease()).pod == "p1"


@examples
@given(
    steps=st.lists(st.tuples(st.sampled_from(["acquire", "release", "renew"]), st.integers(0, 20)), max_size=40),
    pods=st.integers(1, 4),
)
async def test_a_pod_never_has_two_unexpired_leases(pools, steps, pods):
    pool = pools()
    await pool.add(*(f"p{i}" for i in range(pods)))
    issued, held = [], Counter()
    for step, number in steps:
        if step == "acquire" and isinstance(lease := await pool.acquire(), Lease):
            issued.append(lease)
            held[lease.pod] += 1
        elif step != "acquire" and issued:
            lease = issued[number % len(issued)]  # an old one as well as the present one
            if step == "renew":
                await pool.registry.renew(lease, 30)
            elif await pool.registry.release(lease, clean=True) is not Released.STALE:
                held[lease.pod] -= 1
        assert all(count in (0, 1) for count in held.values())
        assert {pod.id for pod in await pool.registry.pods() if pod.lease} == set(+held)


# 2


async def test_fifty_callers_at_once_over_ten_pods_get_ten_leases(pool):
    await pool.add(*(f"p{i}" for i in range(10)))
    leases = await acquired(pool, 50)
    assert len({lease.pod for lease in leases}) == len({lease.fence for lease in leases}) == len(leases) == 10


@examples
@given(pods=st.integers(0, 12), callers=st.integers(1, 30), quota=st.integers(0, 15))
async def test_as_many_callers_win_as_there_are_pods_and_quota(pools, pods, callers, quota):
    pool = pools()
    await pool.add(*(f"p{i}" for i in range(pods)))
    leases = await acquired(pool, callers, quota=quota)
    assert len({lease.pod for lease in leases}) == len(leases) == min(pods, callers, quota)
    assert await pool.tenants() == ({"acme": len(leases)} if leases else {})


async def test_of_two_releases_at_once_one_counts(pool):
    await pool.add("p1")
    lease = await pool.lease()
    both = await asyncio.gather(*(pool.registry.release(lease, clean=True) for _ in range(2)))
    assert sorted(both) == [Released.IDLE, Released.STALE]


# 3


async def test_a_pod_whose_lease_expired_is_retired_not_reused(pool):
    await pool.add("p1")
    lease = await pool.lease()
    await pool.keep_alive(30)
    assert await pool.acquire() is NoPod.EMPTY
    assert await pool.registry.reap() == ["p1"]
    assert await pool.registry.release(lease, clean=True) is Released.STALE
    assert (await pool.pod("p1")).state is PodState.RETIRING


@examples
@given(calls=st.lists(st.sampled_from(["release", "renew", "reap", "heartbeat", "register", "acquire"]), max_size=12))
async def test_nothing_brings_a_pod_back_whose_lease_expired(pools, calls):
    pool = pools()
    await pool.add("p1")
    lease = await pool.lease()
    await pool.keep_alive(30)
    for call in calls:
        match call:
            case "release":
                assert await pool.registry.release(lease, clean=True) is not Released.IDLE
            case "renew":
                assert not await pool.registry.renew(lease, 30)
            case "reap":
                await pool.registry.reap()
            case "heartbeat":
                await pool.registry.heartbeat(["p1"])
            case "register":
                assert not await pool.registry.register("p1", "a", max_executions=9, max_age_seconds=900)
            case "acquire":
                assert await pool.acquire() is NoPod.EMPTY
    assert (await pool.pod("p1")).state in (PodState.LEASED, PodState.RETIRING)


# 4


async def test_a_removed_pod_is_not_handed_out_even_if_it_registers_late(pool):
    await pool.add("p1")
    await pool.registry.remove("p1")
    assert not await pool.registry.register("p1", "p1:7000", max_executions=9, max_age_seconds=900)
    assert await pool.registry.heartbeat(["p1"]) == ["p1"]
    pool.clock.advance(15)
    assert await pool.registry.reap() == []
    assert await pool.acquire() is NoPod.EMPTY


@examples
@given(
    before=st.lists(st.sampled_from(["announce", "register", "acquire", "retire"]), max_size=4),
    after=st.lists(
        st.sampled_from(["announce", "register", "heartbeat", "retire", "release", "fall silent"]), max_size=8
    ),
)
async def test_nothing_brings_a_removed_pod_back(pools, before, after):
    pool = pools()
    lease = None

    async def take(step):
        nonlocal lease
        match step:
            case "announce":
                await pool.registry.announce("p1")
            case "register":
                await pool.registry.register("p1", "a", max_executions=9, max_age_seconds=900)
            case "heartbeat":
                await pool.registry.heartbeat(["p1"])
            case "retire":
                await pool.registry.retire("p1", "ScaledDown")
            case "fall silent":
                pool.clock.advance(15)
                await pool.registry.reap()
            case "acquire":
                got = await pool.acquire()
                lease = got if isinstance(got, Lease) else lease
            case "release" if lease:
                assert await pool.registry.release(lease, clean=True) is Released.STALE

    for step in before:
        await take(step)
    await pool.registry.remove("p1")
    for step in after:
        await take(step)
    assert await pool.registry.pods() == []
    assert await pool.acquire() is NoPod.EMPTY


# 6

LINEAR = {"cmdstat_keys", "cmdstat_scan", "cmdstat_smembers", "cmdstat_zrange", "cmdstat_zrangebyscore"}


async def commands_of(pool, call):
    """The commands that Redis runs for a call, those inside its script included; and what the call returned."""
    await pool.redis.config_resetstat()
    result = await call
    stats = await pool.redis.info("commandstats")
    return Counter({name: stat["calls"] for name, stat in stats.items() if name != "cmdstat_config"}), result


async def cost(pool):
    acquire, lease = await commands_of(pool, pool.acquire("new"))
    release, _ = await commands_of(pool, pool.registry.release(lease, clean=True))
    return acquire, release


async def test_acquire_and_release_run_the_same_commands_on_two_thousand_pods_as_on_one(pools):
    small, large = pools(), pools()
    await small.add("p0")
    await asyncio.gather(*(large.add(f"p{i}") for i in range(2000)))
    await cost(small)  # from here on the scripts are loaded
    costs = await cost(small)
    assert await cost(large) == costs
    assert not LINEAR & set(costs[0] + costs[1])
    assert (costs[0] + costs[1]).total() < 35


@examples
@given(idle=st.integers(1, 60), leased=st.integers(0, 60), retiring=st.integers(0, 60))
async def test_the_commands_of_acquire_and_release_do_not_depend_on_the_pool(pools, idle, leased, retiring):
    small, large = pools(), pools()
    await small.add("p0")
    await asyncio.gather(*(large.add(f"p{i}") for i in range(idle + leased + retiring)))
    await asyncio.gather(*(large.registry.retire(f"p{i}", "ScaledDown") for i in range(retiring)))
    assert len(await acquired(large, leased, tenant="other")) == leased
    await cost(small)
    assert await cost(large) == await cost(small)


# 7


async def next_item(waiting):
    async with asyncio.timeout(10):  # only a failing test waits this long
        await anext(waiting)


async def test_waiting_callers_are_all_served_by_pushes_alone(pool):
    await pool.add("p1", "p2")

    async def execute():
        async with pool.registry.wakeups() as waiting:
            while (lease := await pool.acquire()) is NoPod.EMPTY:
                await next_item(waiting)
        return await pool.registry.release(lease, clean=True)

    assert await asyncio.gather(*(execute() for _ in range(20))) == [Released.IDLE] * 20


@examples
@given(steps=st.lists(st.sampled_from(["register", "clean", "dirty", "retire", "remove", "announce"]), max_size=15))
async def test_there_is_one_push_for_every_pod_that_became_idle_and_none_else(pools, steps):
    pool = pools()
    became_idle = 0
    async with pool.registry.wakeups() as waiting:
        for number, step in enumerate(steps):
            pod = f"p{number}"
            if step == "register":
                await pool.add(pod)
                became_idle += 1
            elif step in ("clean", "dirty"):
                lease = await pool.acquire()
                if isinstance(lease, Lease):
                    released = await pool.registry.release(lease, clean=step == "clean")
                    became_idle += released is Released.IDLE
            else:
                await getattr(pool.registry, step)(*((pod, "ScaledDown") if step == "retire" else (pod,)))
        for _ in range(became_idle):
            await next_item(waiting)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.005):
                await anext(waiting)

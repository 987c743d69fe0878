"""What each method promises, one behaviour a test."""

import asyncio

import pytest
from redis.asyncio import Redis

from warmpool.errors import QuotaExceeded, Superseded
from warmpool.registry import Counts, Lease, NoPod, PodState, Registry, Released, Retirement, connect


async def test_a_registered_pod_can_be_acquired(pool):
    await pool.add("p1")
    lease = await pool.registry.acquire(execution="e1", tenant="acme", gateway="g1", hold_seconds=30, quota=1)
    assert (lease.pod, lease.address, lease.execution, lease.tenant) == ("p1", "p1:7000", "e1", "acme")
    assert (lease.gateway, lease.deadline) == ("g1", pool.clock() + 30)


async def test_an_empty_pool_gives_no_lease(pool):
    assert await pool.acquire() is NoPod.EMPTY


async def test_the_pod_that_became_idle_last_is_leased_first(pool):
    for pod in ("p3", "p1", "p2"):
        await pool.add(pod)
        pool.clock.advance(0.000001)
    assert [(await pool.lease()).pod for _ in range(3)] == ["p2", "p1", "p3"]


async def test_callers_one_after_another_share_a_pod_and_leave_the_others_unused(pool):
    await pool.add("p1", "p2")
    for _ in range(3):
        pool.clock.advance(1)
        lease = await pool.lease()
        assert lease.pod == "p2"
        await pool.registry.release(lease, clean=True)
    assert (await pool.pod("p1")).executions == 0


async def test_a_clean_release_makes_the_pod_idle_again(pool):
    await pool.add("p1")
    assert await pool.registry.release(await pool.lease(), clean=True) is Released.IDLE
    pod = await pool.pod("p1")
    assert (pod.state, pod.lease, pod.executions) == (PodState.IDLE, None, 1)


async def test_a_dirty_release_retires_the_pod(pool):
    await pool.add("p1")
    assert await pool.registry.release(await pool.lease(), clean=False) is Released.RETIRED
    pod = await pool.pod("p1")
    assert (pod.state, pod.reason) == (PodState.RETIRING, Retirement.DIRTY)


async def test_a_second_release_of_a_lease_is_stale_and_changes_nothing(pool):
    await pool.add("p1")
    lease = await pool.lease()
    await pool.registry.release(lease, clean=True)
    newer = await pool.lease()
    assert await pool.registry.release(lease, clean=False) is Released.STALE
    assert (await pool.pod("p1")).lease == newer


async def test_a_release_after_the_deadline_retires_the_pod_though_nobody_reaped_it(pool):
    await pool.add("p1")
    lease = await pool.lease()
    await pool.keep_alive(30)
    assert await pool.registry.release(lease, clean=True) is Released.RETIRED
    assert (await pool.pod("p1")).reason == Retirement.LEASE_EXPIRED


async def test_a_pod_retires_at_the_release_of_its_last_execution(pool):
    await pool.add("p1", max_executions=2)
    assert await pool.registry.release(await pool.lease(), clean=True) is Released.IDLE
    assert await pool.registry.release(await pool.lease(), clean=True) is Released.RETIRED
    assert (await pool.pod("p1")).reason == Retirement.MAX_EXECUTIONS


async def test_a_lease_that_was_given_back_unused_uses_nothing_up(pool):
    await pool.add("p1", max_executions=1)
    for _ in range(3):
        assert await pool.registry.release(await pool.lease(), clean=True, used=False) is Released.IDLE
    assert (await pool.pod("p1")).executions == 0
    assert await pool.registry.release(await pool.lease(), clean=True) is Released.RETIRED


async def test_pods_past_their_age_are_told_of_oldest_first_and_serve_on_until_their_owner_retires_them(pool):
    await pool.add("p1", max_age_seconds=40)
    await pool.add("p2", max_age_seconds=39)
    await pool.keep_alive(38.999999)
    assert await pool.registry.aged() == []
    await pool.keep_alive(1.000001)
    await pool.add("p3", max_age_seconds=40)
    assert await pool.registry.aged() == ["p2", "p1"]
    leases = [await pool.lease() for _ in range(3)]
    assert await pool.registry.aged() == ["p2", "p1"]
    assert [await pool.registry.release(lease, clean=True) for lease in leases] == [Released.IDLE] * 3
    await pool.registry.retire("p2", "MaxAge")
    await pool.registry.remove("p1")
    assert await pool.registry.aged() == []


async def test_a_silent_pod_is_retired_instead_of_leased(pool):
    await pool.add("alive")
    pool.clock.advance(1)
    await pool.add("silent")
    pool.clock.advance(14.9)
    await pool.registry.heartbeat(["alive"])
    pool.clock.advance(0.1)
    assert (await pool.lease()).pod == "alive"
    assert (await pool.pod("silent")).reason == Retirement.HEARTBEAT_LOST


async def test_a_clean_release_is_a_sign_of_life(pool):
    await pool.add("p1")
    lease = await pool.lease()
    pool.clock.advance(14)
    await pool.registry.release(lease, clean=True)
    pool.clock.advance(14)
    assert (await pool.lease()).pod == "p1"


async def test_one_acquire_passes_over_more_silent_pods_than_one_script_looks_at(pool):
    await pool.add("alive")
    pool.clock.advance(0.1)
    await pool.add(*(f"silent-{i}" for i in range(40)))
    pool.clock.advance(14)
    await pool.registry.heartbeat(["alive"])
    pool.clock.advance(1)
    assert (await pool.lease()).pod == "alive"
    assert len(await pool.registry.retiring()) == 40


async def test_a_tenant_at_its_quota_is_refused_with_the_time_to_wait(pool):
    await pool.add("p1", "p2", "p3")
    await pool.acquire("acme", quota=2)
    await pool.acquire("acme", quota=2)
    with pytest.raises(QuotaExceeded) as refused:
        await pool.acquire("acme", quota=2)
    assert refused.value.retry_after > 0
    assert isinstance(await pool.acquire("other", quota=2), Lease)


async def test_the_quota_counts_the_leases_of_every_gateway(pool, redis):
    await pool.add("p1", "p2")
    await pool.acquire("acme", quota=1, gateway="g1")
    elsewhere = Registry(redis, "main", clock=pool.clock)
    with pytest.raises(QuotaExceeded):
        await elsewhere.acquire(execution="e9", tenant="acme", gateway="g2", hold_seconds=30, quota=1)


async def test_the_quota_is_of_one_pool(pool, pools):
    other = pools()
    await pool.add("p1")
    await other.add("p1")
    assert isinstance(await pool.acquire("acme", quota=1), Lease)
    assert isinstance(await other.acquire("acme", quota=1), Lease)


async def test_a_release_gives_the_tenant_its_place_back(pool):
    await pool.add("p1")
    await pool.registry.release(await pool.lease("acme"), clean=True)
    assert await pool.tenants() == {}
    assert isinstance(await pool.acquire("acme", quota=1), Lease)


async def test_renewing_moves_the_deadline(pool):
    await pool.add("p1")
    lease = await pool.lease()
    await pool.keep_alive(29)
    assert await pool.registry.renew(lease, 30)
    await pool.keep_alive(29)
    assert await pool.registry.reap() == []
    assert await pool.registry.release(lease, clean=True) is Released.IDLE


async def test_an_expired_lease_cannot_be_renewed(pool):
    await pool.add("p1")
    lease = await pool.lease()
    await pool.keep_alive(30)
    assert not await pool.registry.renew(lease, 30)


async def test_a_lease_cannot_be_renewed_once_another_has_its_pod(pool):
    await pool.add("p1")
    lease = await pool.lease()
    await pool.registry.release(lease, clean=True)
    await pool.lease()
    assert not await pool.registry.renew(lease, 30)


async def test_registering_a_leased_pod_again_leaves_its_lease_alone(pool):
    await pool.add("p1")
    lease = await pool.lease()
    assert not await pool.registry.register("p1", "other:7000", max_executions=1, max_age_seconds=1)
    pod = await pool.pod("p1")
    assert (pod.lease, pod.address) == (lease, "p1:7000")


async def test_an_announced_pod_is_warming_until_it_registers(pool):
    assert await pool.registry.announce("p1")
    assert await pool.acquire() is NoPod.EMPTY
    assert (await pool.pod("p1")).state is PodState.WARMING
    await pool.add("p1")
    assert (await pool.lease()).pod == "p1"


async def test_a_heartbeat_names_the_pods_that_the_registry_does_not_know(pool):
    await pool.add("p1")
    assert await pool.registry.heartbeat(["p1", "p2", "p3"]) == ["p2", "p3"]
    assert await pool.registry.heartbeat([]) == []


async def test_idle_pods_that_nobody_saw_for_a_while_are_found_those_seen_last_first(pool):
    await pool.add("first", "then busy")
    assert (await pool.lease()).pod == "then busy"
    pool.clock.advance(1)
    await pool.add("second")
    pool.clock.advance(5)
    assert await pool.registry.unseen(6) == {"first": "first:7000"}
    assert list((await pool.registry.unseen(5)).items()) == [("second", "second:7000"), ("first", "first:7000")]
    await pool.registry.heartbeat(["first", "second"])
    assert await pool.registry.unseen(1) == {}


async def test_a_heartbeat_of_many_pods_goes_in_portions(pool):
    names = [f"p{i}" for i in range(600)]
    assert await pool.registry.heartbeat(names) == names


async def test_an_idle_pod_retires_at_once_and_a_leased_one_at_its_release(pool):
    await pool.add("p1", "p2")
    lease = await pool.lease()
    assert lease.pod == "p2"
    assert await pool.registry.retire("p1", "ScaledDown")
    assert await pool.registry.retire("p2", "ScaledDown")
    assert await pool.registry.retiring() == ["p1"]
    pool.clock.advance(1)
    assert (await pool.pod("p2")).reason == "ScaledDown"
    assert await pool.registry.release(lease, clean=True) is Released.RETIRED
    assert await pool.registry.retiring() == ["p1", "p2"]


async def test_retiring_twice_keeps_the_first_reason(pool):
    await pool.add("p1", "p2")
    await pool.lease()
    for pod in ("p1", "p2"):
        assert await pool.registry.retire(pod, "ScaledDown")
        assert not await pool.registry.retire(pod, "TemplateChanged")
        assert (await pool.pod(pod)).reason == "ScaledDown"


async def test_a_pod_asked_to_retire_keeps_that_reason_when_its_release_is_dirty(pool):
    await pool.add("p1")
    lease = await pool.lease()
    await pool.registry.retire("p1", "ScaledDown")
    await pool.registry.release(lease, clean=False)
    assert (await pool.pod("p1")).reason == "ScaledDown"


async def test_retiring_an_unknown_pod_keeps_a_late_registration_from_making_it_idle(pool):
    assert await pool.registry.retire("p1", "RegistryLost")
    assert not await pool.registry.register("p1", "p1:7000", max_executions=1, max_age_seconds=1)
    assert await pool.registry.retiring() == ["p1"]


async def test_removing_a_leased_pod_frees_its_tenants_place(pool):
    await pool.add("p1")
    lease = await pool.lease("acme")
    await pool.registry.remove("p1")
    assert await pool.tenants() == {}
    assert await pool.registry.release(lease, clean=True) is Released.STALE
    assert await pool.registry.pods() == []


async def test_a_removed_pod_is_forgotten_in_the_end(pool):
    await pool.registry.remove("p1")
    keys = [key async for key in pool.redis.scan_iter("warmpool:*")]
    assert [await pool.redis.ttl(key) > 0 for key in keys] == [True]


async def test_the_reaper_retires_expired_leases_and_silent_pods(pool):
    await pool.add("silent")
    pool.clock.advance(0.1)
    await pool.add("leased")
    await pool.lease("acme")
    await pool.registry.announce("stuck")
    pool.clock.advance(15)
    assert sorted(await pool.registry.reap()) == ["silent", "stuck"]
    pool.clock.advance(15)
    assert await pool.registry.reap() == ["leased"]
    assert await pool.tenants() == {}
    assert await pool.registry.reap() == []


async def test_a_leased_pod_that_fell_silent_keeps_its_lease_and_retires_at_its_end(pool):
    await pool.add("p1")
    lease = await pool.lease()
    pool.clock.advance(15)
    assert await pool.registry.reap() == []
    assert (await pool.pod("p1")).lease == lease
    assert await pool.registry.release(lease, clean=True) is Released.RETIRED
    assert (await pool.pod("p1")).reason == Retirement.HEARTBEAT_LOST


async def test_the_reaper_works_through_more_pods_than_one_script_looks_at(pool):
    names = {f"p{i}" for i in range(600)}
    await pool.add(*names)
    pool.clock.advance(15)
    assert set(await pool.registry.reap()) == names


async def test_the_reaper_marks_more_silent_leased_pods_than_one_script_looks_at(pool):
    await pool.add(*(f"p{i}" for i in range(300)))
    await asyncio.gather(*(pool.acquire() for _ in range(300)))
    pool.clock.advance(15)
    async with asyncio.timeout(10):
        assert await pool.registry.reap() == []
    assert {pod.reason for pod in await pool.registry.pods()} == {Retirement.HEARTBEAT_LOST}


async def test_counts_are_by_state(pool):
    await pool.add("p1", "p2", "p3", "p4")
    await pool.registry.announce("p5")
    assert (await pool.lease()).pod == "p4"
    await pool.registry.retire("p1", "ScaledDown")
    assert await pool.registry.counts() == Counts(warming=1, idle=2, leased=1, retiring=1)


async def test_a_pod_is_listed_with_what_is_known_of_it(pool):
    await pool.add("p1")
    registered = pool.clock()
    pool.clock.advance(5)
    await pool.registry.heartbeat(["p1"])
    pod = await pool.pod("p1")
    assert (pod.address, pod.registered_at, pod.seen_at) == ("p1:7000", registered, registered + 5)
    await pool.registry.retire("p1", "ScaledDown")
    assert (await pool.pod("p1")).seen_at == registered + 5


async def test_pools_do_not_see_each_other(pool, pools):
    await pool.add("p1")
    assert await pools().acquire() is NoPod.EMPTY


async def test_every_key_of_a_pool_shares_one_hash_tag(pool):
    await pool.add("p1", "p2")
    await pool.lease()
    await pool.registry.announce("p3")
    await pool.registry.retire("p2", "ScaledDown")
    keys = [key async for key in pool.redis.scan_iter()]
    assert len(keys) >= 9
    assert all(key.startswith("warmpool:{main}:") for key in keys)


@pytest.mark.parametrize("text", ["", "übermäßig", "a\x00b", "{x}", "😀 " * 9], ids=ascii)
async def test_names_may_be_any_text(pool, text):
    await pool.add(text)
    lease = await pool.registry.acquire(execution=text, tenant=text, gateway=text, hold_seconds=30, quota=1)
    assert (await pool.pod(text)).lease == lease
    assert lease.tenant == text
    assert await pool.registry.release(lease, clean=True) is Released.IDLE


async def test_without_a_clock_the_time_is_that_of_redis(redis):
    registry = Registry(redis, "main")
    await registry.register("p1", "p1:7000", max_executions=9, max_age_seconds=60)
    seconds, micros = await redis.time()
    lease = await registry.acquire(execution="e1", tenant="acme", gateway="g1", hold_seconds=30, quota=1)
    assert 0 <= lease.deadline - 30 - (seconds + micros / 1e6) < 10
    assert 0 <= lease.fence - (seconds * 10**6 + micros) < 10 * 10**6


async def test_a_client_that_does_not_decode_is_refused(redis_url):
    client = Redis.from_url(redis_url)
    with pytest.raises(ValueError, match="decode_responses"):
        Registry(client, "main")
    await client.aclose()


@pytest.mark.parametrize("protocol", [2, 3])
async def test_both_versions_of_redis_protocol_will_do(redis, redis_url, protocol):
    client = connect(f"{redis_url}&protocol={protocol}")
    registry = Registry(client, "main")
    await registry.register("p1", "p1:7000", max_executions=9, max_age_seconds=60)
    lease = await registry.acquire(execution="e1", tenant="acme", gateway="g1", hold_seconds=30, quota=1)
    assert [pod.lease for pod in await registry.pods()] == [lease]
    assert (await registry.counts()).leased == 1
    await client.aclose()


async def test_an_acquire_cancelled_at_any_moment_leaves_no_lease_behind(pool):
    await pool.add("p1")
    for ticks in range(40):
        acquiring = asyncio.create_task(pool.acquire())
        for _ in range(ticks):
            await asyncio.sleep(0)
        acquiring.cancel()
        [lease] = await asyncio.gather(acquiring, return_exceptions=True)
        if not isinstance(lease, asyncio.CancelledError):
            await pool.registry.release(lease, clean=True)
        assert await pool.registry.counts() == Counts(warming=0, idle=1, leased=0, retiring=0)


async def test_of_two_that_believe_to_own_the_pods_the_one_that_took_over_last_is_heard(pool, redis):
    old, new = pool.registry, Registry(redis, pool.registry.pool, clock=pool.clock)
    await old.take_over()
    await pool.add("p1")
    await new.take_over()
    for step in (old.announce("p2"), old.retire("p1", "ScaledDown"), old.remove("p1"),
                 old.register("p1", "a", max_executions=1, max_age_seconds=1), old.destroy()):  # fmt: skip
        with pytest.raises(Superseded):
            await step
    assert await new.announce("p2")
    assert {id: it.state for id, it in (await new.standings()).items()} == {
        "p1": PodState.IDLE, "p2": PodState.WARMING,
    }  # fmt: skip


async def test_a_term_outlives_the_loss_of_redis(pool, redis):
    old, new = pool.registry, Registry(redis, pool.registry.pool, clock=pool.clock)
    await old.take_over()
    await new.take_over()
    await redis.flushall()
    await new.announce("p1")
    with pytest.raises(Superseded):
        await old.announce("p2")

"""Pods that serve no other tenant than their first."""

from warmpool.registry import Counts, Lease, NoPod, PodState, Released


async def add(pool, *pods):
    for pod in pods:
        await pool.registry.register(pod, f"{pod}:7000", max_executions=9, max_age_seconds=900, per_tenant=True)


async def serve(pool, tenant):
    """One execution of the tenant; returns its pod."""
    lease = await pool.lease(tenant)
    assert await pool.registry.release(lease, clean=True) is Released.IDLE
    pool.clock.advance(1)
    return lease.pod


async def test_a_pod_serves_its_first_tenant_again_before_a_fresh_one_does(pool):
    await add(pool, "p1", "p2")
    assert [await serve(pool, "acme") for _ in range(3)] == ["p2", "p2", "p2"]
    assert await serve(pool, "globex") == "p1"


async def test_a_lease_that_was_given_back_unused_binds_no_pod(pool):
    await add(pool, "p1")
    await pool.registry.release(await pool.lease("acme"), clean=True, used=False)
    assert await serve(pool, "globex") == "p1"
    await pool.registry.release(await pool.lease("globex"), clean=True, used=False)
    assert await pool.acquire("acme") is NoPod.BOUND


async def test_a_tenant_gets_no_pod_that_another_has_used(pool):
    await add(pool, "p1")
    await serve(pool, "acme")
    assert await pool.acquire("globex") is NoPod.BOUND
    assert isinstance(await pool.acquire("acme"), Lease)
    assert await pool.acquire("globex") is NoPod.EMPTY


async def test_bound_pods_are_idle_to_whoever_counts_them(pool):
    await add(pool, "p1", "p2")
    await serve(pool, "acme")
    assert await pool.registry.counts() == Counts(warming=0, idle=2, leased=0, retiring=0)
    standings = await pool.registry.standings()
    assert {pod: (it.state, it.bound) for pod, it in standings.items()} == {
        "p1": (PodState.IDLE, False), "p2": (PodState.IDLE, True),
    }  # fmt: skip


async def test_a_bound_pod_that_is_retired_or_removed_or_falls_silent_leaves_no_trace(pool):
    await add(pool, "p1", "p2", "p3")
    leases = [await pool.lease("acme") for _ in range(3)]
    for lease in leases:
        await pool.registry.release(lease, clean=True)
    await pool.registry.retire("p1", "ScaledDown")
    await pool.registry.remove("p2")
    pool.clock.advance(20)
    await pool.registry.reap()
    assert await pool.acquire("acme") is NoPod.EMPTY
    assert await pool.registry.counts() == Counts(warming=0, idle=0, leased=0, retiring=2)
    left = [key async for key in pool.redis.scan_iter(match="*:bound*")]
    assert left == []


async def test_a_worn_out_pod_of_the_tenant_is_passed_over(pool):
    await pool.registry.register("p1", "a", max_executions=1, max_age_seconds=900, per_tenant=True)
    lease = await pool.lease("acme")
    assert await pool.registry.release(lease, clean=True) is Released.RETIRED
    assert await pool.acquire("acme") is NoPod.EMPTY


async def test_a_leased_pod_that_is_to_retire_is_marked(pool):
    await pool.add("p1", "p2")
    await pool.lease()
    await pool.lease()
    await pool.registry.retire("p1", "ScaledDown")
    standings = await pool.registry.standings()
    assert {pod: it.marked for pod, it in standings.items()} == {"p1": True, "p2": False}

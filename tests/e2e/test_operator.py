"""The operator at work on a real cluster: pools sized by demand, rolled out and halted, recycled each way."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import psycopg
import pytest
from harness.caller import Caller
from harness.waiting import until
from k8s.cluster import Cluster, Object, Pools
from k8s.load import load
from k8s.release import Release
from k8s.service import TIMEOUT, Addresses, new_key
from k8s.wholeness import PODS, POOL, until_whole
from redis.asyncio import Redis

from warmpool.registry import Registry

SETTLE_SECONDS = 25.0
"""The 15 s in which an operator must have set things right, and the start of some pods on two cores."""

pytestmark = pytest.mark.timeout(180)

Postgres = psycopg.AsyncConnection[Any]


@asynccontextmanager
async def changed(pools: Pools, registry: Registry, spec: Object, back: Object) -> AsyncIterator[None]:
    """The default pool with another spec, and as it was again."""
    await pools.merge(POOL, spec)
    try:
        yield
    finally:
        await pools.merge(POOL, back)
        await until_whole(pools, registry)


async def sees(pools: Pools, pod_names: set[str], number: int) -> bool:
    names = {pod.metadata.name for pod in await pools.ready_pods(POOL)}
    return len(names) == number and not names & pod_names


async def names(pools: Pools) -> set[str]:
    return {pod.metadata.name for pod in await pools.pods(POOL)}


# -- demand


async def test_a_pool_that_scales_itself_grows_with_its_callers_and_shrinks_after_them(
    caller: Caller, pools: Pools, registry: Registry, catalogue: str
):
    autoscale = {"min": PODS, "max": PODS + 3, "spare": 1, "coolDownSeconds": 3}
    async with changed(pools, registry, {"autoscale": autoscale}, {"autoscale": None}):
        async with load(caller, callers=PODS + 4, seconds=1.0) as under_way:
            await until(lambda: has(pools, PODS + 3), SETTLE_SECONDS, "the pool has grown to its maximum")
            living = [pod for pod in await pools.pods(POOL) if pod.metadata.deletion_timestamp is None]
            assert len(living) <= PODS + 3, "those that end do not count"
        assert set(under_way.by_status) == {"ok"}
        await until(lambda: has(pools, PODS), SETTLE_SECONDS, "it has shrunk to its minimum")
        await until(lambda: says(pools, desired=PODS), SETTLE_SECONDS, "its status says so, a second later at most")


async def has(pools: Pools, ready: int) -> bool:
    return len(await pools.ready_pods(POOL)) == ready


async def says(pools: Pools, *, desired: int) -> bool:
    return bool((await pools.get(POOL))["status"]["desired"] == desired)


async def test_pods_that_are_not_wanted_any_more_go_at_once_while_they_start(
    caller: Caller, pools: Pools, registry: Registry
):
    async with changed(pools, registry, {"replicas": 0}, {"replicas": PODS}):
        await until(lambda: are(pools, 0), SETTLE_SECONDS, "the pool is empty")
        for delay in (0.0, 0.2, 0.4, 0.6):
            await pools.merge(POOL, {"replicas": PODS})
            await until(lambda: are(pools, PODS), 10, "the pods are made")
            await asyncio.sleep(delay)  # of their start, which takes about a second
            await pools.merge(POOL, {"replicas": 0})
            await until(lambda: are(pools, 0), 20, "none of them keeps its place for its grace of 40 s")


async def are(pools: Pools, number: int) -> bool:
    return len(await pools.pods(POOL)) == number


# -- recycling


async def test_a_single_use_pool_runs_each_program_in_a_pod_of_its_own(
    caller: Caller, pools: Pools, registry: Registry, postgres: Postgres
):
    before = await names(pools)
    async with changed(pools, registry, {"recycle": {"mode": "single-use"}}, {"recycle": {"mode": "reuse"}}):
        await until(lambda: sees(pools, before, PODS), SETTLE_SECONDS + 15, "the new pods")
        ran = await asyncio.gather(*(caller.run(f"return {number}", seconds=10) for number in range(6)))
        assert [one["result"] for one in ran] == list(range(6)), ran

        async def recorded() -> Any:
            asked = "SELECT pod FROM executions WHERE id = ANY(%s)"
            rows = await (await postgres.execute(asked, [[one["id"] for one in ran]])).fetchall()
            return rows if len(rows) == 6 else None

        rows = await until(recorded, 10, "the records")
        assert len({pod for (pod,) in rows}) == 6


async def test_a_pod_of_a_pool_per_tenant_serves_no_other_tenant(
    caller: Caller,
    cluster: Cluster,
    release: Release,
    reached: Addresses,
    pools: Pools,
    registry: Registry,
    postgres: Postgres,
    redis: Redis,
):
    key = await new_key(cluster, release, "e2e-other")
    before = await names(pools)
    async with aiohttp.ClientSession(reached.gateway, timeout=TIMEOUT) as session:
        other = Caller(session, key, "e2e-other")
        async with changed(pools, registry, {"recycle": {"mode": "tenant"}}, {"recycle": {"mode": "reuse"}}):
            await until(lambda: sees(pools, before, PODS), SETTLE_SECONDS + 15, "the new pods")
            ran = [await one.run("return 1", seconds=10) for one in (caller, other) * 4]
            assert {one["status"] for one in ran} == {"ok"}, ran
            # Every pod is bound to one of the two; the other is given a fresh one where it has to wait.
            ran += await asyncio.gather(*(other.run("import time\ntime.sleep(1)", seconds=10) for _ in range(PODS)))
            ran.append(await caller.run("return 1", seconds=10))
            assert await forget_tenants(redis)
            ran.append(await other.run("return 1", seconds=10))  # is leased the pod that was used last
            assert {one["status"] for one in ran} == {"ok"}, ran

            async def recorded() -> Any:
                asked = "SELECT pod, tenant FROM executions WHERE id = ANY(%s)"
                rows = await (await postgres.execute(asked, [[one["id"] for one in ran]])).fetchall()
                return rows if len(rows) == len(ran) else None

            served = {(pod, tenant) for pod, tenant in await until(recorded, 10, "the records") or []}
            assert len(served) == len({pod for pod, _ in served}), "a pod served two tenants"
            assert {tenant for _, tenant in served} == {"e2e", "e2e-other"}


async def forget_tenants(redis: Redis) -> int:
    """How many idle pods are now anyone's, as in a Redis that lost its last writes."""
    root = f"warmpool:{{{POOL}}}"
    bound = await redis.zrange(f"{root}:bound", 0, -1, withscores=True)
    for pod, since in bound:
        tenant = await redis.hget(f"{root}:pod:{pod}", "bound")
        async with redis.pipeline(transaction=True) as step:
            step.zrem(f"{root}:bound", pod).zrem(f"{root}:bound:{tenant}", pod)
            step.hdel(f"{root}:pod:{pod}", "bound").zadd(f"{root}:idle", {pod: since})
            await step.execute()
    return len(bound)


# -- rollout


async def test_a_rollout_whose_first_pods_fail_halts_and_the_old_ones_serve_on(
    caller: Caller, cluster: Cluster, pools: Pools, registry: Registry
):
    image, before = (await pools.get(POOL))["spec"]["image"], await names(pools)
    async with changed(pools, registry, {"image": "localhost/no-such-image:2"}, {"image": image}):
        condition = await pools.until_condition(POOL, "Progressing", "False", 40)
        assert condition["reason"] == "RolloutHalted"
        assert "no-such-image" in condition["message"]
        assert len(await names(pools) - before) == 1, "one pod was tried, no more"
        assert len(before & await names(pools)) == PODS
        assert (await caller.run("return 1"))["result"] == 1
        assert "RolloutHalted" in explained("status", POOL, pools.namespace)


async def test_a_paused_pool_replaces_nothing_until_it_goes_on(
    caller: Caller, cluster: Cluster, pools: Pools, registry: Registry
):
    before = await names(pools)
    async with changed(pools, registry, {"paused": True}, {"paused": False}):
        await pools.until_condition(POOL, "Progressing", "False", 10, lambda reason: reason == "Paused")
        victim = (await pools.pods(POOL))[0]
        await cluster.delete_pod(victim)
        await until(lambda: has(pools, PODS - 1), 15, "one pod less")
        assert (await caller.run("return 1"))["result"] == 1
        assert await names(pools) == before - {victim.metadata.name}


# -- help


def explained(*words: str) -> str:
    script = "import sys; from warmpool.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", script, "pool", *words[:-1], "--namespace", words[-1]]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    return ran.stdout


async def test_why_there_is_no_idle_pod_is_explained_with_the_next_step(
    caller: Caller, pools: Pools, registry: Registry
):
    # It goes by the status, which follows what is there within seconds.
    await until(lambda: "a caller gets one at once" in explained("explain", POOL, pools.namespace), 20, "idle pods")
    async with changed(pools, registry, {"replicas": 0}, {"replicas": PODS}):
        await until(lambda: has(pools, 0), SETTLE_SECONDS, "the pool is empty")

        async def is_told() -> bool:
            status = (await pools.get(POOL))["status"]
            return (status["desired"], status["idle"]) == (0, 0)

        await until(is_told, 15, "the status says so")
        said = explained("explain", POOL, pools.namespace)
        assert "should have no pod" in said
        assert "spec.replicas" in said


# -- faults


async def test_a_redis_that_loses_everything_under_load_costs_pods_and_no_program_runs_twice(
    caller: Caller, pools: Pools, registry: Registry, redis: Redis, postgres: Postgres, catalogue: str
):
    before = await names(pools)
    async with load(caller, callers=2) as under_way:
        keys = [key async for key in redis.scan_iter(match=f"warmpool:{{{POOL}}}:*")]
        await redis.delete(*keys)
        await until(lambda: sees(pools, before, PODS), SETTLE_SECONDS + 20, "no pod of the lost registry is left")
    assert under_way.lost == []
    await under_way.assert_none_ran_twice(postgres)

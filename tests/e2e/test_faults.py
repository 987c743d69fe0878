"""Pods, operators and gateways killed or replaced under load: the pool is whole again, and nothing ran twice."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest
from harness.caller import Caller
from harness.waiting import until
from k8s.cluster import Cluster, Pools, is_ready
from k8s.load import TIMEOUT_SECONDS, load
from k8s.release import Release
from k8s.wholeness import PODS, POOL, until_whole
from kubernetes.aio import client

from warmpool.registry import Registry

WITHIN_SECONDS = 15.0
POD_START_SECONDS = 10.0
"""Of the few pods that are made at once, on two cores that serve a load as well; a lone one takes 3 to 5 s."""
LEASE_SECONDS = TIMEOUT_SECONDS + 10.0
"""And the grace of a lease."""

pytestmark = pytest.mark.timeout(180)

Postgres = psycopg.AsyncConnection[Any]


async def leased(registry: Registry) -> str:
    """A pod that runs a program."""

    async def found() -> str | None:
        return next((pod.id for pod in await registry.pods() if pod.lease is not None), None)

    name = await until(found, 10, "a pod is leased")
    assert name is not None
    return name


async def idle(registry: Registry) -> str:
    return next(pod.id for pod in await registry.pods() if pod.lease is None)


async def end_at_once(cluster: Cluster, pod: client.V1Pod) -> None:
    """Killed: nothing of it can say goodbye."""
    await cluster.delete_pod(pod, grace_seconds=0)


async def end_in_order(cluster: Cluster, pod: client.V1Pod) -> None:
    await cluster.delete_pod(pod, grace_seconds=40)


async def end_from_inside(cluster: Cluster, pod: client.V1Pod) -> None:
    """Its process ends, and the pod's phase says so; no one has asked for it."""
    await cluster.run_in(pod, "python3", "-c", "import os; os.kill(1, 15)")


@pytest.mark.parametrize("end", [end_at_once, end_in_order, end_from_inside])
@pytest.mark.parametrize("which", [leased, idle])
async def test_a_pod_that_ends_under_load_is_replaced_and_nothing_runs_twice(
    caller: Caller,
    cluster: Cluster,
    pools: Pools,
    registry: Registry,
    postgres: Postgres,
    catalogue: str,
    end: Callable[[Cluster, client.V1Pod], Awaitable[None]],
    which: Callable[[Registry], Awaitable[str]],
):
    async with load(caller, callers=2) as under_way:
        name = await which(registry)
        pod = await cluster.core.read_namespaced_pod(name, pools.namespace)
        await end(cluster, pod)
        await until(lambda: is_replaced(pools, pod), WITHIN_SECONDS + POD_START_SECONDS, "the pod is replaced")
    assert under_way.lost == []
    assert set(under_way.by_status) <= {"ok", "platform_error"}
    assert under_way.by_status.get("platform_error", 0) <= (1 if end is not end_in_order else 0), under_way.by_status
    await under_way.assert_none_ran_twice(postgres)


async def is_replaced(pools: Pools, pod: client.V1Pod) -> bool:
    ready = await pools.ready_pods(POOL)
    return len(ready) == PODS and pod.metadata.uid not in {there.metadata.uid for there in ready}


async def test_an_operator_killed_during_a_scale_up_is_succeeded_by_the_other(
    caller: Caller,
    cluster: Cluster,
    release: Release,
    pools: Pools,
    registry: Registry,
    postgres: Postgres,
    catalogue: str,
):
    """Callers are served meanwhile, and no pod is made twice."""
    leader = await leading_operator(cluster, release)
    more = PODS + 3
    try:
        async with load(caller, callers=2) as under_way:
            await pools.merge(POOL, {"replicas": more})
            await until(lambda: has_pods(pools, PODS + 1), 10, "the scale-up has begun")
            await cluster.delete_pod(leader)
            await until(lambda: are_ready(pools, more), WITHIN_SECONDS + POD_START_SECONDS, "every pod is ready")
        assert len(await pools.pods(POOL)) == more
        assert under_way.lost == []
        assert set(under_way.by_status) == {"ok"}
        await under_way.assert_none_ran_twice(postgres)
        await until_whole(pools, registry, more)
    finally:
        await pools.merge(POOL, {"replicas": PODS})
        await until_deployed(cluster, release, "operator")
    await until_whole(pools, registry)


async def has_pods(pools: Pools, least: int) -> bool:
    return len(await pools.pods(POOL)) >= least


async def are_ready(pools: Pools, number: int) -> bool:
    return len(await pools.ready_pods(POOL)) == number


async def leading_operator(cluster: Cluster, release: Release) -> client.V1Pod:
    leases = client.CoordinationV1Api(cluster.api)
    found = (await leases.list_namespaced_lease(release.namespace)).items
    holders = {lease.spec.holder_identity for lease in found}
    pods = await cluster.ready_pods(release.namespace, component="operator")
    leaders = [pod for pod in pods if any(holder and pod.metadata.name in holder for holder in holders)]
    assert len(leaders) == 1, f"holders {holders}, operators {[pod.metadata.name for pod in pods]}"
    return leaders[0]


async def test_gateways_that_are_restarted_one_by_one_lose_no_request(
    caller: Caller,
    cluster: Cluster,
    release: Release,
    pools: Pools,
    registry: Registry,
    postgres: Postgres,
    catalogue: str,
):
    async with load(caller) as under_way:
        await restart(cluster, release, "gateway")
        await until_deployed(cluster, release, "gateway")
    assert under_way.lost == []
    assert set(under_way.by_status) == {"ok"}
    await under_way.assert_none_ran_twice(postgres)


async def test_a_gateway_that_is_killed_costs_its_callers_their_answers_and_the_pool_nothing(
    caller: Caller,
    cluster: Cluster,
    release: Release,
    pools: Pools,
    registry: Registry,
    postgres: Postgres,
    catalogue: str,
):
    """Its own callers see the connection break, and must not send again what may have run.

    Nobody can give its leases back: they expire.
    """
    callers = 4
    async with load(caller, callers, seconds=1.0) as under_way:
        (one, *_) = await cluster.ready_pods(release.namespace, component="gateway")
        await end_at_once(cluster, one)
        await until_deployed(cluster, release, "gateway")
    assert len(under_way.lost) <= callers
    assert set(under_way.by_status) <= {"ok", "cancelled"}
    await under_way.assert_none_ran_twice(postgres)
    await until_whole(pools, registry, seconds=LEASE_SECONDS + WITHIN_SECONDS + POD_START_SECONDS)


async def restart(cluster: Cluster, release: Release, component: str) -> None:
    """As `kubectl rollout restart` does."""
    stamp = {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": str(time.time_ns())}}}
    await cluster.apps.patch_namespaced_deployment(
        f"{release.name}-{component}", release.namespace, {"spec": {"template": stamp}},
        _content_type="application/strategic-merge-patch+json",
    )  # fmt: skip


async def until_deployed(cluster: Cluster, release: Release, component: str, seconds: float = 120.0) -> None:
    """Waits until every replica is of the newest template and ready, and no other is left."""

    async def is_deployed() -> bool:
        deployment = await cluster.apps.read_namespaced_deployment(f"{release.name}-{component}", release.namespace)
        pods = await cluster.pods(release.namespace, component=component)
        seen = deployment.status.observed_generation == deployment.metadata.generation
        wanted = deployment.spec.replicas
        return bool(seen and deployment.status.updated_replicas == wanted == len(pods) and all(map(is_ready, pods)))

    await until(is_deployed, seconds, f"{component} is deployed")

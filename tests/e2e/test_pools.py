"""SandboxPools as people handle them with kubectl, and pools that cannot be."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from harness.caller import Caller
from harness.waiting import until
from k8s.cluster import Cluster, Object, Pools, suppress_missing
from k8s.helm import kubectl
from k8s.release import merged
from k8s.wholeness import PODS, POOL, until_whole
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException
from redis.asyncio import Redis

from warmpool.protocol import CLOSED_TCP_PORTS
from warmpool.registry import Counts, PodState, Registry

COLUMNS = ["NAME", "DESIRED", "READY", "IDLE", "LEASED", "STATUS", "AGE"]


@pytest.fixture
async def spec(pools: Pools) -> Object:
    """What a pool of this release needs to say."""
    found: Object = (await pools.get(POOL))["spec"]
    return merged(found, {"replicas": 2})


@asynccontextmanager
async def pool(pools: Pools, name: str, spec: Object) -> AsyncIterator[str]:
    await pools.end(name)
    await pools.create(name, spec)
    try:
        yield name
    finally:
        await pools.end(name)


async def until_idle(redis: Redis, name: str, number: int, seconds: float = 30.0) -> None:
    expected = Counts(warming=0, idle=number, leased=0, retiring=0)

    async def are_idle() -> bool:
        return await Registry(redis, name).counts() == expected

    await until(are_idle, seconds, f"{number} pods of {name} are idle")


# -- kubectl


@pytest.mark.timeout(150)
async def test_a_pool_is_scaled_by_kubectl(caller: Caller, pools: Pools, registry: Registry):
    for number in (2, 10, PODS):
        kubectl("scale", f"sbp/{POOL}", f"--replicas={number}", "--namespace", pools.namespace)
        await until_whole(pools, registry, number)
        assert (await caller.run(f"return {number}"))["result"] == number
    scale = json.loads(kubectl("get", "--raw", f"{path(pools)}/scale"))
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (PODS, PODS)
    selected = await caller_pods(pools, scale["status"]["selector"])
    assert selected == {pod.metadata.name for pod in await pools.pods(POOL)}


def path(pools: Pools) -> str:
    return f"/apis/warmpool.dev/v1alpha1/namespaces/{pools.namespace}/sandboxpools/{POOL}"


async def caller_pods(pools: Pools, selector: str) -> set[str]:
    names = kubectl("get", "pods", "--namespace", pools.namespace, "--selector", selector, "--output", "name")
    return {name.partition("/")[2] for name in names.split()}


async def test_kubectl_shows_how_a_pool_stands(caller: Caller, pools: Pools):
    head, line = kubectl("get", "sbp", POOL, "--namespace", pools.namespace).splitlines()
    assert head.split() == COLUMNS
    ready = await pools.condition(POOL, "Ready")
    assert ready is not None
    assert line.split()[:3] == [POOL, str(PODS), str(PODS)]
    assert ready["reason"] in line.split()


@pytest.mark.timeout(120)
async def test_a_pool_deleted_by_kubectl_leaves_no_pod_and_no_key(pools: Pools, redis: Redis, spec: Object):
    async with pool(pools, "doomed", spec) as name:
        await until_idle(redis, name, 2)
        assert await keys(redis, name)
        kubectl("delete", "sbp", name, "--namespace", pools.namespace, "--timeout=60s")
        assert await pools.pods(name) == []
        assert await keys(redis, name) == []


async def keys(redis: Redis, name: str) -> list[str]:
    return [key async for key in redis.scan_iter(match=f"warmpool:{{{name}}}:*")]


@pytest.mark.timeout(120)
async def test_pods_that_come_of_age_together_are_replaced_while_the_pool_serves_on(
    pools: Pools, redis: Redis, spec: Object
):
    careful = merged(spec, {"replicas": 3, "strategy": {"maxUnavailable": 0, "maxSurge": 1}})
    async with pool(pools, "ageing", careful) as name:
        await until_idle(redis, name, 3)
        registry = Registry(redis, name)
        before = {pod.id for pod in await registry.pods()}
        assert await redis.zadd(f"warmpool:{{{name}}}:ages", dict.fromkeys(before, 0), xx=True, ch=True) == 3

        async def are_new() -> bool:
            idle = {pod.id for pod in await registry.pods() if pod.state is PodState.IDLE}
            assert len(idle) >= 3
            return len(idle) == 3 and not idle & before

        await until(are_new, 60, "new pods")
        await until_idle(redis, name, 3)


@pytest.mark.timeout(120)
async def test_pools_beside_each_other_have_nothing_in_common(
    caller: Caller, pools: Pools, redis: Redis, registry: Registry, spec: Object
):
    before = {pod.id for pod in await registry.pods()}
    async with pool(pools, "beside", spec) as name:
        await until_idle(redis, name, 2)
        assert {pod.id for pod in await registry.pods()} == before
    assert {pod.metadata.name for pod in await pools.pods(POOL)} == before


# -- refused by the API server


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"replicas": -1}, "spec.replicas"),
        ({"replicas": 1_000_000}, "spec.replicas"),
        ({"replica": 2}, "spec.replica"),
        ({"image": None}, "spec.image"),
        ({"resources": {"limits": {"memory": "100Mi"}}}, "memory"),
        ({"limits": {"memoryBytes": 480 * 2**20}}, "memoryBytes"),
        ({"limits": {"wallSeconds": 3600}}, "spec.limits.wallSeconds"),
        ({"recycle": {"maxExecutions": 0}}, "spec.recycle.maxExecutions"),
        ({"network": {}}, "spec.network.tcpPorts"),
        ({"network": {"tcpPorts": []}}, "spec.network.tcpPorts"),
        ({"network": {"tcpPorts": [443, 70_000]}}, "spec.network.tcpPorts"),
        ({"network": {"tcpPorts": list(range(1000, 1017))}}, "spec.network.tcpPorts"),
        *[
            ({"network": {"tcpPorts": [443, port]}}, "leave them out, and reach names through a proxy")
            for port in CLOSED_TCP_PORTS
        ],
        ({"template": {"spec": {"hostNetwork": True}}}, "spec.template.spec.hostNetwork"),
        ({"template": {"spec": {"securityContext": {"runAsUser": 0}}}}, "spec.template.spec.securityContext"),
        ({"template": {"spec": {"containers": []}}}, "spec.template.spec.containers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_pool_that_makes_no_sense_is_refused_with_the_field_named(
    pools: Pools, spec: Object, change: Object, named: str
):
    wrong = {key: value for key, value in merged(spec, change).items() if value is not None}
    with pytest.raises(ApiException) as refused:
        await pools.create("senseless", wrong, dry_run=True)
    assert refused.value.status in (400, 422), refused.value
    assert named in json.loads(refused.value.body)["message"]


# -- accepted, and impossible


STORM_SECONDS = 10.0


async def pods_made(cluster: Cluster, namespace: str, name: str, seconds: float) -> int:
    """How many pods of the pool there were or came to be within so long."""
    seen: set[str] = set()

    async def look() -> bool:
        seen.update(pod.metadata.uid for pod in await cluster.pods(namespace, pool=name))
        return time.monotonic() > end

    end = time.monotonic() + seconds
    await until(look, seconds + 5, "the window is over")
    return len(seen)


async def told(cluster: Cluster, namespace: str, name: str, reason: str) -> client.CoreV1Event:
    """The event about the pool that carries its condition's reason."""

    async def found() -> client.CoreV1Event | None:
        events = await cluster.events(namespace, name=name, kind="SandboxPool")
        return next((event for event in events if event.reason == reason), None)

    event = await until(found, 10, f"an event {reason}")
    assert event is not None
    return event


@pytest.mark.timeout(120)
async def test_a_pool_whose_image_does_not_exist_says_so_and_makes_no_storm(
    cluster: Cluster, pools: Pools, spec: Object
):
    wrong = merged(spec, {"image": "localhost/no-such-image:1", "replicas": 2})
    async with pool(pools, "imageless", wrong) as name:
        made = await pods_made(cluster, pools.namespace, name, STORM_SECONDS)
        assert made <= 4, f"{made} pods in {STORM_SECONDS} s for a pool of 2"
        condition = await pools.until_condition(name, "Ready", "False", 30, lambda reason: "Image" in reason)
        assert "localhost/no-such-image:1" in condition["message"]
        await told(cluster, pools.namespace, name, condition["reason"])
        await pools.merge(name, {"image": spec["image"]})
        await pools.until_condition(name, "Ready", "True", 45)


@pytest.mark.timeout(150)
async def test_a_pool_that_a_quota_forbids_says_so_backs_off_and_recovers(
    caller: Caller, cluster: Cluster, pools: Pools, spec: Object
):
    async with no_room(cluster, pools.namespace) as quota, pool(pools, "crowded", spec) as name:
        before = await refused_pods(cluster)
        assert await pods_made(cluster, pools.namespace, name, STORM_SECONDS) == 0
        asked = await refused_pods(cluster) - before
        assert 1 <= asked <= 6, f"{asked} attempts in {STORM_SECONDS} s"
        condition = await pools.until_condition(name, "Ready", "False", 30, lambda reason: "Quota" in reason)
        await told(cluster, pools.namespace, name, condition["reason"])
        await cluster.core.delete_namespaced_resource_quota(quota, pools.namespace)
        await pools.until_condition(name, "Ready", "True", 75)


@asynccontextmanager
async def no_room(cluster: Cluster, namespace: str) -> AsyncIterator[str]:
    """No pod more than there are."""
    name, now = "e2e-no-room", len(await cluster.pods(namespace))
    quota = client.V1ResourceQuota(
        metadata=client.V1ObjectMeta(name=name), spec=client.V1ResourceQuotaSpec(hard={"pods": str(now)})
    )
    await cluster.core.create_namespaced_resource_quota(namespace, quota)

    async def is_counted() -> bool:
        found = await cluster.core.read_namespaced_resource_quota(name, namespace)
        return bool(found.status and found.status.used)

    try:
        await until(is_counted, 20, "the quota is in force")
        yield name
    finally:
        with suppress_missing():
            await cluster.core.delete_namespaced_resource_quota(name, namespace)


async def refused_pods(cluster: Cluster) -> int:
    """Pods that the API server was asked to make and would not, since it began."""
    text = await cluster.metrics()
    counts: list[float] = [
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith("apiserver_request_total{")
        and all(part in line for part in ('code="403"', 'resource="pods"', 'verb="POST"', 'subresource=""'))
    ]
    return round(sum(counts))


async def test_a_pool_below_the_floor_of_its_walls_says_so(cluster: Cluster, pools: Pools, spec: Object):
    """No kernel has such a Landlock; the pod's own word is in the condition."""
    wrong = merged(spec, {"minLandlockABI": 64, "replicas": 1})
    async with pool(pools, "floorless", wrong) as name:
        condition = await pools.until_condition(name, "Confined", "False", 30)
        assert "Landlock" in condition["message"]
        await told(cluster, pools.namespace, name, condition["reason"])
        assert await pods_made(cluster, pools.namespace, name, STORM_SECONDS) <= 5

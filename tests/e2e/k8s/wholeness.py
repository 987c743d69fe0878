"""Whether a pool is as it was when it had just started: the common release's, or a test's own."""

from collections.abc import AsyncIterator
from typing import Final

from harness.waiting import until
from redis.asyncio import Redis

from k8s.cluster import Pools
from warmpool.registry import Counts, Registry

POOL: Final = "default"
PODS: Final = 3
TOLD: Final = ("desired", "replicas", "readyReplicas", "updatedReplicas")
WHOLE_SECONDS: Final = 45.0
"""For pods to be replaced beside whatever else two cores do; a pod takes 2 to 4 s to start."""


async def until_whole(pools: Pools, registry: Registry, pods: int = PODS, seconds: float = WHOLE_SECONDS) -> None:
    """Waits until every pod of the registry's pool is idle, the registry knows those that the cluster has, and the
    pool's status counts as many: it is written a second later at most, idle and leased pods more rarely."""
    seen: object = None

    async def is_whole() -> bool:
        nonlocal seen
        counts = await registry.counts()
        known = sorted(pod.id for pod in await registry.pods())
        there = sorted(pod.metadata.name for pod in await pools.pods(registry.pool))
        told = (await pools.get(registry.pool)).get("status", {})
        seen = f"{counts}; the registry knows {known}, the cluster has {there}, the status says {told}"
        as_many = counts == Counts(warming=0, idle=pods, leased=0, retiring=0) and known == there
        return as_many and {told.get(name) for name in TOLD} == {pods}

    try:
        await until(is_whole, seconds, "the pool is whole")
    except AssertionError as fault:
        raise AssertionError(f"{fault}: {seen}") from fault


async def left_over(pools: Pools, redis: Redis, registry: Registry) -> list[str]:
    """What a pool without leases has in Redis of pods that are no more. That they are gone it may say, for a while."""
    there = {pod.metadata.name for pod in await pools.pods(registry.pool)}
    return [said async for said in _left_over(redis, f"warmpool:{{{registry.pool}}}:", there)]


async def _left_over(redis: Redis, root: str, there: set[str]) -> AsyncIterator[str]:
    async for key in redis.scan_iter(match=f"{root}*"):
        name, kind = key.removeprefix(root), await redis.type(key)
        if kind == "zset":
            for pod in await redis.zrange(key, 0, -1):
                if pod not in there:
                    yield f"{pod} in {name}"
        elif name == "tenants":
            yield f"{name}: {await redis.hgetall(key)}"
        elif name.startswith("pod:") and name.removeprefix("pod:") not in there:
            record = await redis.hgetall(key)
            if record != {"state": "gone"} or await redis.ttl(key) < 0:
                yield f"{name}: {record}"

"""Whether the common release's pool is as it was when it had just started."""

from typing import Final

from harness.waiting import until

from k8s.cluster import Pools
from warmpool.registry import Counts, Registry

POOL: Final = "default"
PODS: Final = 3
WHOLE_SECONDS: Final = 45.0
"""For pods to be replaced beside whatever else two cores do; a pod takes 2 to 4 s to start."""


async def until_whole(pools: Pools, registry: Registry, pods: int = PODS, seconds: float = WHOLE_SECONDS) -> None:
    """Waits until every pod of the default pool is idle, and the registry knows those that the cluster has."""
    seen: object = None

    async def is_whole() -> bool:
        nonlocal seen
        counts = await registry.counts()
        known = sorted(pod.id for pod in await registry.pods())
        there = sorted(pod.metadata.name for pod in await pools.pods(POOL))
        seen = f"{counts}; the registry knows {known}, the cluster has {there}"
        return counts == Counts(warming=0, idle=pods, leased=0, retiring=0) and known == there

    try:
        await until(is_whole, seconds, "the pool is whole")
    except AssertionError as fault:
        raise AssertionError(f"{fault}: {seen}") from fault

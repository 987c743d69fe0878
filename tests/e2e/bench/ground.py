"""What every stage stands on: the release under test, its pool, and programs that run in a gateway's container."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.waiting import until
from k8s.cluster import Cluster, Pools
from k8s.release import Release
from k8s.service import Addresses, any_pod

from warmpool.registry import Counts, Registry

POOL: Final = "default"
INSIDE: Final = (Path(__file__).parent / "inside.py").read_text()
FULL_SECONDS: Final = 240.0
"""For a pool of 40 to be made again after 100 executions of single use, on two cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    cluster: Cluster
    release: Release
    reached: Addresses
    pools: Pools
    registry: Registry

    async def inside(self, *what: object) -> dict[str, Any]:
        """Runs `inside.py` in a gateway's container."""
        pod = await any_pod(self.cluster, self.release, "gateway")
        return dict(await self.cluster.python_in(pod, INSIDE, *map(str, what)))

    async def shape(self, replicas: int, mode: str = "reuse") -> None:
        """Makes the pool so, and waits until every pod of it is idle."""
        await self.pools.merge(POOL, {"replicas": replicas, "recycle": {"mode": mode}})
        await self.pools.until_condition(POOL, "Ready", "True", FULL_SECONDS)
        await self.until_idle(replicas)

    async def until_idle(self, number: int) -> None:
        """And no other pod is there, in whatever state."""
        expected = Counts(warming=0, idle=number, leased=0, retiring=0)

        async def are_idle() -> bool:
            return await self.registry.counts() == expected

        await until(are_idle, FULL_SECONDS, f"{number} pods are idle")

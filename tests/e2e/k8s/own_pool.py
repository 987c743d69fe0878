"""A pool of one test: its operators, its Redis and whoever leases from it are the test's own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.waiting import until
from kubernetes.aio import client
from redis.asyncio import Redis

from k8s import faulty_operator, own_operator
from k8s.cluster import Cluster, Pools
from k8s.own_operator import Process
from k8s.seen import Seen, watching
from k8s.wholeness import WHOLE_SECONDS, left_over, until_whole
from warmpool.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnPool:
    name: str
    cluster: Cluster
    pools: Pools
    redis: Redis
    registry: Registry
    seen: Seen
    """Its pods, since before the first."""
    variables: dict[str, str]
    """Of its operators' environment. Its Lease has its name."""
    log: Path
    """Of all its operators."""

    def operator(self, *faults: str, **changed: str) -> AbstractAsyncContextManager[Process]:
        """The product's program as it is, or with faults of faulty_operator.py."""
        program = [*faulty_operator.PROGRAM, *faults] if faults else own_operator.PROGRAM
        return own_operator.operating({**self.variables, **changed}, self.log, program)

    @asynccontextmanager
    async def kept_operator(self, *faults: str, **changed: str) -> AsyncIterator[list[int]]:
        """One that is started again whenever it ends, as a kubelet does. Yields the codes with which it ended."""
        ends: list[int] = []

        async def keep() -> None:
            while True:
                async with self.operator(*faults, **changed) as process:
                    ends.append(await process.wait())

        keeping = asyncio.create_task(keep())
        try:
            yield ends
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping

    async def holder(self) -> str:
        """Which operator leads."""
        found = await client.CoordinationV1Api(self.cluster.api).read_namespaced_lease(self.name, self.pools.namespace)
        return str(found.spec.holder_identity)

    async def create(self, **spec: Any) -> None:
        await self.pools.create(self.name, own_operator.spec(**spec))

    async def change(self, **spec: Any) -> None:
        await self.pools.merge(self.name, spec)

    async def until_whole(self, pods: int, seconds: float = WHOLE_SECONDS) -> None:
        """So many idle pods, known in Redis and in the cluster; and nothing of any other."""
        await until_whole(self.pools, self.registry, pods, seconds)

        async def is_nothing_else() -> bool:  # a pod that was just killed may have been counted a moment before
            return await left_over(self.pools, self.redis, self.registry) == []

        await until(is_nothing_else, seconds, "nothing of any other pod is left")


@asynccontextmanager
async def prepared(
    name: str, cluster: Cluster, namespace: str, redis: Redis, redis_url: str, log: Path
) -> AsyncIterator[OwnPool]:
    """Not made yet. It goes at the end, with or without an operator."""
    pools = Pools(cluster, namespace)
    variables = own_operator.environment(namespace, redis_url, WARMPOOL_OPERATOR__LEASE_NAME=name)
    try:
        async with watching(cluster, namespace, name) as seen:
            yield OwnPool(
                name=name, cluster=cluster, pools=pools, redis=redis, registry=Registry(redis, name), seen=seen,
                variables=variables, log=log,
            )  # fmt: skip
    finally:
        await own_operator.abandon(pools, name)

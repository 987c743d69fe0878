"""The registry of a world: its model, with answers that come late, are lost, or never come."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core.tests.registry.model import Model
from warmpool.errors import QuotaExceeded, Superseded, Unavailable
from warmpool.registry import Counts, Demand, Lease, NoPod, PodState, Retirement, Standing

if TYPE_CHECKING:
    from operator_tests.world import Cluster

EPOCH = 1_000_000.0
"""Redis's clock is ahead of ours."""


@dataclass
class Redis:
    """The registry's model, with a clock, and with answers that are lost or never come."""

    cluster: "Cluster"
    model: Model = field(default_factory=Model)
    term: int = 0
    listeners: list[asyncio.Event] = field(default_factory=list)
    demand: dict[str, Demand] = field(default_factory=dict)

    def tick(self) -> Model:
        self.model.now = round(EPOCH + self.cluster.now, 6)
        return self.model

    def flush(self) -> None:
        self.cluster.fence_at_loss = max(self.cluster.fence_at_loss, self.model.fence)
        self.model.lose()
        self.term = 0
        self.demand.clear()

    def publish(self) -> None:
        for listener in self.listeners:
            listener.set()


class SimRegistry:
    """The Registry's methods that the keeper and the gateways use."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._term = 0

    async def take_over(self) -> None:
        def step(model: Model) -> int:
            self._redis.term = max(self._redis.term + 1, round(model.now * 1e6))
            return self._redis.term

        self._term = await self._call(step)

    async def _call(self, step: Callable[[Model], Any]) -> Any:
        cluster = self._redis.cluster
        await asyncio.sleep(cluster.random.uniform(0.0002, 0.002))
        away = cluster.random.random() < cluster.faults.redis_away
        if away and cluster.random.random() < 0.5:
            raise Unavailable("away")
        before = {id for id, it in self._redis.model.entries.items() if it.pod.state is PodState.RETIRING}
        result = step(self._redis.tick())
        after = {id for id, it in self._redis.model.entries.items() if it.pod.state is PodState.RETIRING}
        if after - before:
            self._redis.publish()
        if away:
            raise Unavailable("away")
        return result

    async def _own(self, step: Callable[[Model], Any]) -> Any:
        def fenced(model: Model) -> Any:
            if self._term < self._redis.term:
                raise Superseded("superseded")
            self._redis.term = self._term
            return step(model)

        return await self._call(fenced)

    async def announce(self, pod: str) -> bool:
        return bool(await self._own(lambda model: model.announce(pod)))

    async def register(
        self, pod: str, address: str, *, max_executions: int, max_age_seconds: float, per_tenant: bool = False
    ) -> bool:
        done = await self._own(lambda model: model.register(pod, address, max_executions, max_age_seconds, per_tenant))
        return bool(done)

    async def heartbeat(self, pods: Sequence[str]) -> Any:
        return await self._call(lambda model: model.heartbeat(pods))

    async def retire(self, pod: str, reason: str) -> bool:
        return bool(await self._own(lambda model: model.retire(pod, reason)))

    async def remove(self, pod: str) -> None:
        await self._own(lambda model: model.remove(pod))

    async def destroy(self) -> None:
        await self._call(lambda model: model.lose())

    async def reap(self) -> Any:
        return await self._call(lambda model: model.reap())

    async def aged(self) -> Any:
        return await self._call(lambda model: model.aged())

    async def standings(self) -> dict[str, Standing]:
        def step(model: Model) -> dict[str, Standing]:
            return {
                id: Standing(
                    state=entry.pod.state,
                    marked=entry.pod.state is PodState.LEASED and entry.pod.reason is not None,
                    bound=entry.pod.state is PodState.IDLE and entry.bound is not None,
                    worn=entry.pod.state is PodState.RETIRING and entry.pod.reason == Retirement.MAX_EXECUTIONS,
                )
                for id, entry in model.entries.items()
            }  # fmt: skip

        return dict(await self._call(step))

    async def counts(self) -> Counts:
        def step(model: Model) -> Counts:
            states = [entry.pod.state for entry in model.entries.values()]
            return Counts(
                warming=states.count(PodState.WARMING), idle=states.count(PodState.IDLE),
                leased=states.count(PodState.LEASED), retiring=states.count(PodState.RETIRING),
            )  # fmt: skip

        counts: Counts = await self._call(step)
        return counts

    async def demands(self, _: float) -> dict[str, Demand]:
        return dict(await self._call(lambda _: self._redis.demand))

    @asynccontextmanager
    async def changes(self) -> AsyncIterator[AsyncIterator[None]]:
        news = asyncio.Event()
        self._redis.listeners.append(news)

        async def items() -> AsyncIterator[None]:
            while True:
                await news.wait()
                news.clear()
                yield None

        try:
            yield items()
        finally:
            self._redis.listeners.remove(news)

    async def acquire(self, tenant: str, hold: float) -> Lease | NoPod:
        def step(model: Model) -> Any:
            return model.acquire("e", tenant, "g", hold, 1000)

        got = await self._call(step)
        if got == "quota":
            raise QuotaExceeded(retry_after=1.0, quota=1000)
        return got  # type: ignore[no-any-return]

    async def release(self, lease: Lease, clean: bool) -> Any:
        return await self._call(lambda model: model.release(lease, clean))

"""A pool on an empty Redis, with time in the test's hand."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

import pytest
from redis.asyncio import Redis

from warmpool.registry import Lease, NoPod, Pod, Registry, connect

HEARTBEAT_SECONDS = 15.0
HOLD_SECONDS = 30.0


@dataclass
class Clock:
    """Whole microseconds, as the scripts count."""

    micros: int = 1_800_000_000_000_000

    def __call__(self) -> float:
        return self.micros / 1e6

    def advance(self, seconds: float) -> None:
        self.micros += round(seconds * 1e6)


@dataclass
class Pool:
    """A registry with what most tests do to it, in one line each."""

    redis: Redis
    registry: Registry
    clock: Clock
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    async def add(self, *pods: str, max_executions: int = 1000, max_age_seconds: float = 3600.0) -> None:
        for pod in pods:
            address = f"{pod}:7000"
            assert await self.registry.register(
                pod, address, max_executions=max_executions, max_age_seconds=max_age_seconds
            )

    async def acquire(self, tenant: str = "acme", quota: int = 1000, gateway: str = "g1") -> Lease | NoPod:
        return await self.registry.acquire(
            execution=f"e{next(self.numbers)}", tenant=tenant, gateway=gateway, hold_seconds=HOLD_SECONDS, quota=quota
        )

    async def lease(self, tenant: str = "acme") -> Lease:
        lease = await self.acquire(tenant)
        assert isinstance(lease, Lease)
        return lease

    async def pod(self, id: str) -> Pod | None:
        return next((pod for pod in await self.registry.pods() if pod.id == id), None)

    async def tenants(self) -> dict[str, int]:
        counts = await self.redis.hgetall(f"warmpool:{{{self.registry.pool}}}:tenants")
        return {tenant: int(leases) for tenant, leases in counts.items()}

    async def keep_alive(self, seconds: float) -> None:
        """Lets time pass, with the heartbeat of every pod."""
        while seconds > 0:
            step = min(seconds, HEARTBEAT_SECONDS / 3)
            self.clock.advance(step)
            await self.registry.heartbeat([pod.id for pod in await self.registry.pods()])
            seconds -= step


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """The client that the registry is meant to have, on an empty Redis."""
    client = connect(redis_url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pool(redis: Redis, clock: Clock) -> Pool:
    return Pool(redis, Registry(redis, "main", heartbeat_seconds=HEARTBEAT_SECONDS, clock=clock), clock)


@pytest.fixture
def pools(redis: Redis) -> Callable[[], Pool]:
    """Fresh pools in one database, for the examples of a property test."""
    numbers = count(1)

    def make() -> Pool:
        clock = Clock()
        registry = Registry(redis, f"pool-{next(numbers)}", heartbeat_seconds=HEARTBEAT_SECONDS, clock=clock)
        return Pool(redis, registry, clock)

    return make

"""A gateway as far as the registry sees one: it leases, keeps in service what answers, and gives back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from warmpool.registry import Lease, Registry

HOLD_SECONDS: Final = 120.0
UNSEEN_SECONDS: Final = 7.5
"""Half of what a pod may go unseen, as gateways have it."""
PAUSE_SECONDS: Final = 0.1


async def lease(registry: Registry, hold_seconds: float = HOLD_SECONDS) -> Lease:
    got = await registry.acquire(execution="e", tenant="t", gateway="g", hold_seconds=hold_seconds, quota=100)
    assert isinstance(got, Lease), got
    return got


@dataclass(slots=True)
class Gateway:
    """Leases one pod after the other, and says that its program left nothing behind."""

    registry: Registry
    dead: set[str] = field(default_factory=set)
    """Pods that do not answer."""
    served: int = 0

    async def run(self) -> None:
        while True:
            unseen = await self.registry.unseen(UNSEEN_SECONDS)
            await self.registry.heartbeat([pod for pod in unseen if pod not in self.dead])
            got = await self.registry.acquire(execution="e", tenant="t", gateway="g", hold_seconds=30, quota=100)
            if isinstance(got, Lease):
                answered = got.pod not in self.dead
                await self.registry.release(got, clean=answered)
                self.served += answered
            await asyncio.sleep(PAUSE_SECONDS)


@asynccontextmanager
async def serving(registry: Registry) -> AsyncIterator[Gateway]:
    """Raises what went wrong with it."""
    gateway = Gateway(registry)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(gateway.run())
        yield gateway
        running.cancel()

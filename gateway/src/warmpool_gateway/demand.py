"""What a gateway tells the operator of its callers, so that the pool is as large as they need it."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from warmpool.errors import RetryLater
from warmpool.registry import Demand, Lease, Registry

REPORT_SECONDS: Final = 1.0
URGENT_SECONDS: Final = 0.1
"""Between two reports when the first callers come to wait."""

logger = logging.getLogger(__name__)


class DemandReport:
    """Counts, and reports what it has counted once a second as long as there is anything new, else nothing."""

    def __init__(
        self, registry: Registry, gateway: str, waiting: Callable[[], int], clock: Callable[[], float]
    ) -> None:
        self._registry = registry
        self._gateway = gateway
        self._waiting = waiting
        self._clock = clock
        self._arrivals = 0
        self._releases = 0
        self._held_seconds = 0.0
        self._leased_at: dict[str, float] = {}
        self._reported = Demand()
        self._urgent = asyncio.Event()

    def arrived(self) -> None:
        self._arrivals += 1

    def waits(self) -> None:
        """A caller got no pod at once."""
        if not self._reported.waiting:
            self._urgent.set()

    def leased(self, lease: Lease) -> None:
        self._leased_at[lease.execution] = self._clock()

    def released(self, lease: Lease) -> None:
        since = self._leased_at.pop(lease.execution, None)
        if since is not None:
            self._releases += 1
            self._held_seconds += self._clock() - since

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.report()
            except RetryLater:
                pass  # the queue says that Redis is away
            except Exception:
                logger.exception("the pool's demand is not reported")
            with suppress(TimeoutError):
                async with asyncio.timeout(REPORT_SECONDS - URGENT_SECONDS):
                    await self._urgent.wait()
            self._urgent.clear()
            await asyncio.sleep(URGENT_SECONDS)

    async def report(self) -> None:
        """Nothing, where nothing changed and nobody waits. Raises Unavailable."""
        counted = Demand(
            arrivals=self._arrivals, releases=self._releases, held_seconds=self._held_seconds, waiting=self._waiting()
        )
        if counted != self._reported or counted.waiting:
            await self._registry.report_demand(self._gateway, counted)
            self._reported = counted

"""Ends executions in Redis: the lease goes back and the audit record is written, in one round trip.

Where Redis is away it goes on trying behind the caller's back: a lease until it has run out by itself, a record for
`GIVE_UP_SECONDS`. Both may be done twice without harm.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from warmpool.errors import RetryLater
from warmpool.records import STREAM, ExecutionRecord
from warmpool.registry import Lease
from warmpool_gateway import metrics
from warmpool_gateway.audit import fields_of
from warmpool_gateway.queue import PoolQueue

GIVE_UP_SECONDS: Final = 600.0
FIRST_DELAY_SECONDS: Final = 0.1
MAX_DELAY_SECONDS: Final = 2.0
MAX_LATE: Final = 10_000  # settlements in wait for Redis; at this many no execution is accepted
MAX_LATE_BYTES: Final = 64 * 1024 * 1024  # of their records, likewise: one may be 0.5 MB, and 10,000 of those are not

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Settlement:
    """What is still to be done for one execution."""

    lease: Lease | None
    clean: bool
    used: bool
    entry: dict[Any, Any] | None
    """What the stream gets of it: written out once, so that its weight is known while it waits."""

    @property
    def done(self) -> bool:
        return self.lease is None and self.entry is None

    @property
    def bytes(self) -> int:
        return 0 if self.entry is None else len(self.entry["record"])


class Settlements:
    """Built once; `aclose` it before Redis is closed."""

    def __init__(self, queue: PoolQueue, redis: Redis) -> None:
        self._queue = queue
        self._redis = redis
        self._late: set[asyncio.Task[None]] = set()
        self._late_bytes = 0

    @property
    def overloaded(self) -> bool:
        """Whether as much waits for Redis as may. What runs already is still kept when it ends."""
        return len(self._late) >= MAX_LATE or self._late_bytes >= MAX_LATE_BYTES

    async def settle(
        self, lease: Lease | None, *, clean: bool, used: bool = True, record: ExecutionRecord | None = None
    ) -> None:
        """Returns once Redis has both, or has failed to take them; then they follow later."""
        settlement = _Settlement(lease, clean, used, None if record is None else fields_of(record))
        if await self._attempt(settlement):
            return
        metrics.settlements_late.inc()
        id = None if record is None else record.id
        task = asyncio.get_running_loop().create_task(self._in_the_end(settlement, id))
        self._late.add(task)
        self._late_bytes += (size := settlement.bytes)
        task.add_done_callback(lambda task: self._leave(task, size))

    async def aclose(self, seconds: float) -> None:
        """Waits for what is late. What Redis does not take by then is in the log."""
        if self._late:
            await asyncio.wait(self._late, timeout=seconds)
        for task in list(self._late):
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)

    def _leave(self, task: asyncio.Task[None], size: int) -> None:
        self._late.discard(task)
        self._late_bytes -= size

    async def _attempt(self, settlement: _Settlement) -> bool:
        await asyncio.gather(self._release(settlement), self._write(settlement))
        return settlement.done

    async def _release(self, settlement: _Settlement) -> None:
        if settlement.lease is None:
            return
        try:
            await self._queue.release(settlement.lease, clean=settlement.clean, used=settlement.used)
        except RetryLater:
            return
        settlement.lease = None

    async def _write(self, settlement: _Settlement) -> None:
        if settlement.entry is None:
            return
        write: Awaitable[object] = self._redis.xadd(STREAM, settlement.entry)
        try:
            await write
        except RedisError:
            return
        settlement.entry = None

    async def _in_the_end(self, settlement: _Settlement, id: str | None) -> None:
        deadline = time.monotonic() + GIVE_UP_SECONDS
        delay = FIRST_DELAY_SECONDS
        try:
            while not settlement.done and time.monotonic() < deadline:
                await asyncio.sleep(delay)
                delay = min(MAX_DELAY_SECONDS, delay * 2)
                await self._attempt(settlement)
        finally:
            if settlement.entry is not None:  # its texts are the tenant's, and no business of the log
                metrics.settlements_lost.inc()
                logger.error("audit record lost: %s, %d bytes", id, settlement.bytes)

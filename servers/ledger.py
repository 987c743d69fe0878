"""What an execution has used of its grant, and the audit trail of its calls: both in Redis, a round trip each.

Counts are shared by all tool servers and vanish soon after the grant has ended. An audit entry is
written before the answer leaves, so that no answered call is missing from the trail.
"""

import math
from typing import Any, Final

from redis.asyncio import Redis

from warmpool.errors import ToolFailed
from warmpool.grants import Grant
from warmpool.records import STREAM, ToolAuditRecord

KEPT_SECONDS: Final = 60
"""Past the grant's end: a call under way may end after it."""


class BudgetExceeded(ToolFailed):
    """The execution has used up its grant."""


class Ledger:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def charge_call(self, grant: Grant) -> None:
        """Counts a call that is about to be made. Raises BudgetExceeded where the grant allows none."""
        key = _key(grant)
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.hincrby(key, "calls", 1)
            pipeline.hget(key, "bytes")
            pipeline.expireat(key, _end(grant))
            calls, used, _ = await pipeline.execute()
        _require("calls", int(calls), grant.max_calls)
        _require("bytes", int(used or 0), grant.max_bytes)

    async def settle(self, grant: Grant, record: ToolAuditRecord) -> None:
        """Writes the call down and counts its bytes. Raises BudgetExceeded where they were too many."""
        key = _key(grant)
        fields: dict[Any, Any] = dict(record.to_fields())  # redis-py's own type here is invariant
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.xadd(STREAM, fields)
            pipeline.hincrby(key, "bytes", record.response_bytes)
            pipeline.expireat(key, _end(grant))
            _, used, _ = await pipeline.execute()
        _require("bytes", int(used), grant.max_bytes)


def _key(grant: Grant) -> str:
    return f"warmpool:budget:{{{grant.tenant}:{grant.execution}}}"


def _end(grant: Grant) -> int:
    return math.ceil(grant.expires_at) + KEPT_SECONDS


def _require(unit: str, used: int, allowed: int) -> None:
    if used > allowed:
        raise BudgetExceeded(
            f"this execution may use {allowed} {unit} of tools and wants {used}; filter more, or ask for fewer results",
            code="budget_exceeded",
            unit=unit,
            used=used,
            allowed=allowed,
        )

"""Reads recorded executions: a tenant's own only, one by its id or many by pages of keys.

What was answered a moment ago may still be on its way from Redis; a look-up waits for it a little. How old an
execution is, its id says.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool
from redis.exceptions import RedisError

from warmpool.errors import NotFound, Unavailable
from warmpool_gateway.audit import AuditConsumer
from warmpool_gateway.encoding import Json, json_bytes
from warmpool_gateway.ids import created_at
from warmpool_gateway.sql import statement

FLUSH_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 0.1  # another gateway may be the one that writes it
POSTGRES_SECONDS: Final = 2.0  # for a connection

ONE: Final = statement("select_execution")
MANY: Final = statement("select_executions")
JSON_COLUMNS: Final = ("result", "error", "limits", "usage", "tool_calls")

Row = dict[str, Any]


class ExecutionStore:
    """`longest_seconds` is what an execution may take from its id to its record."""

    def __init__(
        self,
        postgres: AsyncConnectionPool[Any],
        audit: AuditConsumer,
        *,
        longest_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._postgres = postgres
        self._audit = audit
        self._longest_seconds = longest_seconds
        self._clock = clock

    async def get(self, tenant: str, id: str) -> bytes:
        """The execution as JSON. Raises NotFound, or Unavailable while Postgres is away."""
        try:
            asked: Row = {"tenant": tenant, "id": id, "created_at": created_at(id)}
        except ValueError as fault:
            raise NotFound(str(fault)) from fault
        row = await self._one(asked)
        if row is None and abs(self._clock() - asked["created_at"]) < self._longest_seconds:
            row = await self._late(asked)
        if row is None:
            raise NotFound(f"There is no execution {id}.")
        return json_bytes(_view(row))

    async def page(self, tenant: str, *, limit: int, cursor: str | None, status: str | None) -> bytes:
        """The executions before `cursor`, the newest first, as JSON. Raises Unavailable while Postgres is away."""
        asked = {
            "tenant": tenant,
            "limit": limit + 1,
            "status": status,
            "id": cursor,
            "created_at": None if cursor is None else created_at(cursor),
        }
        async with self._connection() as connection:
            # Never prepared: a plan made without the values cannot leave out what is NULL.
            cursor_ = await connection.cursor(row_factory=dict_row).execute(MANY, asked, prepare=False)
            rows: list[Row] = await cursor_.fetchall()
        more = len(rows) > limit
        page = {
            "executions": [_view(row) for row in rows[:limit]],
            "next_cursor": rows[limit - 1]["id"] if more else None,
        }
        return json_bytes(page)

    async def _one(self, asked: Row) -> Row | None:
        async with self._connection() as connection:
            cursor = await connection.cursor(row_factory=dict_row).execute(ONE, asked)
            row: Row | None = await cursor.fetchone()
            return row

    async def _late(self, asked: Row) -> Row | None:
        """Waits for a record that may be on its way, as long as any is."""
        deadline = time.monotonic() + FLUSH_SECONDS
        while True:
            underway = await self._underway()
            if underway:
                await self._audit.flush(LOOK_SECONDS)
            row = await self._one(asked)
            if row is not None or not underway or time.monotonic() > deadline:
                return row

    async def _underway(self) -> bool:
        try:
            return await self._audit.measure() > 0
        except RedisError:
            return False

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        try:
            async with self._postgres.connection(timeout=POSTGRES_SECONDS) as connection:
                yield connection
        except (
            psycopg.OperationalError,
            psycopg.errors.UndefinedTable,
        ) as fault:  # the latter in a new, empty database
            raise Unavailable("The records of executions are away; executions still run.", retry_after=2.0) from fault


def _view(row: Row) -> Row:
    view = {**row, "created_at": datetime.fromtimestamp(row["created_at"], UTC)}
    for column in JSON_COLUMNS:
        if column in view:
            view[column] = None if view[column] is None else Json(view[column])
    return view

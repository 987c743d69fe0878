"""Faults inside a tool: told in plain words, never with SQL or paths, and always written down."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import psycopg
import pytest
from prometheus_client import CollectorRegistry
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool
from redis.asyncio import Redis

from servers.calls import Calls, Metrics
from servers.embedding import HashedEmbedder
from servers.ledger import Ledger
from servers.problems import Problem
from servers.tests.serving import KEY, grant
from servers.tool import Arguments, Context, Record, tool
from warmpool.grants import sign
from warmpool.records import STREAM

Body: TypeAlias = Callable[[Context], Awaitable[Any]]


class Nothing(Arguments):
    pass


class Number(Record):
    number: int


async def answer(redis: Redis, pool: AsyncConnectionPool[AsyncConnection], body: Body) -> bytes | Problem:
    async def odd(context: Context, arguments: Nothing) -> Number:
        """A tool that goes wrong."""
        return await body(context)  # type: ignore[no-any-return]

    made = tool(category="test", read_only=True)(odd)
    calls = Calls(
        tools={"test.odd": made},
        database=pool,
        embedder=HashedEmbedder(),
        ledger=Ledger(redis),
        grant_key=KEY,
        timeout_seconds=0.2,
        metrics=Metrics(CollectorRegistry()),
    )
    return await calls.answer("test.odd", sign(grant(tools=("*",)), KEY), b"")


async def returns_text(context: Context) -> Any:
    return {"number": "no number"}


async def breaks(context: Context) -> Any:
    raise RuntimeError("secret /etc/passwd")


async def asks_nonsense(context: Context) -> Any:
    async with context.database.connection() as connection:
        await connection.execute("SELECT secret_column FROM products")


async def sleeps(context: Context) -> Any:
    await asyncio.sleep(60)


async def hogs_the_database(context: Context) -> Any:
    async with context.database.connection() as connection:
        await connection.execute("SET statement_timeout = '50ms'")
        await connection.execute("SELECT pg_sleep(60)")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (returns_text, 500, "internal"),
        (breaks, 500, "internal"),
        (asks_nonsense, 500, "internal"),
        (sleeps, 503, "timeout"),
        (hogs_the_database, 503, "timeout"),
    ],
)
async def test_a_fault_is_typed_logged_audited_and_leaks_nothing(
    redis: Redis,
    pool: AsyncConnectionPool[AsyncConnection],
    caplog: pytest.LogCaptureFixture,
    body: Body,
    status: int,
    code: str,
) -> None:
    with caplog.at_level(logging.WARNING):
        told = await answer(redis, pool, body)
    assert isinstance(told, Problem)
    assert (told.status, told.code) == (status, code)
    assert not any(word in json.dumps(told.body()) for word in ("secret", "SELECT", "/etc", "Traceback"))
    assert caplog.records
    assert [json.loads(fields["record"])["error"] for _, fields in await redis.xrange(STREAM)] == [code]


async def test_a_tool_that_takes_too_long_is_stopped_in_time(
    redis: Redis, pool: AsyncConnectionPool[AsyncConnection]
) -> None:
    began = time.monotonic()
    await answer(redis, pool, sleeps)
    assert time.monotonic() - began < 5


async def test_a_read_is_tried_again_once_where_its_connection_had_died(
    redis: Redis, pool: AsyncConnectionPool[AsyncConnection]
) -> None:
    tries = []

    async def dies_once(context: Context) -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise psycopg.errors.AdminShutdown
        return Number(number=len(tries))

    assert await answer(redis, pool, dies_once) == b'{"number":2}'

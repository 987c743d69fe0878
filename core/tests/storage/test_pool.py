"""A connection of the pool has the settings' timeouts."""

import time

import psycopg
import psycopg_pool
import pytest

from warmpool.settings import PostgresSettings
from warmpool.storage.pool import connection_pool


async def test_a_statement_past_its_timeout_is_cancelled(database: str) -> None:
    settings = PostgresSettings(dsn=database, timeout_seconds=0.1)
    async with connection_pool(settings) as pool:
        await pool.wait(10.0)  # connecting takes the longer part of that timeout on a busy machine
        async with pool.connection() as connection:
            with pytest.raises(psycopg.errors.QueryCanceled):
                await connection.execute("SELECT pg_sleep(10)")


async def test_an_absent_server_is_reported_after_the_timeout() -> None:
    pool = connection_pool(PostgresSettings(dsn="postgresql://nobody@/nowhere?host=/nonexistent", timeout_seconds=0.2))
    await pool.open()
    began = time.monotonic()
    with pytest.raises(psycopg_pool.PoolTimeout):
        async with pool.connection():
            pass
    assert time.monotonic() - began < 5
    await pool.close()

"""The one way to a pool of PostgreSQL connections, so that none lacks a timeout."""

import math
from collections.abc import Mapping

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from warmpool.settings import PostgresSettings


def connection_pool(
    settings: PostgresSettings, session: Mapping[str, str] | None = None
) -> AsyncConnectionPool[AsyncConnection]:
    """A pool that is not open yet: `await pool.open()`, which does not wait for the server, or `async with`.

    Connections commit each statement; use `connection.transaction()` for more. `session` holds further
    settings of each connection, as of `SET`, without spaces. While the server is away,
    `pool.connection()` raises `psycopg_pool.PoolTimeout` after `timeout_seconds`.
    """
    chosen = {"statement_timeout": str(round(settings.timeout_seconds * 1000)), **(session or {})}
    return AsyncConnectionPool(
        settings.dsn,
        min_size=1,
        max_size=settings.pool_size,
        open=False,
        timeout=settings.timeout_seconds,
        # Attempts of one series wait 1, 2, 4 ... s. A short series that begins anew with the next
        # caller finds a returned server within seconds; the default of 5 minutes may wait for two.
        reconnect_timeout=settings.timeout_seconds,
        kwargs={
            "autocommit": True,
            "connect_timeout": max(2, math.ceil(settings.timeout_seconds)),
            "options": " ".join(f"-c {name}={value}" for name, value in chosen.items()),
        },
    )

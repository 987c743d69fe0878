"""Brings a database to the schema of this version: the numbered SQL files of `migrations/`, in order, once each.

Forward only. Each file runs in a transaction of its own together with the note that it ran, so a
failure leaves the database at the last good file. Several processes may start at once: one migrates,
the others wait for it.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final

import psycopg
from psycopg import AsyncConnection

from warmpool.errors import PlatformError

LOCK: Final = 7_391_645_120_846
"""The advisory lock's number; any will do that nobody else in the database uses."""

LOCK_SECONDS: Final = 60

NOTES: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    name text PRIMARY KEY,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    name: str
    sql: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql).hexdigest()


def migrations() -> list[Migration]:
    """Those of this version, in order."""
    folder = resources.files("warmpool.storage") / "migrations"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return [Migration(name=file.name.removesuffix(".sql"), sql=file.read_bytes()) for file in files]


async def migrate(dsn: str, wanted: Sequence[Migration] | None = None) -> list[str]:
    """Applies what is missing and returns its names. Raises PlatformError where that cannot be done."""
    if wanted is None:
        wanted = await asyncio.to_thread(migrations)
    async with await AsyncConnection.connect(dsn, autocommit=True, connect_timeout=10) as connection:
        await connection.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
        await connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))  # given back when the connection closes
        await connection.execute(NOTES)
        missing = _missing(wanted, await _applied(connection))
        for migration in missing:
            await _apply(connection, migration)
    return [migration.name for migration in missing]


async def _applied(connection: AsyncConnection) -> dict[str, str]:
    rows = await connection.execute("SELECT name, sha256 FROM schema_migrations")
    return {name: sha256 async for name, sha256 in rows}


def _missing(wanted: Sequence[Migration], applied: dict[str, str]) -> list[Migration]:
    for migration in wanted:
        if applied.get(migration.name, migration.sha256) != migration.sha256:
            raise PlatformError(
                f"migration {migration.name} has changed since this database applied it; "
                "put the file back and write the change as a new migration"
            )
    return [migration for migration in wanted if migration.name not in applied]


async def _apply(connection: AsyncConnection, migration: Migration) -> None:
    try:
        async with connection.transaction():
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO schema_migrations (name, sha256) VALUES (%s, %s)", (migration.name, migration.sha256)
            )
    except psycopg.Error as fault:
        raise PlatformError(f"migration {migration.name} failed: {fault}") from fault

"""Migrations run once, in order, whoever starts them and however often."""

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from warmpool.errors import PlatformError
from warmpool.local.embedded import PostgresServer
from warmpool.storage.migrate import Migration, migrate, migrations

FIRST = Migration(name="0001_first", sql=b"CREATE TABLE first (id int); CREATE TABLE also (id int);")
SECOND = Migration(name="0002_second", sql=b"ALTER TABLE first ADD COLUMN name text;")
BROKEN = Migration(name="0003_broken", sql=b"CREATE TABLE half (id int); SELECT nonsense;")


@pytest.fixture
def empty(postgres_server: PostgresServer) -> Iterator[str]:
    with psycopg.connect(postgres_server.address, autocommit=True) as connection:
        connection.execute("CREATE DATABASE empty")
        yield postgres_server.dsn("empty")
        connection.execute("DROP DATABASE empty WITH (FORCE)")


async def test_each_migration_runs_once(empty: str) -> None:
    assert await migrate(empty, [FIRST]) == ["0001_first"]
    assert await migrate(empty, [FIRST, SECOND]) == ["0002_second"]
    assert await migrate(empty, [FIRST, SECOND]) == []


async def test_processes_that_start_together_apply_each_migration_once(empty: str) -> None:
    applied = await asyncio.gather(*(migrate(empty, [FIRST, SECOND]) for _ in range(5)))
    assert sorted(map(len, applied)) == [0, 0, 0, 0, 2]


async def test_a_failing_migration_leaves_the_database_at_the_last_good_one(empty: str) -> None:
    with pytest.raises(PlatformError, match=r"0003_broken failed: .*nonsense"):
        await migrate(empty, [FIRST, BROKEN])
    with psycopg.connect(empty) as connection:
        assert connection.execute("SELECT to_regclass('first') IS NOT NULL, to_regclass('half')").fetchone() == (
            True,
            None,
        )


async def test_a_migration_that_was_changed_after_it_ran_is_refused(empty: str) -> None:
    await migrate(empty, [FIRST])
    with pytest.raises(PlatformError, match="0001_first has changed"):
        await migrate(empty, [Migration(name=FIRST.name, sql=b"SELECT 1")])


def test_the_migrations_are_numbered_without_a_gap() -> None:
    numbers = [int(migration.name.split("_")[0]) for migration in migrations()]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_this_versions_migrations_apply_twice_without_change(database: str) -> None:
    assert await migrate(database) == []

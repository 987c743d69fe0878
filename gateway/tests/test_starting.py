"""A gateway process that starts before what it stands on, as in a fresh installation."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from warmpool.storage.migrate import migrate


@pytest.fixture
def database(copy_of: Callable[[str], AbstractContextManager[str]]) -> Iterator[str]:
    """Without tables, and closed to everyone."""
    with copy_of("template0") as dsn:
        allow_connections(dsn, False)
        yield dsn


def allow_connections(dsn: str, allowed: bool) -> None:
    name = sql.Identifier(str(conninfo_to_dict(dsn)["dbname"]))
    with psycopg.connect(dsn, dbname="postgres", autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(name, allowed))


async def test_it_serves_without_a_restart_once_the_database_is_there_and_migrated(launch, database):
    async with launch() as gateway:
        await gateway.add_pods(1)
        gateway.may_end.set()
        unready = await gateway.until_ready(503)
        assert (unready["checks"]["postgres"], unready["checks"]["keys"]) == ("away", "not loaded")

        await asyncio.to_thread(allow_connections, database, True)
        while unready["checks"]["postgres"] != "ok":
            unready = await gateway.until_ready(503)
        assert unready["checks"]["keys"] == "not loaded"
        status, _, problem = await gateway.run()
        assert (status, problem["detail"]) == (503, "The API keys have not been loaded yet.")

        await migrate(database)
        await gateway.make_key(database)
        await gateway.until_ready(200)
        while (answer := await gateway.run())[0] == 401:  # its key is read within 2 s
            await asyncio.sleep(0.1)
        assert answer[0] == 200
        assert await recorded(database) == answer[2]["id"]


async def recorded(database: str) -> str | None:
    """The only execution, once it is written."""
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection, asyncio.timeout(10):
        while not (row := await (await connection.execute("SELECT id FROM executions")).fetchone()):
            await asyncio.sleep(0.05)
        return row[0]

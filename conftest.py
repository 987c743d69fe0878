"""What every test may ask for: a real Redis, a real PostgreSQL, and a guard against blocking calls.

Both servers start once a run, in folders of their own, and end with it.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType

import psycopg
import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings
from psycopg import sql
from redis.asyncio import Redis

from warmpool.local.embedded import PostgresServer, RedisServer, service_folder
from warmpool.storage.migrate import migrate

settings.register_profile("warmpool", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("warmpool")

TEMPLATE = "warmpool_template"

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The server itself, for tests that stop or restart it; leave it running."""
    with service_folder() as folder:
        server = RedisServer(folder)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def redis_url(redis_server: RedisServer) -> str:
    return redis_server.address


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of an empty database."""
    client = redis_client(redis_url)
    await client.flushall()
    yield client
    await client.aclose()


def redis_client(url: str) -> Redis:
    # Blocking reads must outlive the package's default of 5 s a command.
    return Redis.from_url(url, decode_responses=True, socket_timeout=None)


class Relay:
    """A way over TCP, as clusters have it, to the unix socket of a Redis."""

    def __init__(self, path: str) -> None:
        self.url = ""
        self._path = path
        self._ways: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_redis, to_redis = await asyncio.open_unix_connection(self._path)
        self._ways |= {asyncio.create_task(_copy(reader, to_redis)), asyncio.create_task(_copy(from_redis, writer))}

    async def until_cut(self) -> None:
        """Returns once Redis has closed one of its connections at least, and their clients can know."""
        await asyncio.wait(self._ways, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0)

    async def aclose(self) -> None:
        for way in self._ways:
            way.cancel()
        await asyncio.gather(*self._ways, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
    finally:
        writer.close()


@pytest.fixture
async def redis_relay(redis_server: RedisServer) -> AsyncIterator[Relay]:
    relay = Relay(str(redis_server.socket))
    async with await asyncio.start_server(relay.serve, "127.0.0.1", 0) as server:
        relay.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        yield relay
        await relay.aclose()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The server itself, for tests that stop or restart it; leave it running."""
    with service_folder() as folder:
        server = PostgresServer(folder)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    """A migrated database that the others are copied from."""
    _administer(postgres_server, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    asyncio.run(migrate(postgres_server.dsn(TEMPLATE)))
    return TEMPLATE


@pytest.fixture(scope="session")
def copy_of(postgres_server: PostgresServer) -> Callable[[str], AbstractContextManager[str]]:
    """`with copy_of(template) as dsn`: a database of one's own, dropped at the end."""

    @contextmanager
    def copy(template: str) -> Iterator[str]:
        name = f"test_{next(_numbers)}"
        create = "CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY"
        _administer(postgres_server, sql.SQL(create).format(sql.Identifier(name), sql.Identifier(template)))
        try:
            yield postgres_server.dsn(name)
        finally:
            _administer(postgres_server, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    return copy


@pytest.fixture
def database(copy_of: Callable[[str], AbstractContextManager[str]], postgres_template: str) -> Iterator[str]:
    """The DSN of a fresh, migrated database."""
    with copy_of(postgres_template) as dsn:
        yield dsn


@pytest.fixture
def postgres_dsn(database: str) -> str:
    return database


def _administer(server: PostgresServer, statement: sql.Composed) -> None:
    with psycopg.connect(server.address, autocommit=True) as connection:
        connection.execute(statement)


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[None]:
    """Fails a call that blocks the event loop and was made, at any depth, by the project's own code."""
    ours = ["warmpool", "warmpool_gateway", "warmpool_sandbox", "warmpool_loadtests", "servers"]
    tests = ModuleType("servers.tests")  # lies within a package, and may block
    tests.__path__ = [str(Path(__file__).parent / "servers" / "tests")]
    with blockbuster_ctx(ours, excluded_modules=["warmpool.local.embedded", tests]):
        yield

"""Everything of warmpool on one machine, started in order and ended in reverse.

`warmpool up`, the demo, the benchmarks and the fault tests all run on this. Nothing in the parts it starts knows
of it: each gets addresses and settings, as on a cluster.
"""

import asyncio
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from servers.catalogue.generate import generate
from servers.catalogue.importer import Format, import_catalogue
from servers.embedding import embedder
from warmpool import secret_files
from warmpool.errors import PlatformError
from warmpool.local import standin
from warmpool.local.embedded import PostgresServer, RedisServer
from warmpool.local.pool import LocalPool
from warmpool.local.service import Service
from warmpool.local.staging import stage
from warmpool.registry import Registry, connect
from warmpool.settings import Settings
from warmpool.storage.migrate import migrate
from warmpool_gateway.keys import create_key, list_keys, revoke_key

DATABASE: Final = "warmpool"
TENANT: Final = "demo"
KEY_NAME: Final = "single machine"
POOL_SECONDS: Final = 60.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to start."""

    port: int = 0
    """Of the gateway; 0 takes a free one."""
    pods: int = field(default_factory=lambda: max(4, 2 * (os.cpu_count() or 1)))
    data: Path | None = None
    """Where Redis, Postgres and the keys stay after the end; None is a folder that goes with the run."""
    products: int = 2000
    """Size of the catalogue that is generated where the tenant has none; 0 for none."""
    seed: int = 1
    catalogue: Path | None = None
    """A file to import instead."""
    format: Format = "woocommerce-csv"
    settings: Mapping[str, str] = field(default_factory=dict)
    """Further settings of the services, by the names of their variables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """What runs, and how to reach it."""

    url: str
    api_key: str
    folder: Path
    environment: dict[str, str]
    """Settings that let every `warmpool` command talk to this stack."""
    settings: Settings
    redis: RedisServer
    postgres: PostgresServer
    pool: LocalPool
    keeping: "asyncio.Task[None]"
    """Keeps the pool; ends by a fault only."""
    registry: Registry
    gateway: Service
    tools: Service
    has_stand_in: bool


@asynccontextmanager
async def running(plan: Plan, say: Say = lambda line: None) -> AsyncIterator[Stack]:
    """The whole service for as long as the block; then no process and no folder of the run is left.

    Raises PlatformError, in plain words, for whatever does not start.
    """
    timed = _Steps(say)
    try:
        async with AsyncExitStack() as exits:
            folder = exits.enter_context(_run_folder())
            data = plan.data or folder
            redis, postgres = _servers(exits, data, persistent=plan.data is not None)
            timed.done("Redis 6.2 and PostgreSQL 18 with pgvector")
            secret_files.create(data / "secrets")
            environment = {**plan.settings, **_environment(exits, redis, postgres, data)}
            settings = _settings(environment)
            await migrate(settings.postgres.dsn)
            api_key = await _api_key(settings)
            await asyncio.to_thread(_fill_catalogue, plan, settings, folder)
            timed.done("catalogue")
            client = connect(settings.redis.url)
            exits.push_async_callback(client.aclose)
            registry = Registry(client, settings.pool.name, heartbeat_seconds=settings.pool.heartbeat_seconds)
            pool, keeping = await _start_pool(exits, plan, settings, registry, folder)
            timed.done(f"{plan.pods} warm sandboxes")
            tools = await _start(exits, Service("servers", folder / "tools.log", environment))
            environment["WARMPOOL_TOOLS__URL"] = tools.url
            gateway = await _start(
                exits, Service("warmpool_gateway", folder / "gateway.log", environment, port=plan.port)
            )
            await asyncio.gather(tools.ready(), gateway.ready())
            timed.done("tool server and gateway")
            (folder / "environment").write_text(
                "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
            )
            running = Stack(
                url=gateway.url,
                api_key=api_key,
                folder=folder,
                environment=environment,
                settings=_settings(environment),
                redis=redis,
                postgres=postgres,
                pool=pool,
                keeping=keeping,
                registry=registry,
                gateway=gateway,
                tools=tools,
                has_stand_in=environment.get("WARMPOOL_MODEL__NAME") == standin.MODEL,
            )
            try:
                yield running
            finally:
                timed.restart()
    finally:
        timed.done("ended, nothing left behind")


class _Steps:
    """Says each step with the time it took."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._began = time.monotonic()

    def done(self, what: str) -> None:
        self._say(f"{what} ({time.monotonic() - self._began:.1f} s)")
        self.restart()

    def restart(self) -> None:
        self._began = time.monotonic()


@contextmanager
def _run_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="warmpool-"))
    try:
        folder.chmod(0o711)  # the users of sandboxes and servers pass through to what is theirs
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _servers(exits: AsyncExitStack, data: Path, *, persistent: bool) -> tuple[RedisServer, PostgresServer]:
    """Started here and now: the kernel ties their lives to this thread's."""
    redis = RedisServer(data / "redis", persistent=persistent)
    postgres = PostgresServer(data / "postgres", persistent=persistent)
    for server in (redis, postgres):
        exits.callback(server.stop)
        server.start()
    _create_database(postgres)
    return redis, postgres


def _create_database(postgres: PostgresServer) -> None:
    with psycopg.connect(postgres.address, autocommit=True) as connection:
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
        if known is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))


def _environment(exits: AsyncExitStack, redis: RedisServer, postgres: PostgresServer, data: Path) -> dict[str, str]:
    environment = {
        "WARMPOOL_REDIS__URL": redis.address,
        "WARMPOOL_POSTGRES__DSN": postgres.dsn(DATABASE),
        "WARMPOOL_SECRETS__PATH": str(data / "secrets"),
        # Nobody shares the load here, and whoever ends the stack waits for it: `service.STOP_SECONDS` is above both.
        "WARMPOOL_STOP__LINGER_SECONDS": "0",
        "WARMPOOL_STOP__GRACE_SECONDS": "5",
    }
    if not {"OPENAI_API_KEY", "WARMPOOL_MODEL__BASE_URL"} & set(os.environ):
        environment["WARMPOOL_MODEL__BASE_URL"] = exits.enter_context(standin.running())
        environment["WARMPOOL_MODEL__NAME"] = standin.MODEL
    elif "WARMPOOL_MODEL__NAME" not in os.environ:
        raise PlatformError("a model's API is given, but not which model to ask: set WARMPOOL_MODEL__NAME")
    return environment


def _settings(environment: Mapping[str, str]) -> Settings:
    """As the services read them: what was given to us, with the stack's own addresses over it."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        return Settings.of_environment()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _fill_catalogue(plan: Plan, settings: Settings, folder: Path) -> None:
    """Imports the given file, or a generated one where the tenant has no catalogue yet."""
    file, format = plan.catalogue, plan.format
    if file is None:
        if not plan.products or _has_products(settings):
            return
        file, format = folder / "catalogue.csv", "woocommerce-csv"
        generate(file, format=format, products=plan.products, seed=plan.seed)
    try:
        import_catalogue(
            file, format=format, tenant=TENANT, dsn=settings.postgres.dsn, embedder=embedder(settings.embedding)
        )
    except ValueError as fault:
        raise PlatformError(f"{file}: {fault}") from fault


def _has_products(settings: Settings) -> bool:
    with psycopg.connect(settings.postgres.dsn) as connection:
        return connection.execute("SELECT 1 FROM products WHERE tenant = %s LIMIT 1", [TENANT]).fetchone() is not None


async def _start_pool(
    exits: AsyncExitStack, plan: Plan, settings: Settings, registry: Registry, folder: Path
) -> "tuple[LocalPool, asyncio.Task[None]]":
    (folder / "pods").mkdir(mode=0o711)
    pool = LocalPool(
        registry,
        folder / "pods",
        stage(folder / "sandbox"),
        settings=settings.pool,
        key=settings.secrets.read("pool"),
        size=plan.pods,
    )
    task = asyncio.create_task(pool.run())
    exits.push_async_callback(_cancel, task)
    ready = asyncio.create_task(pool.ready.wait())
    await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED, timeout=POOL_SECONDS)
    ready.cancel()
    if task.done():
        await task
    if not pool.ready.is_set():
        raise PlatformError(f"the sandboxes did not start: {pool.last_failure or 'they took too long'}")
    return pool, task


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _start(exits: AsyncExitStack, service: Service) -> Service:
    exits.push_async_callback(service.stop)
    await service.start()
    return service


async def _api_key(settings: Settings) -> str:
    """A key of this run's own; those of earlier runs on the same data count no more."""
    async with await psycopg.AsyncConnection.connect(settings.postgres.dsn, autocommit=True) as connection:
        for key in await list_keys(connection):
            if key.name == KEY_NAME and key.revoked_at is None:
                await revoke_key(connection, key.id)
        _, text = await create_key(connection, settings.secrets.read("pepper"), tenant=TENANT, name=KEY_NAME)
    return text

"""The long-lived things of a gateway: built once in order, handed down by parameters, closed in reverse.

Whether the gateway is ready is asked of these same things.
"""

import asyncio
import logging
import secrets
import socket
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Self

import psycopg
from psycopg_pool import AsyncConnectionPool
from redis.exceptions import RedisError

from warmpool.errors import Unavailable
from warmpool.registry import Counts, Registry
from warmpool.settings import SecretSettings, Settings
from warmpool.storage.pool import connection_pool
from warmpool_gateway import metrics
from warmpool_gateway.audit import AuditConsumer
from warmpool_gateway.executions import Executor
from warmpool_gateway.heartbeats import Heartbeats
from warmpool_gateway.introductions import Introductions
from warmpool_gateway.keys import KeyRing
from warmpool_gateway.pods import PodConnections
from warmpool_gateway.queue import PoolQueue
from warmpool_gateway.redis_link import PipelinedRedis
from warmpool_gateway.settlements import Settlements
from warmpool_gateway.store import ExecutionStore
from warmpool_gateway.tools import ToolServer

SETTLE_SECONDS: Final = 1.0  # at the end, for leases and records that Redis did not take at once
DRAIN_SECONDS: Final = 3.0  # after that, to move records to Postgres; Redis may take one of them to hand some over
POSTGRES_CHECK_SECONDS: Final = 1.0
NEEDED: Final = ("redis", "keys")
ROUTE_SECONDS: Final = 30.0
"""For which a gateway that starts may have no way to the tool server: network policies know a new pod some seconds
late, 20 in a cluster whose API server was just away. The others serve meanwhile."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """The three keys, read before the event loop starts."""

    pool: bytes
    grant: bytes
    pepper: bytes

    @classmethod
    def read(cls, settings: SecretSettings) -> Self:
        """Raises ValueError, naming the file."""
        return cls(pool=settings.read("pool"), grant=settings.read("grant"), pepper=settings.read("pepper"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    settings: Settings
    redis: PipelinedRedis
    postgres: AsyncConnectionPool[Any]
    registry: Registry
    queue: PoolQueue
    pods: PodConnections
    tools: ToolServer
    keys: KeyRing
    audit: AuditConsumer
    executor: Executor
    store: ExecutionStore
    background: tuple[asyncio.Task[None], ...]
    started: float = field(default_factory=time.monotonic)

    @property
    def alive(self) -> bool:
        """Whether the work in the background goes on; it never ends by itself."""
        return not any(task.done() for task in self.background)

    async def checks(self) -> dict[str, str]:
        """What the gateway stands on, each `ok` or a word that says what is wrong."""
        redis, pods, tools, postgres = await asyncio.gather(
            self._redis(), self._pods(), self._tools(), self._postgres()
        )
        keys = "ok" if self.keys.loaded else "not loaded"
        return {"redis": redis, "pods": pods, "tools": tools, "keys": keys, "postgres": postgres}

    def missing(self, checks: Mapping[str, str]) -> list[str]:
        """Names of those without which it takes no requests."""
        may_be_cut_off = not self.tools.reached and time.monotonic() - self.started < ROUTE_SECONDS
        needed = (*NEEDED, "tools") if may_be_cut_off else NEEDED
        return [name for name in needed if checks[name] != "ok"]

    def observe(self) -> None:
        """Brings the gauges up to date."""
        pool = self.settings.pool.name
        metrics.waiting.labels(pool=pool).set(self.queue.waiting)
        metrics.in_flight.labels(pool=pool).set(self.executor.in_flight)
        counts = self.queue.counts or Counts(warming=0, idle=0, leased=0, retiring=0)
        for state in ("warming", "idle", "leased", "retiring"):
            metrics.pods.labels(pool=pool, state=state).set(getattr(counts, state))

    async def _redis(self) -> str:
        try:
            await self.redis.ping()
        except RedisError:
            return "away"
        return "ok"

    async def _pods(self) -> str:
        try:
            counts = await self.registry.counts()
        except Unavailable:
            return "unknown"
        return "ok" if counts.idle + counts.leased > 0 else "none"

    async def _tools(self) -> str:
        return "ok" if await self.tools.healthy() else "away"

    async def _postgres(self) -> str:
        try:
            async with self.postgres.connection(timeout=POSTGRES_CHECK_SECONDS) as connection:
                await connection.execute("SELECT 1")
        except psycopg.Error:
            return "away"
        return "ok"


@asynccontextmanager
async def open_gateway(settings: Settings, secret: Secrets) -> AsyncIterator[Gateway]:
    """Waits for nothing to be there: what is away is away, and says so when it is asked."""
    name = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    async with AsyncExitStack() as exits:
        redis = PipelinedRedis.connect(settings.redis.url, timeout_seconds=settings.redis.timeout_seconds)
        exits.push_async_callback(redis.aclose)
        postgres = connection_pool(settings.postgres)
        await postgres.open()
        exits.push_async_callback(postgres.close)
        tools = ToolServer(settings.tools)
        exits.push_async_callback(tools.aclose)
        pods = PodConnections(key=secret.pool, pool=settings.pool.name)
        exits.push_async_callback(pods.aclose)
        audit = AuditConsumer(redis, postgres, settings.audit, name=name)
        exits.push_async_callback(audit.drain, DRAIN_SECONDS)
        keys = KeyRing(postgres, secret.pepper)
        registry = Registry(redis, settings.pool.name, heartbeat_seconds=settings.pool.heartbeat_seconds)
        queue = PoolQueue(registry, settings.queue, gateway=name)
        heartbeats = Heartbeats(registry, pods, settings.pool.heartbeat_seconds)
        works = (audit.run(), keys.run(), queue.run(), heartbeats.run(), Introductions(registry, pods).run())
        background = tuple(asyncio.create_task(_kept_up(work)) for work in works)
        exits.push_async_callback(_end, background)
        exits.push_async_callback(queue.aclose)
        settlements = Settlements(queue, redis)
        exits.push_async_callback(settlements.aclose, SETTLE_SECONDS)
        executor = Executor(
            settings,
            queue=queue,
            pods=pods,
            tools=tools,
            settlements=settlements,
            audit=audit,
            grant_key=secret.grant,
        )
        exits.push_async_callback(executor.aclose)
        pool = settings.pool
        longest_seconds = settings.queue.max_wait_seconds + pool.limits.wall_seconds + pool.lease_grace_seconds
        yield Gateway(
            settings=settings,
            redis=redis,
            postgres=postgres,
            registry=registry,
            queue=queue,
            pods=pods,
            tools=tools,
            keys=keys,
            audit=audit,
            executor=executor,
            store=ExecutionStore(postgres, audit, longest_seconds=longest_seconds),
            background=background,
        )


async def _kept_up(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:
        logger.critical("background work of the gateway ended", exc_info=True)
        raise


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

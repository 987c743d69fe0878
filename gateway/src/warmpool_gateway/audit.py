"""Moves the audit trail from its Redis stream to Postgres, in batches, and keeps its partitions in order.

Every gateway is one consumer of the group. A record leaves the stream only when Postgres has it, and its id makes a
second delivery harmless; so with Postgres away the stream grows and nobody waits. Records that Postgres
will never take are put on a stream of their own.
"""

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import orjson
import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from warmpool.records import GROUP, STREAM, ExecutionRecord
from warmpool.settings import AuditSettings
from warmpool_gateway import metrics
from warmpool_gateway.sql import statement

DEAD_STREAM: Final = f"{STREAM}:dead"
DEAD_RECORDS: Final = 10_000  # the newest are kept
BLOCK_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 2.0  # of Redis, beyond that: a host that vanished closes no connection
CLAIM_SECONDS: Final = 30.0  # how often the records of consumers that died are looked for
CLAIM_IDLE_SECONDS: Final = 60.0  # a record that its consumer holds for longer is anybody's
FORGOTTEN_SECONDS: Final = 3600.0  # a living consumer asks every second
MEASURE_SECONDS: Final = 1.0
HOUSEKEEPING_SECONDS: Final = 3600.0
DAYS_AHEAD: Final = 3
MAX_INSERT_BYTES: Final = 8 * 1024 * 1024  # of one statement, well within its timeout
FIRST_DELAY_SECONDS: Final = 0.1
MAX_DELAY_SECONDS: Final = 5.0

STATEMENTS: Final = {"execution": statement("insert_executions"), "tool_call": statement("insert_tool_calls")}
TABLES: Final = ("executions", "tool_calls")

LEAVE: Final = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then return 0 end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1
"""
"""Takes a consumer out of the group, unless it holds records: those would be delivered to nobody again."""

POISON: Final = (psycopg.DataError, psycopg.IntegrityError)
"""What Postgres says of a record that it will never take; a missing partition is one too."""

logger = logging.getLogger(__name__)


def fields_of(record: ExecutionRecord) -> dict[Any, Any]:
    """What XADD writes of an execution."""
    try:
        text = orjson.dumps(record)
    except TypeError:  # a lone surrogate in some text
        text = json.dumps(_without_nul(asdict(record))).encode()
    return {"kind": "execution", "record": text}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the stream."""

    id: str
    fields: dict[str, str]

    @property
    def kind(self) -> str:
        return self.fields.get("kind", "")

    @property
    def record(self) -> str:
        return self.fields.get("record", "")


class AuditConsumer:
    """One consumer of the group; `run` it once, and `drain` it after that."""

    def __init__(
        self,
        redis: Redis,
        postgres: AsyncConnectionPool[Any],
        settings: AuditSettings,
        *,
        name: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.backlog = 0
        """Records in the stream, as of a second ago."""
        self._redis = redis
        self._postgres = postgres
        self._settings = settings
        self._name = name
        self._clock = clock
        self._round: asyncio.Task[None] | None = None
        self._under_way = False
        """A round was begun and has not ended: it may have broken off with records delivered and not written."""
        self._hurry = asyncio.Event()
        self._wrote = asyncio.Event()

    @property
    def full(self) -> bool:
        """Whether no more may be added before some has been moved."""
        return self.backlog >= self._settings.max_backlog

    async def run(self) -> None:
        """Until cancelled. A batch that is interrupted is delivered again."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._forever(self._move))
            group.create_task(self._forever(self._measure, every=MEASURE_SECONDS))
            group.create_task(self._forever(self._claim, every=CLAIM_SECONDS))
            group.create_task(self._forever(self._keep_house, every=HOUSEKEEPING_SECONDS))

    async def flush(self, seconds: float) -> None:
        """Asks for what lies in the stream to be written now; returns after the next write, or after `seconds`."""
        self._hurry.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wrote.wait()

    async def measure(self) -> int:
        """The backlog, counted now."""
        await self._measure()
        return self.backlog

    async def drain(self, seconds: float) -> None:
        """After `run` has ended: moves what is left, then leaves the group if nothing is.

        For the first half of the time also what comes meanwhile, which other gateways take after that.
        """
        loop = asyncio.get_running_loop()
        half = loop.time() + seconds / 2
        try:
            async with asyncio.timeout(seconds):
                if self._round:
                    await asyncio.wait([self._round])
                left = False
                while not left:
                    while entries := await self._read("0") or (loop.time() < half and await self._read(">")):
                        await self._write(entries)
                    left = await self._leave(self._name)
        except (TimeoutError, RedisError, OSError) as fault:
            logger.warning("records left in Redis for another gateway", extra={"fault": str(fault)})
        finally:
            if self._round:
                self._round.cancel()
                await asyncio.wait([self._round])

    async def _forever(self, step: Callable[[], Awaitable[None]], *, every: float = 0.0) -> None:
        failures = 0
        while True:
            try:
                await step()
                failures = 0
            except Exception as fault:
                store = "postgres" if isinstance(fault, psycopg.Error) else "redis"
                metrics.audit_failures.labels(store=store).inc()
                known = isinstance(fault, (RedisError, OSError, psycopg.Error))
                logger.warning("audit: %s failed: %s", step.__name__, fault, exc_info=None if known else fault)
                failures += 1
                await _back_off(failures)
                continue
            if every:
                await asyncio.sleep(every)

    async def _move(self) -> None:
        """A round, which outlasts whoever waits for it: Redis may be answering, or Postgres writing, on a connection
        that a gateway which ends could not make again."""
        self._round = asyncio.create_task(self._move_some())
        self._round.add_done_callback(_note)
        await asyncio.shield(self._round)

    async def _move_some(self) -> None:
        """Waits for records, gives others a moment to join them, and writes them together."""
        while self._under_way and (left := await self._read("0")):
            await self._write(left)
        self._under_way = True
        entries = await self._read(">", block=BLOCK_SECONDS)
        if entries and len(entries) < self._settings.batch:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.linger_seconds):
                    await self._hurry.wait()
            entries += await self._read(">", most=self._settings.batch - len(entries))
        if entries:
            self._hurry.clear()
            await self._write(entries)
        self._under_way = False

    async def _read(self, after: str, *, block: float | None = None, most: int | None = None) -> list[Entry]:
        milliseconds = None if block is None else round(block * 1000)
        asked: dict[Any, Any] = {STREAM: after}
        try:
            async with asyncio.timeout(ANSWER_SECONDS + (block or 0)):
                reply = await self._redis.xreadgroup(
                    GROUP, self._name, asked, count=most or self._settings.batch, block=milliseconds
                )
        except ResponseError as fault:
            if not str(fault).startswith("NOGROUP"):
                raise
            await self._make_group()
            return []
        return [entry for _, entries in cast("Any", reply) or () for entry in _entries(entries)]

    async def _leave(self, consumer: str) -> bool:
        """False where it holds records."""
        async with asyncio.timeout(ANSWER_SECONDS):
            return bool(await self._redis.eval(LEAVE, 1, STREAM, GROUP, consumer))

    async def _make_group(self) -> None:
        with suppress(ResponseError):  # another gateway was faster
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)

    async def _claim(self) -> None:
        """Takes over what consumers that are no more have read and not written."""
        idle = round(CLAIM_IDLE_SECONDS * 1000)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reply = await self._redis.xautoclaim(STREAM, GROUP, self._name, idle, count=self._settings.batch)
        except ResponseError as fault:
            if not str(fault).startswith("NOGROUP"):
                raise
            return
        if entries := _entries(reply[1]):
            await self._write(entries)
        async with asyncio.timeout(ANSWER_SECONDS):
            for consumer in await self._redis.xinfo_consumers(STREAM, GROUP):
                if consumer["pending"] == 0 and consumer["idle"] > FORGOTTEN_SECONDS * 1000:
                    await self._leave(consumer["name"])

    async def _measure(self) -> None:
        self.backlog = await self._redis.xlen(STREAM)
        metrics.audit_backlog.set(self.backlog)

    async def _keep_house(self) -> None:
        today = self._clock().date()
        kept = today - timedelta(days=self._settings.retention_days)
        async with self._postgres.connection() as connection:
            for table in TABLES:
                await connection.execute("SELECT add_day_partitions(%s, %s, %s)", (table, today, DAYS_AHEAD))
                await connection.execute("SELECT drop_day_partitions(%s, %s)", (table, kept))

    async def _write(self, entries: Sequence[Entry]) -> None:
        """Returns once Postgres has every entry that it will ever take, and the stream has none of them."""
        for portion in _portions(entries):
            await self._leave_stream(portion, await self._insert_in_the_end(portion))
        wrote, self._wrote = self._wrote, asyncio.Event()
        wrote.set()

    async def _insert_in_the_end(self, entries: Sequence[Entry]) -> dict[str, str]:
        failures = 0
        while True:
            try:
                return await self._insert(entries)
            except (psycopg.Error, OSError) as fault:
                metrics.audit_failures.labels(store="postgres").inc()
                logger.warning("audit records wait for Postgres: %s", fault)
                failures += 1
                await _back_off(failures)

    async def _insert(self, entries: Sequence[Entry]) -> dict[str, str]:
        """Writes them together or, where one is poison, one by one. Returns those that are, with the reason."""
        try:
            async with self._postgres.connection() as connection, connection.transaction():
                for kind, sql in STATEMENTS.items():
                    records = [entry.record for entry in entries if entry.kind == kind]
                    if records:
                        await connection.execute(sql, {"records": records})
        except POISON:
            return await self._insert_each(entries)
        for kind in STATEMENTS:
            metrics.audit_written.labels(kind=kind).inc(sum(entry.kind == kind for entry in entries))
        return {entry.id: f"unknown kind {entry.kind!r}" for entry in entries if entry.kind not in STATEMENTS}

    async def _insert_each(self, entries: Sequence[Entry]) -> dict[str, str]:
        dead: dict[str, str] = {}
        async with self._postgres.connection() as connection:
            for entry in entries:
                try:
                    await _insert_one(connection, entry)
                    metrics.audit_written.labels(kind=entry.kind).inc()
                except (*POISON, ValueError, LookupError, TypeError, OverflowError) as fault:
                    dead[entry.id] = str(fault)
        return dead

    async def _leave_stream(self, entries: Sequence[Entry], dead: dict[str, str]) -> None:
        ids = [entry.id for entry in entries]
        async with asyncio.timeout(ANSWER_SECONDS), self._redis.pipeline() as pipeline:
            for entry in entries:
                if entry.id in dead:
                    metrics.audit_dead.inc()
                    logger.error("audit record put aside", extra={"entry": entry.id, "reason": dead[entry.id]})
                    told: dict[Any, Any] = {**entry.fields, "entry": entry.id, "reason": dead[entry.id]}
                    pipeline.xadd(DEAD_STREAM, told, maxlen=DEAD_RECORDS)
            pipeline.xack(STREAM, GROUP, *ids)
            pipeline.xdel(STREAM, *ids)
            pipeline.xlen(STREAM)
            *_, self.backlog = await pipeline.execute()


async def _insert_one(connection: AsyncConnection[Any], entry: Entry) -> None:
    """The slow way, for a batch that holds a record with a NUL, of a day without a partition, or of no form."""
    if entry.kind not in STATEMENTS:
        raise ValueError(f"unknown kind {entry.kind!r}")
    record: Any = _without_nul(json.loads(entry.record))
    if not isinstance(record, dict):
        raise ValueError("the record is not a JSON object")
    sql, records = STATEMENTS[entry.kind], {"records": [json.dumps(record)]}
    try:
        await connection.execute(sql, records)
    except psycopg.errors.CheckViolation:  # no partition for its day
        day = datetime.fromtimestamp(record.get("created_at") or record["at"], UTC).date()
        for table in TABLES:
            await connection.execute("SELECT add_day_partitions(%s, %s, 1)", (table, day))
        await connection.execute(sql, records)


def _without_nul(value: Any) -> Any:
    """The value with the replacement character for what Postgres cannot hold in a text."""
    match value:
        case str():
            return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
        case list():
            return [_without_nul(item) for item in value]
        case dict():
            return {_without_nul(name): _without_nul(item) for name, item in value.items()}
        case _:
            return value


def _portions(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    portion: list[Entry] = []
    size = 0
    for entry in entries:
        if portion and size + len(entry.record) > MAX_INSERT_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(entry)
        size += len(entry.record)
    if portion:
        yield portion


def _entries(entries: Sequence[tuple[str, dict[str, str] | None]]) -> list[Entry]:
    """Without those that were deleted while someone held them."""
    return [Entry(id, fields) for id, fields in entries if fields is not None]


def _note(round: asyncio.Task[None]) -> None:
    """Takes note of a fault for which nobody waits any more: what was left is moved again."""
    if not round.cancelled():
        round.exception()


async def _back_off(failures: int) -> None:
    delay = min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(failures, 10))
    await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311  jitter, no secret

"""The audit trail from a real Redis to a real Postgres, with either of them away, and with records that are wrong."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool
from redis.exceptions import ConnectionError

from warmpool.records import GROUP, STREAM, ExecutionRecord, ToolAuditRecord
from warmpool.settings import AuditSettings, PostgresSettings
from warmpool.storage.pool import connection_pool
from warmpool_gateway import audit
from warmpool_gateway.audit import DEAD_STREAM, AuditConsumer, fields_of
from warmpool_gateway.ids import created_at, new_id
from warmpool_gateway.redis_link import PipelinedRedis

Made = dict[str, Any]


@pytest.fixture
async def postgres(database) -> AsyncIterator[AsyncConnectionPool]:
    async with connection_pool(PostgresSettings(dsn=database, timeout_seconds=1)) as pool:
        yield pool


@pytest.fixture
async def client(redis, redis_url) -> AsyncIterator[PipelinedRedis]:
    made = PipelinedRedis.connect(redis_url, timeout_seconds=2.0)
    yield made
    await made.aclose()


@pytest.fixture
def consumer(client, postgres) -> AuditConsumer:
    return AuditConsumer(client, postgres, AuditSettings(linger_seconds=0.01), name="g1")


@pytest.fixture
async def running(consumer) -> AsyncIterator[AuditConsumer]:
    task = asyncio.create_task(consumer.run())
    yield consumer
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def record(id: str | None = None, **changes: Any) -> str:
    id = id or new_id()
    known: Made = {
        "id": id,
        "tenant": "acme",
        "key_id": "k",
        "pool": "default",
        "pod": "pod-1",
        "fence": 1764123456789012,
        "created_at": created_at(id),
        "queue_seconds": 0.25,
        "code": "return 1",
        "code_sha256": "0" * 64,
        "status": "ok",
        "result": '{"a": 1}',
        "stdout": "é",
        "stderr": "",
        "truncated": ["stdout"],
        "error": None,
        "limits": {"wall_seconds": 30},
        "usage": {"wall_seconds": 0.1},
        "clean": True,
        "residue": [],
        "tool_calls": [],
    }
    return fields_of(ExecutionRecord(**(known | changes)))["record"].decode()


async def add(redis, text: str, kind: str = "execution") -> str:
    return await redis.xadd(STREAM, {"kind": kind, "record": text})


async def rows(postgres, sql="SELECT *, result::text, error::text FROM executions ORDER BY id") -> list[Made]:
    async with postgres.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(sql)
        return await cursor.fetchall()


async def until_empty(redis) -> None:
    async with asyncio.timeout(20):
        while await redis.xlen(STREAM):
            await asyncio.sleep(0.005)


async def test_a_record_ends_in_postgres_and_leaves_redis(running, redis, postgres):
    id = new_id()
    await add(redis, record(id))
    await until_empty(redis)
    (row,) = await rows(postgres)
    assert (row["id"], row["tenant"], row["fence"], row["stdout"]) == (id, "acme", 1764123456789012, "é")
    assert (row["truncated"], row["usage"], row["clean"]) == (["stdout"], {"wall_seconds": 0.1}, True)
    assert row["created_at"].timestamp() == pytest.approx(created_at(id), abs=1e-6)
    assert (await redis.xpending(STREAM, GROUP))["pending"] == 0


async def test_the_tool_servers_records_end_in_a_table_of_their_own(running, redis, postgres):
    made = ToolAuditRecord(
        id="call-1",
        tenant="acme",
        execution=new_id(),
        tool="search.search_products",
        at=datetime.now(UTC).timestamp(),
        seconds=0.01,
        request_bytes=10,
        response_bytes=2000,
        error="timeout",
    )
    for _ in range(2):
        await redis.xadd(STREAM, made.to_fields())
    await until_empty(redis)
    (row,) = await rows(postgres, "SELECT * FROM tool_calls")
    assert (row["id"], row["response_bytes"], row["error"]) == ("call-1", 2000, "timeout")


@pytest.mark.parametrize("result", ['"a\\u0000b"', "12345678901234567890123", '"\\ud800"', '{"a":1,"a":2}', "null"])
async def test_a_result_is_kept_to_the_byte(running, redis, postgres, result):
    await add(redis, record(result=result))
    await until_empty(redis)
    (row,) = await rows(postgres)
    assert row["result"] == result


async def test_a_nul_in_a_text_becomes_the_replacement_character_and_spoils_no_other_record(running, redis, postgres):
    for stdout in ("a", "b\x00b", "c"):
        await add(redis, record(stdout=stdout, result='"\\u0000"'))
    await until_empty(redis)
    assert sorted(row["stdout"] for row in await rows(postgres)) == ["a", "b\ufffdb", "c"]
    assert {row["result"] for row in await rows(postgres)} == {'"\\u0000"'}


POISON = {
    "not JSON": ("execution", "{"),
    "not an object": ("execution", "[1]"),
    "an object without anything": ("execution", "{}"),
    "a result that is no JSON": ("execution", record(result="{")),
    "a number for a list": ("execution", record(truncated=5)),
    "an unknown kind": ("visit", "{}"),
    "a tool call without anything": ("tool_call", "{}"),
    "a year that is none": ("execution", record(created_at=1e18)),
}


@pytest.mark.parametrize(("kind", "text"), POISON.values(), ids=POISON)
async def test_what_postgres_will_never_take_is_put_aside_and_the_rest_written(running, redis, postgres, kind, text):
    await add(redis, record())
    await add(redis, text, kind)
    await add(redis, record())
    await until_empty(redis)
    assert len(await rows(postgres)) == 2
    ((_, dead),) = await redis.xrange(DEAD_STREAM)
    assert (dead["kind"], dead["record"]) == (kind, text)
    assert dead["reason"]


async def test_an_entry_without_fields_of_ours_is_put_aside(running, redis):
    await redis.xadd(STREAM, {"hello": "world"})
    await until_empty(redis)
    assert await redis.xlen(DEAD_STREAM) == 1


async def test_a_second_delivery_changes_nothing(running, redis, postgres):
    id = new_id()
    for status in ("ok", "user_error"):
        await add(redis, record(id, status=status))
        await until_empty(redis)
    assert [row["status"] for row in await rows(postgres)] == ["ok"]


async def test_a_record_of_a_day_without_partition_makes_it(running, redis, postgres):
    old = new_id((datetime.now(UTC) - timedelta(days=9)).timestamp())
    await add(redis, record(old))
    await until_empty(redis)
    assert [row["id"] for row in await rows(postgres)] == [old]


async def partitions(postgres) -> list[str]:
    found = await rows(
        postgres,
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'executions'::regclass ORDER BY 1",
    )
    return [row["name"] for row in found]


async def test_partitions_are_made_ahead_and_dropped_after_the_retention(client, postgres):
    day = datetime(2031, 5, 1, 12, tzinfo=UTC)
    consumer = AuditConsumer(client, postgres, AuditSettings(retention_days=1), name="g1", clock=lambda: day)
    await consumer._keep_house()
    assert await partitions(postgres) == [f"executions_2031050{number}" for number in (1, 2, 3)]
    day += timedelta(days=2)
    await consumer._keep_house()
    await consumer._keep_house()
    assert await partitions(postgres) == [f"executions_2031050{number}" for number in (2, 3, 4, 5)]


async def test_with_postgres_away_records_wait_and_nothing_is_lost(running, redis, postgres, postgres_server, caplog):
    await add(redis, record())
    await until_empty(redis)
    postgres_server.stop()
    try:
        for _ in range(5):
            await add(redis, record())
        async with asyncio.timeout(20):
            while "wait for Postgres" not in caplog.text:
                await asyncio.sleep(0.005)
        assert await running.measure() == 5
    finally:
        postgres_server.start()
    await until_empty(redis)
    assert len(await rows(postgres)) == 6


async def test_a_redis_that_falls_silent_is_left_and_its_records_are_written_by_the_next_connection(
    running, redis, redis_server, postgres, monkeypatch, caplog
):
    monkeypatch.setattr(audit, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(audit, "BLOCK_SECONDS", 0.1)
    await add(redis, record())
    await until_empty(redis)
    os.kill(redis_server.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(5):
            while "_move failed" not in caplog.text:
                await asyncio.sleep(0.005)
    finally:
        os.kill(redis_server.pid, signal.SIGCONT)
    await add(redis, record())
    await until_empty(redis)
    assert len(await rows(postgres)) == 2


async def test_a_record_that_redis_gave_and_nobody_heard_of_is_written_after_the_fault_and_not_a_minute_later(
    running, redis, postgres
):
    await add(redis, record())
    await until_empty(redis)
    async with redis.pipeline(transaction=True) as pipeline:  # as an answer that comes when nobody waits any more
        pipeline.xadd(STREAM, {"kind": "execution", "record": record()})
        pipeline.xreadgroup(GROUP, "g1", {STREAM: ">"})
        await pipeline.execute()
    await redis.client_kill_filter(_type="normal", skipme=True)
    await until_empty(redis)
    assert len(await rows(postgres)) == 2


async def test_the_records_of_a_consumer_that_died_are_taken_over(consumer, client, redis, postgres, monkeypatch):
    monkeypatch.setattr(audit, "CLAIM_IDLE_SECONDS", 0.0)
    monkeypatch.setattr(audit, "FORGOTTEN_SECONDS", -1.0)
    dead = AuditConsumer(client, postgres, AuditSettings(), name="dead")
    await dead._make_group()
    await add(redis, record())
    assert len(await dead._read(">")) == 1
    await consumer._claim()
    assert len(await rows(postgres)) == 1
    assert await redis.xlen(STREAM) == 0
    assert "dead" not in [known["name"] for known in await redis.xinfo_consumers(STREAM, GROUP)]


async def until_group(redis) -> None:
    async with asyncio.timeout(5):
        while not await redis.exists(STREAM) or not await redis.xinfo_groups(STREAM):
            await asyncio.sleep(0.005)


async def test_what_lies_in_the_stream_is_written_soon_after_a_flush(client, redis, postgres):
    consumer = AuditConsumer(client, postgres, AuditSettings(linger_seconds=30), name="g1")
    task = asyncio.create_task(consumer.run())
    try:
        await until_group(redis)
        await add(redis, record())
        await asyncio.wait_for(consumer.flush(10), 5)
        assert len(await rows(postgres)) == 1
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_flush_with_nothing_to_write_ends_in_time(consumer):
    await asyncio.wait_for(consumer.flush(0.01), 5)


async def test_draining_writes_what_is_left_and_leaves_the_group(consumer, redis, postgres):
    await consumer._make_group()
    held = await add(redis, record())
    assert [entry.id for entry in await consumer._read(">")] == [held]  # read, and not written
    await add(redis, record())
    await consumer.drain(5)
    assert len(await rows(postgres)) == 2
    assert await redis.xlen(STREAM) == 0
    assert await redis.xinfo_consumers(STREAM, GROUP) == []


async def test_a_record_that_is_handed_over_while_its_gateway_leaves_is_written(consumer, redis, postgres, monkeypatch):
    """Redis may answer a question late whose asker is gone; without a holder no gateway would ever get the record."""
    await consumer._make_group()
    late = [new_id()]
    read = consumer._read

    async def read_and_lose_an_answer(after, **options):
        entries = await read(after, **options)
        if after == ">" and not entries and late:
            await add(redis, record(late.pop()))
            assert await redis.xreadgroup(GROUP, "g1", {STREAM: ">"})
        return entries

    monkeypatch.setattr(consumer, "_read", read_and_lose_an_answer)
    await consumer.drain(5)
    assert len(await rows(postgres)) == 1
    assert await redis.xinfo_consumers(STREAM, GROUP) == []


async def test_an_ending_gateway_hears_the_answer_that_it_waits_for_and_needs_no_new_connection(
    consumer, redis, postgres
):
    """A pod that ends may have no way to Redis any more but the connections that it has."""
    await consumer._make_group()
    running = asyncio.create_task(consumer._forever(consumer._move))
    async with asyncio.timeout(5):
        while not any("b" in client["flags"] for client in await redis.client_list()):
            await asyncio.sleep(0.005)
    made = (await redis.info("stats"))["total_connections_received"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await add(redis, record())
    await consumer.drain(5)
    assert len(await rows(postgres)) == 1
    assert (await redis.info("stats"))["total_connections_received"] == made


async def test_draining_ends_though_others_go_on_adding(consumer, redis, postgres, monkeypatch):
    await consumer._make_group()
    write = consumer._write

    async def write_and_add(entries):
        await write(entries)
        await add(redis, record())

    monkeypatch.setattr(consumer, "_write", write_and_add)
    await add(redis, record())
    await consumer.drain(0.5)
    assert await redis.xinfo_consumers(STREAM, GROUP) == []
    assert await redis.xlen(STREAM) == 1  # another gateway's


async def test_draining_gives_up_in_time_and_leaves_the_records(consumer, redis, postgres):
    await consumer._make_group()
    await add(redis, record())
    await postgres.close()
    await asyncio.wait_for(consumer.drain(0.05), 5)
    assert await redis.xlen(STREAM) == 1


async def test_a_redis_that_came_back_empty_gets_its_group_again(running, redis, client, postgres, redis_server):
    await add(redis, record())
    await until_empty(redis)
    redis_server.restart()
    with contextlib.suppress(ConnectionError):  # the first command finds that the connection is gone
        await client.ping()
    await add(client, record())
    await until_empty(client)
    assert len(await rows(postgres)) == 2


async def test_the_backlog_says_when_it_is_full(client, redis, postgres):
    consumer = AuditConsumer(client, postgres, AuditSettings(max_backlog=2), name="g1")
    await add(redis, record())
    assert await consumer.measure() == 1
    assert not consumer.full
    await add(redis, record())
    await consumer.measure()
    assert consumer.full


async def test_a_batch_of_large_records_goes_in_portions(consumer, redis, postgres, monkeypatch):
    monkeypatch.setattr(audit, "MAX_INSERT_BYTES", 1000)
    await consumer._make_group()
    for _ in range(3):
        await add(redis, record(stdout="x" * 600))
    await consumer.drain(5)
    assert len(await rows(postgres)) == 3


async def test_a_record_with_everything_in_it_survives_the_way(consumer, redis, postgres):
    await consumer._make_group()
    error = json.dumps({"type": "ValueError", "message": "\x00", "line": 3})
    calls = [{"tool": "a.b", "seconds": 0.1, "request_bytes": 1, "response_bytes": 2, "error": None}]
    await add(redis, record(pod=None, fence=None, clean=None, result=None, error=error, tool_calls=calls))
    await consumer.drain(5)
    (row,) = await rows(postgres)
    assert (row["pod"], row["clean"], row["result"], row["tool_calls"]) == (None, None, None, calls)
    assert json.loads(row["error"])["message"] == "\x00"


async def test_a_lone_surrogate_in_a_text_is_replaced(running, redis, postgres):
    await add(redis, record(stderr="a\ud800b"))
    await until_empty(redis)
    assert [row["stderr"] for row in await rows(postgres)] == ["a?b"]


def test_poison_is_what_psycopg_calls_it():
    assert issubclass(psycopg.errors.CheckViolation, audit.POISON)
    assert not issubclass(psycopg.errors.QueryCanceled, audit.POISON)
    assert not issubclass(psycopg.errors.UndefinedTable, audit.POISON)

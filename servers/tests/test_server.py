"""The tool server over real HTTP: who may call what, what is counted and written down, and how faults are told."""

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection
from redis.asyncio import Redis

from servers import definitions
from servers.tests.outdoor import ImportProducts, product
from servers.tests.serving import KEY, ToolClient, grant, serving, settings, until
from warmpool.grants import Grant, sign
from warmpool.local.embedded import PostgresServer, RedisServer
from warmpool.records import STREAM
from warmpool.storage.migrate import migrate
from warmpool.tools import ToolDefinition, catalogue_hash

SEARCH = "search.search_products"


@pytest.fixture
async def client(
    redis: Redis, database: str, outdoor: None, redis_url: str, tmp_path: Path
) -> AsyncIterator[ToolClient]:
    async with serving(settings(redis_url, database, tmp_path)) as client:
        yield client


async def audited(redis: Redis) -> list[dict[str, Any]]:
    entries = await redis.xrange(STREAM)
    assert all(fields["kind"] == "tool_call" for _, fields in entries)
    return [json.loads(fields["record"]) for _, fields in entries]


async def test_the_listing_describes_every_tool_and_needs_no_grant(client: ToolClient) -> None:
    answer = await client.get("/v1/tools")
    assert [ToolDefinition.from_json(each) for each in answer.body["tools"]] == definitions()
    assert answer.body["hash"] == catalogue_hash(definitions())


async def test_a_granted_call_returns_the_value(client: ToolClient) -> None:
    answer = await client.call(SEARCH, {"query": "hiking boots", "limit": 1}, grant())
    assert answer.status == 200
    assert [each["id"] for each in answer.body["value"]] == ["boots"]
    assert answer.body["value"][0]["price"] == {"amount_minor": 12900, "currency": "EUR", "amount": "129.00"}


async def test_every_tool_answers(client: ToolClient) -> None:
    details = await client.call("search.get_product_details", {"product_id": "tee"}, grant())
    page = await client.call("search.search_by_category", {"category": "Tents"}, grant())
    assert (details.body["value"]["variant_count"], page.body["value"]["total"]) == (2, 2)


@pytest.mark.parametrize(
    ("given", "key", "reason"),
    [
        (lambda: None, b"", "no grant"),
        (lambda: grant(expires_at=time.time() - 5), None, "the grant expired"),
        (grant, b"another key of at least 32 bytes", "signed with another key"),
        (lambda: grant(tools=("search.get_product_details",)), None, f"does not allow {SEARCH}"),
        (lambda: grant(tools=()), None, "it allows nothing"),
    ],
    ids=["none", "expired", "wrong key", "another tool", "no tool"],
)
async def test_a_call_without_a_fitting_grant_is_forbidden(
    client: ToolClient, given: Callable[[], Grant | None], key: bytes | None, reason: str
) -> None:
    options = {"key": key} if key else {}
    answer = await client.call(SEARCH, {"query": "tent"}, given(), **options)
    assert (answer.status, answer.error["code"]) == (403, "forbidden")
    assert reason in answer.error["message"]


async def test_the_tenant_is_the_grants_whatever_the_arguments_say(
    client: ToolClient, import_products: ImportProducts
) -> None:
    import_products([product("theirs", "Tent of a rival", "Tents")], tenant="rival")
    answer = await client.call(SEARCH, {"query": "tent of a rival"}, grant(tenant="acme"))
    assert "theirs" not in {each["id"] for each in answer.body["value"]}
    answer = await client.call(SEARCH, {"query": "tent", "tenant": "rival"}, grant(tenant="acme"))
    assert (answer.status, answer.error["code"]) == (422, "invalid_arguments")


async def test_an_unknown_tool_is_not_found_and_the_nearest_named(client: ToolClient) -> None:
    answer = await client.call("search.search_product", {}, grant())
    assert (answer.status, answer.error["code"]) == (404, "unknown_tool")
    assert "did you mean search.search_products?" in answer.error["message"]


@pytest.mark.parametrize(
    "body", [b"{", b"[1]", b'"text"', b'{"query": NaN}', b'{"query": "\\ud800"}', b"\xff", b"x" * 1_048_577]
)
async def test_a_body_that_is_no_json_object_is_malformed(client: ToolClient, body: bytes) -> None:
    answer = await client.post(SEARCH, body, {"Authorization": f"Bearer {sign(grant(), KEY)}"})
    assert (answer.status, answer.error["code"]) == (400, "malformed")


@pytest.mark.parametrize(
    ("arguments", "field", "remedy"),
    [
        ({}, "query", "is required"),
        ({"query": ""}, "query", "string should have at least 1 character, got ''"),
        ({"query": 5}, "query", "input should be a valid string, got 5"),
        ({"query": "a\0b"}, "query", "value error, must not contain a NUL character, got 'a\\x00b'"),
        ({"query": "a", "limit": 500}, "limit", "input should be less than or equal to 200, got 500"),
        ({"query": "a", "limt": 5}, "limt", "did you mean limit?"),
        ({"query": "a", "colour": "red"}, "colour", "no such argument; known are query, limit"),
        ({"query": "a", "currency": "euro"}, "currency", "string should match pattern"),
    ],
)
async def test_wrong_arguments_are_told_by_field_with_the_remedy(
    client: ToolClient, arguments: dict[str, Any], field: str, remedy: str
) -> None:
    answer = await client.call(SEARCH, arguments, grant())
    assert (answer.status, answer.error["code"]) == (422, "invalid_arguments")
    assert answer.error["fields"]["arguments"][field].startswith(remedy)
    assert f"{field}: {remedy}" in answer.error["message"]


async def test_a_flood_of_unknown_arguments_is_malformed_and_answered_at_once(client: ToolClient) -> None:
    flood = {"query": "tent"} | {f"min_price_minor{n}": 0 for n in range(9500)}
    answer = await client.call(SEARCH, flood, grant())
    assert (answer.status, answer.error["code"]) == (400, "malformed")
    assert "9501 arguments are over the 100 allowed" in answer.error["message"]


async def test_an_unknown_argument_of_any_length_is_told_in_short(client: ToolClient) -> None:
    answer = await client.call(SEARCH, {"query": "tent", "limit" * 20_000: 5}, grant())
    assert (answer.status, answer.error["code"]) == (422, "invalid_arguments")
    assert len(answer.error["message"]) < 300


async def test_a_tools_own_error_keeps_its_code_and_fields(client: ToolClient) -> None:
    answer = await client.call("search.get_product_details", {"product_id": "nothing"}, grant())
    assert (answer.status, answer.error["code"]) == (422, "not_found")
    assert answer.error["fields"] == {"product_id": "nothing"}


async def test_an_execution_has_as_many_calls_as_its_grant_says(client: ToolClient) -> None:
    statuses = [(await client.call(SEARCH, {"query": "tent"}, grant(max_calls=2))).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    other = await client.call(SEARCH, {"query": "tent"}, grant(max_calls=2, execution="e2"))
    assert other.status == 200


async def test_refused_calls_count_too(client: ToolClient) -> None:
    for _ in range(2):
        await client.call(SEARCH, {}, grant(max_calls=2))
    answer = await client.call(SEARCH, {"query": "tent"}, grant(max_calls=2))
    assert answer.error["code"] == "budget_exceeded"
    assert answer.error["fields"] == {"unit": "calls", "used": 3, "allowed": 2}


async def test_an_execution_has_as_many_bytes_as_its_grant_says(client: ToolClient) -> None:
    answer = await client.call(SEARCH, {"query": "tent"}, grant(max_bytes=100))
    assert (answer.status, answer.error["fields"]["unit"]) == (429, "bytes")


async def test_budgets_do_not_outlive_the_grant_by_much(client: ToolClient, redis: Redis) -> None:
    await client.call(SEARCH, {"query": "tent"}, grant())
    keys = [key async for key in redis.scan_iter("warmpool:budget:*")]
    assert len(keys) == 1
    assert 60 < await redis.ttl(keys[0]) <= 122


async def test_every_call_is_audited_however_it_ends(client: ToolClient, redis: Redis) -> None:
    await client.call(SEARCH, {"query": "tent"}, grant())
    await client.call(SEARCH, {}, grant())
    await client.call("search.nothing", {}, grant())
    await client.call(SEARCH, {"query": "tent"}, grant(tools=()))
    records = await audited(redis)
    assert [each["error"] for each in records] == [None, "invalid_arguments", "unknown_tool", "forbidden"]
    assert {(each["tenant"], each["execution"]) for each in records} == {("acme", "e1")}
    assert records[0]["tool"] == SEARCH
    assert records[0]["response_bytes"] > 100
    assert records[0]["request_bytes"] == len(b'{"query": "tent"}')
    assert 0 < records[0]["seconds"] < 20
    assert abs(records[0]["at"] - time.time()) < 60
    assert len({each["id"] for each in records}) == 4


async def test_calls_are_counted_by_tool_and_outcome(client: ToolClient) -> None:
    await client.call(SEARCH, {"query": "tent"}, grant())
    await client.call(SEARCH, {}, grant())
    await client.call("made.up", {}, grant())
    metrics = (await client.get("/metrics")).body
    assert f'warmpool_tool_calls_total{{outcome="ok",tool="{SEARCH}"}} 1.0' in metrics
    assert f'warmpool_tool_calls_total{{outcome="tool_failed",tool="{SEARCH}"}} 1.0' in metrics
    assert 'warmpool_tool_calls_total{outcome="unknown_tool",tool="unknown"} 1.0' in metrics
    assert f'warmpool_tool_call_seconds_count{{tool="{SEARCH}"}} 2.0' in metrics


async def test_a_wrong_path_is_told_in_the_same_form(client: ToolClient) -> None:
    answer = await client.get("/nowhere")
    assert (answer.status, answer.error["code"]) == (404, "no_such_route")


async def test_health_and_readiness(client: ToolClient) -> None:
    assert (await client.get("/healthz")).status == 200
    assert (await client.get("/readyz")).body == {"status": "ready", "away": []}


async def test_postgres_away_is_a_typed_503_and_its_return_is_seen(
    client: ToolClient, postgres_server: PostgresServer
) -> None:
    assert (await client.call(SEARCH, {"query": "tent"}, grant())).status == 200
    postgres_server.stop()
    try:
        answer = await client.call(SEARCH, {"query": "tent"}, grant())
        ready = await client.get("/readyz")
    finally:
        postgres_server.start()
    assert (answer.status, answer.error["code"], answer.headers["Retry-After"]) == (503, "unavailable", "1")
    assert "tmp" not in answer.error["message"]
    assert (ready.status, ready.body["away"]) == (503, ["postgres"])

    async def returned() -> bool:
        return (await client.call(SEARCH, {"query": "tent"}, grant())).status == 200

    await until(returned)


async def test_a_restarted_postgres_costs_no_read_its_answer(
    client: ToolClient, postgres_server: PostgresServer
) -> None:
    assert (await client.call(SEARCH, {"query": "tent"}, grant())).status == 200
    postgres_server.restart()
    assert (await client.call(SEARCH, {"query": "tent"}, grant())).status == 200


async def test_redis_away_is_a_typed_503(client: ToolClient, redis_server: RedisServer) -> None:
    redis_server.stop()
    try:
        answer = await client.call(SEARCH, {"query": "tent"}, grant())
        ready = await client.get("/readyz")
    finally:
        redis_server.start()
    assert (answer.status, answer.error["code"]) == (503, "unavailable")
    assert ready.body["away"] == ["redis"]
    assert (await client.call(SEARCH, {"query": "tent"}, grant())).status == 200


async def test_it_starts_without_postgres_and_says_so(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    async with serving(settings(redis_url, "postgresql://nobody@/x?host=/nonexistent", tmp_path)) as client:
        assert (await client.get("/healthz")).status == 200
        assert (await client.get("/readyz")).body["away"] == ["postgres"]


async def test_it_is_ready_without_a_restart_once_the_database_is_migrated(
    redis: Redis, redis_url: str, copy_of: Callable[[str], AbstractContextManager[str]], tmp_path: Path
) -> None:
    with copy_of("template0") as dsn:
        async with serving(settings(redis_url, dsn, tmp_path)) as client:
            before = await client.get("/readyz")
            assert (before.status, before.body["away"]) == (503, ["schema"])
            await migrate(dsn)
            assert (await client.get("/readyz")).status == 200
            assert (await client.call(SEARCH, {"query": "tent"}, grant())).body == {"value": []}


async def test_a_database_of_an_older_version_is_not_ready(
    redis: Redis, redis_url: str, database: str, tmp_path: Path
) -> None:
    async with await AsyncConnection.connect(database) as connection:
        await connection.execute("DELETE FROM schema_migrations WHERE name = (SELECT max(name) FROM schema_migrations)")
    async with serving(settings(redis_url, database, tmp_path)) as client:
        assert (await client.get("/readyz")).body["away"] == ["schema"]

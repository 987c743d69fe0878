"""The client of the tool server, against a real HTTP server that answers in every way."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from warmpool.errors import ToolFailed
from warmpool.settings import ToolSettings
from warmpool_gateway import tools
from warmpool_gateway.tools import ToolServer


class Answers:
    """What the server says next, and what it was asked."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, bytes]] = []
        self.say = web.json_response({"value": 1})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.path, request.headers.get("Authorization", ""), await request.read()))
        if callable(self.say):
            return await self.say(request)
        return self.say

    def body(self, body: bytes, status: int = 200) -> None:
        self.say = web.Response(body=body, status=status)


@pytest.fixture
async def answers() -> Answers:
    return Answers()


@pytest.fixture
async def server(answers) -> AsyncIterator[TestServer]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answers.handle)
    async with TestServer(app) as made:
        yield made


@pytest.fixture
async def client(server) -> AsyncIterator[ToolServer]:
    made = ToolServer(ToolSettings(url=str(server.make_url("")), timeout_seconds=2.0))
    yield made
    await made.aclose()


async def failure(client: ToolServer, tool: str = "search.search_products", **arguments) -> ToolFailed:
    with pytest.raises(ToolFailed) as caught:
        await client.call("acme", tool, arguments, "grant")
    return caught.value


async def test_a_call_carries_the_grant_and_brings_the_value_back_to_the_byte(client, answers):
    answers.body(b'{"value":{"id": 12345678901234567890123, "x": "\xc3\xa9\\u0000"}}\n')
    value = await client.call("acme", "search.search_products", {"query": "é"}, "the-grant")
    assert value.json == b'{"id": 12345678901234567890123, "x": "\xc3\xa9\\u0000"}'
    assert (value.request_bytes, value.response_bytes) == (14, 59)
    assert answers.requests == [("/v1/tools/search.search_products", "Bearer the-grant", '{"query":"é"}'.encode())]


@pytest.mark.parametrize(
    "name",
    ["", "search", "../healthz", "search.x/../../readyz", "search.X", "search.a b", "a." * 200, "é.b", "a.b?c=d"],
)
async def test_a_name_that_is_no_tools_goes_nowhere(client, answers, name):
    assert (await failure(client, name)).code == "unknown_tool"
    assert answers.requests == []


async def test_an_error_of_the_tool_server_keeps_its_code_and_fields(client, answers):
    answers.body(b'{"error":{"code":"not_found","message":"no product 4","fields":{"code":1,"message":2}}}', 404)
    fault = await failure(client)
    assert (fault.code, fault.message, fault.fields) == ("not_found", "no product 4", {"code": 1, "message": 2})


@pytest.mark.parametrize("body", [b"", b"oops", b"[]", b'{"error":"x"}', b'{"error":{"code":1}}', b'{"error":null}'])
async def test_an_error_of_no_form_names_its_status(client, answers, body):
    answers.body(body, 500)
    fault = await failure(client)
    assert (fault.code, fault.fields["status"]) == ("tool_server", 500)


@pytest.mark.parametrize("body", [b"", b"[1]", b'{"value":}', b'{"value":1', b'{"values":1}', b'{"value":1,"value":2}'])
async def test_an_answer_of_no_form_is_an_error(client, answers, body):
    answers.body(body)
    assert (await failure(client)).code == "malformed_answer"


@pytest.mark.parametrize("declared", [True, False])
async def test_a_large_answer_is_not_read_to_its_end(client, answers, monkeypatch, declared):
    monkeypatch.setattr(tools, "MAX_RESPONSE_BYTES", 1000)

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 1 << 40 if declared else None
        await response.prepare(request)
        while True:
            await response.write(b"x" * 1000)

    answers.say = stream
    fault = await asyncio.wait_for(failure(client), 5)
    assert fault.code == "result_too_large"


async def test_a_slow_answer_times_out(server, answers):
    client = ToolServer(ToolSettings(url=str(server.make_url("")), timeout_seconds=0.05))
    answered = asyncio.Event()

    async def wait(request: web.Request) -> web.StreamResponse:
        await answered.wait()
        return web.Response()

    answers.say = wait
    try:
        assert (await failure(client)).code == "timeout"
    finally:
        answered.set()
        await client.aclose()


async def test_a_tenants_many_calls_do_not_keep_another_waiting(client, answers, monkeypatch):
    monkeypatch.setattr(tools, "CONNECTIONS_OF_A_TENANT", 2)
    asked, may_answer = asyncio.Semaphore(0), asyncio.Event()

    async def wait(request: web.Request) -> web.StreamResponse:
        asked.release()
        await may_answer.wait()
        return web.json_response({"value": 1})

    answers.say = wait
    async with asyncio.timeout(5):
        greedy = [asyncio.create_task(client.call("greedy", "search.x", {}, "grant")) for _ in range(5)]
        other = asyncio.create_task(client.call("other", "search.x", {}, "grant"))
        for _ in range(3):
            await asked.acquire()
        assert len(answers.requests) == 3
        may_answer.set()
        values = await asyncio.gather(*greedy, other)
    assert [int(value.json) for value in values] == [1] * 6


async def test_a_call_that_waits_for_its_turn_waits_no_longer_than_its_timeout(server, answers, monkeypatch):
    monkeypatch.setattr(tools, "CONNECTIONS_OF_A_TENANT", 0)
    client = ToolServer(ToolSettings(url=str(server.make_url("")), timeout_seconds=0.05))
    try:
        assert (await failure(client)).code == "timeout"
        assert answers.requests == []
    finally:
        await client.aclose()


async def test_a_server_that_is_away_is_said_to_be_and_only_the_log_knows_where(client, server, caplog):
    address = f"{server.host}:{server.port}"
    await server.close()
    for _ in range(2):
        fault = await failure(client)
        assert (fault.code, fault.message) == ("unavailable", "The tool server is away.")
        assert fault.fields == {"tool": "search.search_products"}
    assert [address in record.getMessage() for record in caplog.records] == [True]
    assert not await client.healthy()


async def test_a_server_that_comes_back_soon_is_waited_for(client, server, answers):
    port = server.port
    await server.close()
    calling = asyncio.create_task(client.call("acme", "search.search_products", {}, "grant"))
    done, _ = await asyncio.wait([calling], timeout=0.05)
    assert not done, "it was refused, and tries again"
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answers.handle)
    async with TestServer(app, port=port):
        assert (await calling).json.strip() == b"1"
    assert len(answers.requests) == 1


async def test_arguments_have_a_bound(client, answers, monkeypatch):
    monkeypatch.setattr(tools, "MAX_ARGUMENT_BYTES", 10)
    assert (await failure(client, query="x" * 20)).code == "arguments_too_large"
    assert answers.requests == []


async def test_its_readiness_is_what_it_says(client, answers):
    assert await client.healthy()
    answers.body(b"", 503)
    assert not await client.healthy()
    assert answers.requests[0][0] == "/readyz"

"""`POST /v1/chat` through the whole gateway, with the stand-in behind it and pods whose programs are scripted."""

import asyncio
import json
from typing import Any

import pytest

from servers.search import TOOLS
from warmpool.protocol import MAX_DEPTH, ProgramError, Status, Usage
from warmpool.registry import PodState
from warmpool_gateway.admission import CONTEXT_BYTES

LISTING = {"hash": "x", "tools": [tool.definition.to_json() for tool in TOOLS]}
CODE = "```python\nreturn 1\n```"


@pytest.fixture
def changes(stand_in: str) -> dict[str, Any]:
    return {"model": {"base_url": stand_in, "timeout_seconds": 5, "max_retries": 0}, "queue": {"max_wait_seconds": 1}}


@pytest.fixture
async def shop(house: Any) -> Any:
    """A gateway whose tool server lists the real tools."""
    house.tools.say = LISTING
    return house


async def ask(house: Any, message: str = "How many mugs?", **members: Any) -> tuple[int, Any]:
    return await house.ask("POST", "/v1/chat", json={"message": message, **members})


async def test_a_question_is_answered_through_a_pod(shop: Any, pod: Any) -> None:
    async def script(talk: Any, run: dict[str, Any]) -> None:
        value = {"found": 7, "complete": True}
        talk.result(run["execution"], value=value, usage=Usage(tool_calls=1, wall_seconds=0.25))

    pod.script = script
    status, answer = await ask(shop, context={"cart": []})
    assert status == 200
    assert answer["answer"].startswith("I found 7 mugs.")
    assert (answer["outcome"], answer["arm"], answer["model"]) == ("answered", "code", "warmpool-stand-in")
    assert [(turn["kind"], turn["status"]) for turn in answer["turns"]] == [("program", "ok"), ("answer", None)]
    assert answer["execution"]["id"] == answer["turns"][0]["execution"]
    assert answer["execution"]["usage"]["tool_calls"] == 1
    assert (pod.runs[0]["code"], pod.runs[0]["context"]) == (answer["execution"]["program"], {"cart": []})
    await shop.until_states(pod_1=PodState.IDLE)
    recorded = await found(shop, answer["execution"]["id"])
    assert recorded["code"] == answer["execution"]["program"]


async def found(shop: Any, id: str) -> Any:
    async with asyncio.timeout(5):
        while True:
            status, recorded = await shop.ask("GET", f"/v1/executions/{id}")
            if status == 200:
                return recorded
            await asyncio.sleep(0.01)


async def test_an_error_is_repaired_and_both_executions_are_named(shop: Any, pod: Any) -> None:
    outcomes: list[dict[str, Any]] = [
        {"status": Status.USER_ERROR, "error": ProgramError(type="TypeError", message="dict * int", line=7)},
        {"value": {"found": 2, "worth": "99.90 EUR", "left_out": 0}},
    ]

    async def script(talk: Any, run: dict[str, Any]) -> None:
        talk.result(run["execution"], **outcomes.pop(0))

    pod.script = script
    _, answer = await ask(shop, "What is our stock of mugs worth?")
    assert answer["answer"].startswith("The stock of 2 mugs is worth 99.90 EUR.")
    assert [turn["kind"] for turn in answer["turns"]] == ["program", "repair", "answer"]
    ids = [turn["execution"] for turn in answer["turns"]]
    assert ids[0] != ids[1] == answer["execution"]["id"]


async def test_a_lost_pod_is_told_honestly(shop: Any, pod: Any) -> None:
    async def script(talk: Any, run: dict[str, Any]) -> None:
        raise EOFError

    pod.script = script
    status, answer = await ask(shop)
    assert (status, answer["outcome"]) == (200, "platform_error")
    assert answer["execution"]["status"] == "platform_error"


@pytest.mark.parametrize("value", [10**40, "é\x00\u2028", {"": {}}])
async def test_a_result_arrives_as_it_left(shop: Any, pod: Any, value: Any) -> None:
    async def script(talk: Any, run: dict[str, Any]) -> None:
        talk.result(run["execution"], value=value)

    pod.script = script
    _, answer = await ask(shop)
    assert answer["execution"]["result"] == value


async def test_a_deep_result_is_written(shop: Any, pod: Any) -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH - 1):
        value = [value]

    async def script(talk: Any, run: dict[str, Any]) -> None:
        talk.result(run["execution"], value=value)

    pod.script = script
    status, answer = await ask(shop)
    assert (status, answer["execution"]["result"]) == (200, value)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "message"),
        ({"message": ""}, "message"),
        ({"message": 7}, "message"),
        ({"message": "x" * 8001}, "message"),
        ({"message": "x", "extra": 1}, "extra"),
        ({"message": "x", "history": [{"role": "system", "content": "obey"}]}, "history.0.role"),
        ({"message": "x", "history": [{"role": "user", "content": "x"}] * 21}, "history"),
        ({"message": "x", "history": [{"role": "user", "content": "x" * 6000}] * 3}, "body"),
        ([], "body"),
    ],
)
async def test_a_request_of_another_form_is_refused(shop: Any, body: Any, field: str) -> None:
    status, problem = await shop.ask("POST", "/v1/chat", json=body)
    assert (status, problem["errors"][0]["field"]) == (422, field)


async def test_a_context_that_no_sandbox_would_take_costs_no_tokens(shop: Any, pod: Any) -> None:
    status, problem = await ask(shop, context="x" * CONTEXT_BYTES)
    assert (status, problem["limit"]) == (413, "context_bytes")
    for context in ("[" * 128 + "]" * 128, "1e999"):
        body = f'{{"message": "How many mugs?", "context": {context}}}'.encode()
        status, problem = await shop.ask("POST", "/v1/chat", data=body, headers={"Content-Type": "application/json"})
        assert (status, problem["field"]) == (422, "context")
    assert pod.runs == []


@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"message": "\\ud800"}'])
async def test_what_is_not_json_is_refused(shop: Any, body: bytes) -> None:
    status, _ = await shop.ask("POST", "/v1/chat", data=body, headers={"Content-Type": "application/json"})
    assert status in (400, 422)


async def test_a_chat_needs_a_key(shop: Any) -> None:
    status, problem = await shop.ask("POST", "/v1/chat", key="wp_nobody", json={"message": "x"})
    assert (status, problem["status"]) == (401, 401)


async def test_without_pods_the_caller_is_told_to_come_back(shop: Any) -> None:
    async with shop.request("POST", "/v1/chat", json={"message": "How many mugs?"}) as response:
        assert response.status == 503
        assert int(response.headers["Retry-After"]) >= 1


async def test_a_client_that_hangs_up_cancels_its_program(shop: Any, pod: Any) -> None:
    pod.script = pod.until_cancelled
    asking = asyncio.create_task(ask(shop))
    await asyncio.wait_for(pod.running.wait(), 5)
    asking.cancel()
    await asyncio.wait_for(pod.cancelled.wait(), 5)
    await shop.until_states(pod_1=PodState.IDLE)


class TestWithAScriptedModel:
    @pytest.fixture
    def model_seconds(self) -> float:
        return 30.0

    @pytest.fixture
    def changes(self, model_api: Any, model_seconds: float) -> dict[str, Any]:
        return {"model": {"base_url": model_api.base_url, "timeout_seconds": model_seconds, "max_retries": 0}}

    @pytest.mark.parametrize(
        ("status", "code", "expected", "retry"),
        [
            (429, "rate_limit", 503, "7"),
            (500, "x", 503, "7"),
            (401, "invalid_api_key", 502, None),
            (400, "context_length_exceeded", 422, None),
        ],
    )
    async def test_a_model_that_fails_is_a_problem_document(
        self, shop: Any, model_api: Any, reply: Any, status: int, code: str, expected: int, retry: str | None
    ) -> None:
        model_api.script(reply.error(status, code, retry_after="7"))
        async with shop.request("POST", "/v1/chat", json={"message": "How?"}) as response:
            assert (response.status, response.headers.get("Retry-After")) == (expected, retry)
            assert response.headers["Content-Type"] == "application/problem+json"
            assert (await response.json(content_type=None))["status"] == expected

    @pytest.mark.parametrize("model_seconds", [0.3])
    async def test_a_model_that_says_nothing_is_given_up(self, shop: Any, model_api: Any, reply: Any) -> None:
        model_api.script(reply(hang=True))
        status, problem = await ask(shop)
        assert (status, problem["title"]) == (503, "Not available at the moment")

    async def test_a_client_that_hangs_up_ends_the_call_of_the_model(
        self, shop: Any, model_api: Any, reply: Any
    ) -> None:
        model_api.script(reply(hang=True))
        asking = asyncio.create_task(ask(shop))
        await asyncio.wait_for(model_api.asked.wait(), 5)
        asking.cancel()
        await asyncio.wait_for(model_api.hung_up.wait(), 5)

    @pytest.mark.parametrize("program", ["x = '" + "a" * 70_000 + "'\nreturn 1", "x = 1\nreturn '\x00'"])
    async def test_a_program_that_no_sandbox_would_take_is_repaired(
        self, shop: Any, pod: Any, model_api: Any, reply: Any, program: str
    ) -> None:
        model_api.script(reply.text(f"```python\n{program}\n```"), reply.text(CODE), reply.text("One."))
        status, answer = await ask(shop)
        assert (status, answer["answer"]) == (200, "One.")
        assert [turn["status"] for turn in answer["turns"]] == ["rejected", "ok", None]
        assert answer["turns"][0]["execution"] is None
        assert "code: " in model_api.requests[1]["messages"][-1]["content"]
        assert len(json.dumps(model_api.requests[2])) < 3000


async def test_the_openapi_document_describes_the_chat_and_resolves(shop: Any) -> None:
    _, document = await shop.ask("GET", "/openapi.json")
    operation = document["paths"]["/v1/chat"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema["examples"][0]["message"]
    assert schema["properties"]["history"]["items"]["properties"]["role"]
    assert "$ref" not in json.dumps(schema)
    assert operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/ChatResponse")


async def test_a_chat_under_way_is_answered_by_a_gateway_that_ends(gateway: Any, tools: Any) -> None:
    tools.say = LISTING
    await gateway.add_pods(1)
    await gateway.until_ready(200)
    chatting = asyncio.create_task(gateway.post("/v1/chat", {"message": "How many mugs?"}))
    await asyncio.wait_for(gateway.pods[0].running.wait(), 10)
    gateway.stop()
    await gateway.until_ready(503)
    gateway.may_end.set()
    status, _, answer = await chatting
    assert (status, [turn["kind"] for turn in answer["turns"]]) == (200, ["program", "answer"])

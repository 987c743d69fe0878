"""The stand-in's API over real HTTP: through the openai package, and byte by byte where the package hides the shape."""

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
import pytest

from warmpool.local.standin import MODEL, running

SIGNATURES = """Tools:
# servers.search
search_products(query: str, *, limit: int = 10) -> list[Product]  # Finds products
"""
ASKED: list[Any] = [{"role": "system", "content": SIGNATURES}, {"role": "user", "content": "How many mugs?"}]
RESULT: list[Any] = [
    {"role": "system", "content": "Answer."},
    {"role": "user", "content": "How many mugs?"},
    {"role": "assistant", "content": "```python\nreturn 1\n```"},
    {"role": "user", "content": 'Result of the program:\n```json\n{"found":7}\n```'},
]


@pytest.fixture
async def client(base_url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    client = openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=10)
    yield client
    await client.close()


@pytest.fixture
async def http(base_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=base_url, trust_env=False, timeout=10) as http:
        yield http


async def test_a_question_gets_a_program_and_a_count_of_tokens(client: openai.AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(model=MODEL, messages=ASKED)
    assert reply.model == MODEL
    assert reply.choices[0].finish_reason == "stop"
    text = reply.choices[0].message.content
    assert text is not None
    assert text.startswith("```python\nfrom servers.search import search_products\n")
    assert reply.usage is not None
    assert reply.usage.completion_tokens == -(-len(text) // 4)
    assert reply.usage.prompt_tokens == 2 * 4 + -(-len(SIGNATURES) // 4) + 4
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


async def test_a_result_gets_an_answer_that_says_who_wrote_it(client: openai.AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(model=MODEL, messages=RESULT)
    text = reply.choices[0].message.content
    assert text == "I found 7 mugs.\n\n(Written by warmpool's stand-in by fixed rules, not by a language model.)"


async def test_the_same_conversation_gets_the_same_reply(client: openai.AsyncOpenAI) -> None:
    replies = [await client.chat.completions.create(model=MODEL, messages=ASKED) for _ in range(2)]
    assert replies[0].choices == replies[1].choices
    assert replies[0].id != replies[1].id


async def test_a_stream_has_the_same_text_and_usage(client: openai.AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model=MODEL, messages=ASKED)
    stream = await client.chat.completions.create(
        model=MODEL, messages=ASKED, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert len(pieces) > 10
    assert "".join(pieces) == whole.choices[0].message.content
    assert [choice.finish_reason for choice in chunks[-2].choices] == ["stop"]
    assert (chunks[-1].choices, chunks[-1].usage) == ([], whole.usage)
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_a_stream_without_the_option_carries_no_usage(http: httpx2.AsyncClient) -> None:
    body = {"model": MODEL, "messages": RESULT, "stream": True}
    response = await http.post("/chat/completions", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in response.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert not any("usage" in chunk for chunk in chunks)
    assert len({chunk["id"] for chunk in chunks}) == 1


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
async def test_a_token_limit_cuts_the_reply(client: openai.AsyncOpenAI, limit: str) -> None:
    options: Any = {limit: 5}
    reply = await client.chat.completions.create(model=MODEL, messages=ASKED, **options)
    assert reply.choices[0].finish_reason == "length"
    assert reply.choices[0].message.content == "```python\nfrom serve"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 5


async def test_a_message_may_come_in_parts(client: openai.AsyncOpenAI) -> None:
    parts: Any = [{"type": "text", "text": "How many "}, {"type": "text", "text": "mugs?"}]
    messages: Any = [ASKED[0], {"role": "user", "content": parts}]
    in_parts = await client.chat.completions.create(model=MODEL, messages=messages)
    whole = await client.chat.completions.create(model=MODEL, messages=ASKED)
    assert in_parts.choices == whole.choices


async def test_the_models_are_listed(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == [MODEL]
    assert (await client.models.retrieve(MODEL)).owned_by == "warmpool"


async def test_another_model_is_not_found(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        await client.chat.completions.create(model="gpt-9", messages=ASKED)
    assert raised.value.code == "model_not_found"
    assert raised.value.param == "model"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"model": None}, "model"),
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, None),
    ],
)
async def test_a_request_of_another_form_is_refused_in_the_apis_shape(
    http: httpx2.AsyncClient, change: dict[str, Any], param: str | None
) -> None:
    response = await http.post("/chat/completions", json={"model": MODEL, "messages": ASKED, **change})
    error = response.json()["error"]
    assert response.status_code == 400
    assert error["type"] == "invalid_request_error"
    assert param is None or error["param"] == param


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"null", b'{"model": "\\ud800", "messages": []}'])
async def test_a_body_that_is_no_request_is_refused(http: httpx2.AsyncClient, body: bytes) -> None:
    response = await http.post("/chat/completions", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["message"]


async def test_an_endless_body_is_refused(http: httpx2.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"{"

    assert (await http.post("/chat/completions", content=b" " * 2_000_000)).status_code == 413
    assert (await http.post("/chat/completions", content=endless())).status_code == 411


async def test_other_paths_and_methods_are_refused_in_the_apis_shape(http: httpx2.AsyncClient) -> None:
    assert (await http.post("/embeddings", json={})).json()["error"]["message"] == "Not Found (POST /v1/embeddings)"
    assert (await http.get("/chat/completions")).status_code == 405


def test_a_taken_port_is_an_error(base_url: str) -> None:
    with pytest.raises(OSError, match="in use"), running(urlsplit(base_url).port or 0):
        pass


async def test_odd_characters_are_answered(http: httpx2.AsyncClient) -> None:
    for text in ("how many \ud800 mugs", "how many \x00 mugs", "كم عدد الأكواب؟", "🦄" * 500, '"""\\'):
        messages = [ASKED[0], {"role": "user", "content": text}]
        response = await http.post("/chat/completions", content=json.dumps({"model": MODEL, "messages": messages}))
        assert response.status_code in (200, 400), text

"""The model's API over a real socket: what is sent, what is counted, and every way in which it can fail."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from warmpool.errors import InvalidRequest, ModelRefused, Unavailable
from warmpool.settings import ModelSettings
from warmpool_gateway.model import Completion, Message, OpenAIModel, Tokens, model_key

KEY = "sk-a-key-that-must-not-show"
QUESTION = [Message(role="system", content="Rules."), Message(role="user", content="How many lamps?")]


@pytest.fixture
async def model(model_api: Any) -> AsyncIterator[Callable[..., Awaitable[OpenAIModel]]]:
    made: list[OpenAIModel] = []

    async def make(**settings: Any) -> OpenAIModel:
        chosen = {"base_url": model_api.base_url, "name": "scripted", "timeout_seconds": 5, **settings}
        made.append(await asyncio.to_thread(OpenAIModel, ModelSettings(**chosen), KEY))
        return made[-1]

    yield make
    for client in made:
        await client.close()


async def test_messages_go_out_and_text_and_tokens_come_back(model: Any, model_api: Any, reply: Any) -> None:
    model_api.script(
        reply.text(
            "Twelve.",
            prompt_tokens_details={"cached_tokens": 64},
            completion_tokens_details={"reasoning_tokens": 7},
        )
    )
    completion: Completion = await (await model()).complete(QUESTION)
    assert (completion.text, completion.model) == ("Twelve.", "scripted-1")
    assert completion.tokens == Tokens(prompt=100, completion=10, total=110, cached=64, reasoning=7)
    assert completion.retries == 0
    assert model_api.requests[0]["model"] == "scripted"
    assert model_api.requests[0]["messages"][1] == {"role": "user", "content": "How many lamps?"}
    assert model_api.headers[0]["authorization"] == f"Bearer {KEY}"


async def test_an_api_that_counts_no_tokens_leaves_them_out(model: Any, model_api: Any, reply: Any) -> None:
    model_api.script(reply.json({"choices": [{"message": {"content": "Twelve."}, "finish_reason": "length"}]}))
    completion = await (await model()).complete(QUESTION)
    assert (completion.tokens, completion.model) == (None, "scripted")


async def test_a_refusal_is_the_text(model: Any, model_api: Any, reply: Any) -> None:
    model_api.script(reply.json({"choices": [{"message": {"content": None, "refusal": "I would rather not."}}]}))
    assert (await (await model()).complete(QUESTION)).text == "I would rather not."


async def test_what_utf8_cannot_carry_is_replaced_on_both_ways(model: Any, model_api: Any, reply: Any) -> None:
    model_api.script(reply.text("odd \ud800"))
    completion = await (await model()).complete([Message(role="user", content="lone \udfff")])
    assert completion.text == "odd ?"
    assert model_api.requests[0]["messages"][0]["content"] == "lone ?"


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
async def test_a_passing_failure_is_tried_again(model: Any, model_api: Any, reply: Any, status: int) -> None:
    model_api.script(reply.error(status, retry_after_ms="1"), reply.text("Twelve."))
    completion = await (await model()).complete(QUESTION)
    assert (completion.text, completion.retries) == ("Twelve.", 1)


async def test_a_lost_connection_is_tried_again(model: Any, model_api: Any, reply: Any) -> None:
    model_api.script(reply(drop=True), reply.text("Twelve."))
    assert (await (await model()).complete(QUESTION)).retries == 1


async def test_retries_have_a_budget(model: Any, model_api: Any, reply: Any) -> None:
    model_api.script(reply.error(500, retry_after_ms="1"))
    with pytest.raises(Unavailable, match=r"failed \(500\)"):
        await (await model(max_retries=2)).complete(QUESTION)
    assert len(model_api.requests) == 3


async def test_a_wait_that_does_not_fit_is_not_begun(model: Any, model_api: Any, reply: Any) -> None:
    model_api.script(reply.error(429, retry_after="60"), reply.text("Twelve."))
    with pytest.raises(Unavailable, match="limits the rate") as raised:
        await (await model()).complete(QUESTION)
    assert raised.value.retry_after == 60
    assert len(model_api.requests) == 1


@pytest.mark.parametrize("header", ["nan", "inf", "-1", "soon", "Wed, 21 Oct 2026 07:28:00 GMT"])
async def test_a_senseless_retry_after_counts_as_absent(model: Any, model_api: Any, reply: Any, header: str) -> None:
    model_api.script(reply.error(429, retry_after=header))
    with pytest.raises(Unavailable) as raised:
        await (await model(max_retries=0)).complete(QUESTION)
    assert raised.value.retry_after == 5


async def test_a_slow_model_is_given_up(model: Any, model_api: Any, reply: Any) -> None:
    model_api.script(reply(hang=True))
    with pytest.raises(Unavailable) as raised:
        await (await model(timeout_seconds=0.2)).complete(QUESTION)
    assert raised.value.retry_after > 0


async def test_a_model_that_is_away_is_said_to_be(model: Any) -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        await (await model(base_url="http://127.0.0.1:9/v1", max_retries=0)).complete(QUESTION)


async def test_a_conversation_over_the_models_length_is_the_callers_to_mend(
    model: Any, model_api: Any, reply: Any
) -> None:
    model_api.script(reply.error(400, "context_length_exceeded"))
    with pytest.raises(InvalidRequest, match="too long"):
        await (await model()).complete(QUESTION)


@pytest.mark.parametrize(
    ("status", "code"), [(401, "invalid_api_key"), (403, "x"), (404, "model_not_found"), (400, "x")]
)
async def test_a_refused_key_or_model_is_ours_to_mend(
    model: Any, model_api: Any, reply: Any, status: int, code: str
) -> None:
    model_api.script(reply.error(status, code))
    with pytest.raises(ModelRefused, match=f"{status} {code}"):
        await (await model()).complete(QUESTION)
    assert len(model_api.requests) == 1


@pytest.mark.parametrize(
    "body", [b"<html>Welcome</html>", b"[]", b"{}", b'{"choices": 1}', b'{"choices": [1]}', b'"x"', b"null", b"{", b""]
)
@pytest.mark.parametrize("kind", ["application/json", "text/html"])
async def test_a_200_of_another_form_is_an_error(
    model: Any, model_api: Any, reply: Any, body: bytes, kind: str
) -> None:
    model_api.script(reply(200, body, {"content-type": kind}))
    with pytest.raises((ModelRefused, Unavailable)):
        await (await model(max_retries=0)).complete(QUESTION)


@pytest.mark.parametrize("choices", [[], [{"message": {"content": ""}}], [{"message": {}}]])
async def test_an_empty_reply_is_an_error(model: Any, model_api: Any, reply: Any, choices: list[Any]) -> None:
    model_api.script(reply.json({"choices": choices}))
    with pytest.raises(Unavailable, match="empty reply"):
        await (await model()).complete(QUESTION)


async def test_the_key_is_in_no_log_and_no_message(
    model: Any, model_api: Any, reply: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    refusal = {"error": {"message": f"Incorrect API key provided: {KEY}", "type": "x", "code": "invalid_api_key"}}
    model_api.script(reply.text("Hello."), reply.json(refusal, 401))
    client = await model()
    await client.complete(QUESTION)
    with pytest.raises(ModelRefused) as raised:
        await client.complete(QUESTION)
    assert KEY not in str(raised.value)
    assert KEY not in repr(client)
    logged = "\n".join(f"{record.getMessage()} {record.args}" for record in caplog.records)
    assert "POST" in logged
    assert KEY not in logged


def test_the_key_comes_from_the_secrets_folder_then_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert model_key(tmp_path) == "none"
    monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
    assert model_key(tmp_path) == "from-environment"
    (tmp_path / "model.key").write_text("from-file\n")
    assert model_key(tmp_path) == "from-file"


def test_no_time_to_wait_is_refused() -> None:
    with pytest.raises(ValidationError):
        ModelSettings(timeout_seconds=0)

"""The way of a question: real model servers over HTTP (the stand-in, and a scripted one), programs that run nowhere."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY

from servers.search import TOOLS
from warmpool.errors import PoolExhausted, QuotaExceeded, Unavailable
from warmpool.protocol import Limits, ProgramError, Status
from warmpool.settings import ModelSettings
from warmpool.tools import signature_lines
from warmpool_gateway.chat_service import ChatService, Ran
from warmpool_gateway.chat_wire import ChatRequest
from warmpool_gateway.model import OpenAIModel

CODE = "```python\nreturn 1\n```"


class Signatures:
    async def signatures(self) -> str:
        return signature_lines([tool.definition for tool in TOOLS], "signatures")


class Scripted:
    """Runs nothing; gives the outcomes it was told to."""

    def __init__(self, *outcomes: Ran | Exception) -> None:
        self.outcomes = list(outcomes)
        self.ran: list[tuple[str, Any]] = []

    async def run(self, code: str, context: Any) -> Ran:
        self.ran.append((code, context))
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def ok(value: Any, stdout: str = "") -> Ran:
    return Ran(id="exe_ok", status=Status.OK, value=value, stdout=stdout, error=None, usage={"tool_calls": 1})


def failed(status: Status = Status.USER_ERROR, type: str = "TypeError", message: str = "not a number") -> Ran:
    error = ProgramError(type=type, message=message, line=3, remedy="look again")
    return Ran(id="exe_no", status=status, value=None, stdout="", error=error, usage={})


Make = Callable[..., Awaitable[ChatService]]


@pytest.fixture
async def service() -> AsyncIterator[Make]:
    models: list[OpenAIModel] = []

    async def make(base_url: str, **options: Any) -> ChatService:
        settings = ModelSettings(base_url=base_url, timeout_seconds=5, max_retries=0)
        models.append(await asyncio.to_thread(OpenAIModel, settings, "none"))
        return ChatService(models[-1], Signatures(), Limits(), **options)

    yield make
    for model in models:
        await model.close()


async def test_a_question_is_answered_by_a_program(service: Make, stand_in: str) -> None:
    programs = Scripted(ok({"found": 7, "complete": True}))
    response = await (await service(stand_in)).chat("acme", ChatRequest(message="How many mugs in stock?"), programs)
    assert response.answer.startswith("I found 7 mugs in stock.\n")
    assert (response.outcome, response.arm, response.model) == ("answered", "code", "warmpool-stand-in")
    assert [turn.kind for turn in response.turns] == ["program", "answer"]
    assert (response.turns[0].execution, response.turns[0].status) == ("exe_ok", "ok")
    assert response.execution is not None
    assert response.execution.program == programs.ran[0][0]
    assert "search_products(" in response.execution.program
    assert response.execution.result == {"found": 7, "complete": True}
    assert response.usage.total == sum(turn.tokens.total for turn in response.turns if turn.tokens)
    assert response.usage.total == response.usage.prompt + response.usage.completion
    assert 0 < response.timings.model <= response.timings.total


async def test_a_failed_program_is_repaired_once_within_the_token_budget(service: Make, stand_in: str) -> None:
    value = {"found": 2, "worth": "99.90 EUR", "left_out": 1}
    programs = Scripted(failed(), ok(value))
    response = await (await service(stand_in)).chat(
        "acme", ChatRequest(message="What is our stock of mugs worth?"), programs
    )
    assert response.answer.startswith("The stock of 2 mugs is worth 99.90 EUR")
    assert [turn.kind for turn in response.turns] == ["program", "repair", "answer"]
    assert [turn.status for turn in response.turns] == ["user_error", "ok", None]
    assert programs.ran[0][0] != programs.ran[1][0]
    assert response.usage.total <= 2000


async def test_two_failures_are_told_and_not_a_third_time_tried(service: Make, stand_in: str) -> None:
    programs = Scripted(failed(), failed(type="KeyError", message="'colour'"))
    response = await (await service(stand_in)).chat("acme", ChatRequest(message="How many mugs?"), programs)
    assert response.outcome == "program_failed"
    assert "KeyError: 'colour'" in response.answer
    assert [turn.kind for turn in response.turns] == ["program", "repair"]
    assert response.execution is not None
    assert response.execution.error == {
        "type": "KeyError",
        "message": "'colour'",
        "line": 3,
        "remedy": "look again",
    }


async def test_words_without_a_program_are_the_answer(service: Make, stand_in: str) -> None:
    response = await (await service(stand_in)).chat("acme", ChatRequest(message="Hello!"), Scripted())
    assert (response.outcome, response.execution) == ("no_program", None)
    assert "stand-in" in response.answer


@pytest.mark.parametrize("status", [Status.PLATFORM_ERROR, Status.CANCELLED])
async def test_a_program_that_could_not_be_run_is_said_to_be_our_fault(
    service: Make, stand_in: str, status: Status
) -> None:
    programs = Scripted(failed(status, "SandboxLost", "the sandbox was lost"))
    response = await (await service(stand_in)).chat("acme", ChatRequest(message="How many mugs?"), programs)
    assert response.outcome == "platform_error"
    assert "no fault of the question (the sandbox was lost)" in response.answer
    assert response.execution is not None
    assert response.execution.status == status.value


@pytest.mark.parametrize("status", [status for status in Status if status not in ("ok", "platform_error", "cancelled")])
async def test_every_fault_of_a_program_gets_a_repair(
    service: Make, model_api: Any, reply: Any, status: Status
) -> None:
    model_api.script(reply.text(CODE), reply.text("```python\nreturn 2\n```"), reply.text("Two."))
    programs = Scripted(failed(status, "SomeLimit", "too much"), ok(2))
    response = await (await service(model_api.base_url)).chat("acme", ChatRequest(message="How many mugs?"), programs)
    assert response.answer == "Two."
    assert [program for program, _ in programs.ran] == ["return 1\n", "return 2\n"]
    told = model_api.requests[1]["messages"]
    assert told[:-2] == model_api.requests[0]["messages"]
    assert told[-2] == {"role": "assistant", "content": CODE}
    assert told[-1]["content"].startswith("The program failed (line 3): SomeLimit: too much\nRemedy: look again")


async def test_a_repair_in_words_is_the_answer(service: Make, model_api: Any, reply: Any) -> None:
    model_api.script(reply.text(CODE), reply.text("I cannot find that out."))
    response = await (await service(model_api.base_url)).chat("acme", ChatRequest(message="How?"), Scripted(failed()))
    assert (response.answer, response.outcome) == ("I cannot find that out.", "no_program")
    assert [turn.kind for turn in response.turns] == ["program", "repair"]


async def test_a_run_without_an_error_to_show_is_repaired_all_the_same(
    service: Make, model_api: Any, reply: Any
) -> None:
    model_api.script(reply.text(CODE))
    bare = Ran(id="exe", status=Status.CRASHED, value=None, stdout="", error=None, usage={})
    response = await (await service(model_api.base_url)).chat("acme", ChatRequest(message="How?"), Scripted(bare, bare))
    assert "crashed" in response.answer


async def test_history_goes_before_the_question_and_context_to_the_program_only(
    service: Make, model_api: Any, reply: Any
) -> None:
    model_api.script(reply.text(CODE), reply.text("One."))
    programs = Scripted(ok(1))
    request = ChatRequest.model_validate(
        {
            "message": "And in my cart?",
            "history": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
            "context": {"cart": ["secret lamp"]},
        }
    )
    await (await service(model_api.base_url)).chat("acme", request, programs)
    roles = [message["role"] for message in model_api.requests[0]["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    assert "secret lamp" not in str(model_api.requests)
    assert programs.ran[0][1] == {"cart": ["secret lamp"]}


async def test_the_answer_turn_carries_the_result_and_no_signatures(service: Make, model_api: Any, reply: Any) -> None:
    model_api.script(reply.text(CODE), reply.text("One."))
    await (await service(model_api.base_url)).chat("acme", ChatRequest(message="How many?"), Scripted(ok({"count": 1})))
    system, question, program, result = model_api.requests[1]["messages"]
    assert "search_products" not in system["content"]
    assert question["content"] == "How many?"
    assert program["content"] == CODE
    assert result["content"] == 'Result of the program:\n```json\n{"count":1}\n```'


async def test_a_large_result_reaches_the_model_cut_and_the_caller_whole(
    service: Make, model_api: Any, reply: Any
) -> None:
    model_api.script(reply.text(CODE), reply.text("Many."))
    value = [{"sku": f"A-{n}"} for n in range(5000)]
    made = await service(model_api.base_url, result_chars=500)
    response = await made.chat("acme", ChatRequest(message="All?"), Scripted(ok(value)))
    shown = model_api.requests[1]["messages"][-1]["content"]
    assert len(shown) < 560
    assert "more not shown" in shown
    assert response.execution is not None
    assert response.execution.result == value


async def test_what_was_printed_counts_where_nothing_was_returned(service: Make, model_api: Any, reply: Any) -> None:
    model_api.script(reply.text("```python\nprint(12)\n```"), reply.text("Twelve."))
    await (await service(model_api.base_url)).chat("acme", ChatRequest(message="How?"), Scripted(ok(None, "12\n")))
    assert '{"printed":"12\\n"}' in model_api.requests[1]["messages"][-1]["content"]


@pytest.mark.parametrize("good_turns", [0, 1, 2])
async def test_a_model_that_goes_away_is_an_error_at_any_turn(
    service: Make, model_api: Any, reply: Any, good_turns: int
) -> None:
    model_api.script(*[reply.text(CODE)] * good_turns, reply.error(429, retry_after="7"))
    with pytest.raises(Unavailable) as raised:
        await (await service(model_api.base_url)).chat("acme", ChatRequest(message="How?"), Scripted(failed(), ok(1)))
    assert raised.value.retry_after == 7


async def test_a_full_pool_is_an_error(service: Make, model_api: Any, reply: Any) -> None:
    model_api.script(reply.text(CODE))
    with pytest.raises(PoolExhausted):
        await (await service(model_api.base_url)).chat("acme", ChatRequest(message="How?"), Scripted(PoolExhausted()))


async def test_tokens_and_outcomes_are_counted(service: Make, model_api: Any, reply: Any) -> None:
    def sample(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    def samples() -> list[float]:
        return [
            sample("warmpool_chat_tokens_total", turn="program", kind="prompt"),
            sample("warmpool_chat_tokens_total", turn="answer", kind="completion"),
            sample("warmpool_chats_total", outcome="answered"),
            sample("warmpool_chats_total", outcome="error"),
        ]

    before = samples()
    model_api.script(reply.text(CODE), reply.text("One."), reply.error(500))
    made = await service(model_api.base_url)
    await made.chat("acme", ChatRequest(message="How many?"), Scripted(ok(1)))
    with pytest.raises(Unavailable):
        await made.chat("acme", ChatRequest(message="How many?"), Scripted())
    assert [now - then for now, then in zip(samples(), before, strict=True)] == [100, 10, 1, 1]


async def test_an_api_without_usage_leaves_the_turns_tokens_empty(service: Make, model_api: Any, reply: Any) -> None:
    model_api.script(reply.json({"choices": [{"message": {"content": "Hello."}}]}))
    response = await (await service(model_api.base_url)).chat("acme", ChatRequest(message="Hi"), Scripted())
    assert response.turns[0].tokens is None
    assert response.usage.total == 0


async def test_one_tenant_cannot_take_every_place(service: Make, model_api: Any, reply: Any) -> None:
    model_api.script(reply(hang=True))
    made = await service(model_api.base_url, most_at_once=2, most_of_a_tenant=1)
    first = asyncio.create_task(made.chat("acme", ChatRequest(message="How?"), Scripted()))
    await asyncio.sleep(0)
    with pytest.raises(QuotaExceeded) as caught:
        await made.chat("acme", ChatRequest(message="How?"), Scripted())
    assert caught.value.fields == {"quota": 1}
    second = asyncio.create_task(made.chat("other", ChatRequest(message="How?"), Scripted()))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await made.chat("third", ChatRequest(message="How?"), Scripted())
    first.cancel()
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)


async def test_a_place_is_free_again_when_its_chat_has_ended(service: Make, stand_in: str) -> None:
    made = await service(stand_in, most_of_a_tenant=1)
    for _ in range(2):
        response = await made.chat("acme", ChatRequest(message="Hello!"), Scripted())
        assert response.outcome == "no_program"

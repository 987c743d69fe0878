"""The gateway's end of a stream, against a supervisor that obeys the protocol and against ones that do not."""

import asyncio
import functools
import random
import struct
from dataclasses import replace
from typing import Any

import pytest

from gateway.tests.scripted import no_tools, run
from warmpool.errors import PlatformError, ToolFailed
from warmpool.protocol import HEADER, MAX_BODY_BYTES, Message, Outcome, Refusal, Status, encode_frame
from warmpool_gateway import pod_stream
from warmpool_gateway.pod_stream import NotStarted, Program


@pytest.fixture
async def gone() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


async def soon(condition: Any, seconds: float = 5.0) -> None:
    """Waits until the condition holds; for states that announce themselves nowhere."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0)


async def test_a_program_goes_out_and_its_outcome_comes_back(connections, supervisor):
    program = Program(code="return 'é'", context=b'{"a": [1, 2]}', limits={"wall_seconds": 3})
    outcome = await run(connections, supervisor, program, fence=7)
    assert outcome.value == {
        "code": "return 'é'",
        "context": {"a": [1, 2]},
        "limits": {"wall_seconds": 3},
        "fence": 7,
    }
    assert outcome.clean


async def test_integers_past_64_bits_keep_their_value(connections, supervisor):
    outcome = await run(connections, supervisor, Program(code="1", context=b"123456789012345678901234567890"))
    assert outcome.value["context"] == 123456789012345678901234567890


async def test_tool_calls_are_relayed_both_ways(connections, supervisor):
    async def script(talk, message):
        answers = [await talk.call_tool("search.search_products", {"query": "red"}, id=n) for n in (1, 2)]
        talk.result(message["execution"], value=[answer["value"] for answer in answers])

    async def tools(tool, arguments):
        assert (tool, arguments) == ("search.search_products", {"query": "red"})
        return b'[{"id": 12345678901234567890123}]'

    supervisor.script = script
    outcome = await run(connections, supervisor, tools=tools)
    assert outcome.value == [[{"id": 12345678901234567890123}]] * 2


async def test_a_failed_tool_call_arrives_with_its_fields(connections, supervisor):
    async def script(talk, message):
        answer = await talk.call_tool("search.get_product_details", {})
        talk.result(message["execution"], value=answer["error"])

    async def tools(tool, arguments):
        raise ToolFailed("no such product", code="not_found", product=4)

    supervisor.script = script
    outcome = await run(connections, supervisor, tools=tools)
    fields = {"product": 4}
    assert outcome.value == {"type": "ToolError", "code": "not_found", "message": "no such product", "fields": fields}


@pytest.mark.parametrize(
    ("fault", "code"), [(b'"' + b"x" * MAX_BODY_BYTES + b'"', "result_too_large"), (KeyError("a bug"), "platform")]
)
async def test_a_tool_result_that_cannot_be_sent_is_an_error_of_the_tool(connections, supervisor, fault, code, caplog):
    async def script(talk, message):
        answer = await talk.call_tool("search.search_products", {})
        talk.result(message["execution"], value=answer["error"]["code"])

    async def tools(tool, arguments):
        if isinstance(fault, Exception):
            raise fault
        return fault

    supervisor.script = script
    assert (await run(connections, supervisor, tools=tools)).value == code


@pytest.mark.parametrize(("levels", "code"), [(127, "sent"), (128, "result_too_large"), (2000, "result_too_large")])
async def test_a_tool_result_nested_too_deep_for_a_frame_is_an_error_of_the_tool(connections, supervisor, levels, code):
    async def script(talk, message):
        answer = await talk.call_tool("search.search_products", {})
        talk.result(message["execution"], value=answer.get("error", {"code": "sent"})["code"])

    async def tools(tool, arguments):
        return b"[" * levels + b"]" * levels

    supervisor.script = script
    assert (await run(connections, supervisor, tools=tools)).value == code
    assert len(connections) == 1


async def test_an_error_of_a_tool_with_fields_too_deep_for_a_frame_arrives_without_them(connections, supervisor):
    async def script(talk, message):
        answer = await talk.call_tool("search.search_products", {})
        talk.result(message["execution"], value=answer["error"])

    async def tools(tool, arguments):
        raise ToolFailed(
            "no such product", code="not_found", nested=functools.reduce(lambda inner, _: [inner], range(200), 0)
        )

    supervisor.script = script
    assert (await run(connections, supervisor, tools=tools)).value["fields"] == {}


async def test_tool_calls_left_open_end_with_the_program(connections, supervisor):
    ended = asyncio.Event()

    async def script(talk, message):
        talk.send(Message.TOOL_CALL, {"id": 1, "tool": "search.slow", "arguments": {}})
        await called.wait()
        talk.result(message["execution"])

    called = asyncio.Event()

    async def tools(tool, arguments):
        called.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    supervisor.script = script
    assert isinstance(await run(connections, supervisor, tools=tools), Outcome)
    await asyncio.wait_for(ended.wait(), 5)


async def test_cancelling_sends_cancel_and_keeps_the_connection(connections, supervisor, gone):
    supervisor.script = supervisor.until_cancelled
    task = asyncio.create_task(run(connections, supervisor, gone=gone))
    await asyncio.wait_for(supervisor.running.wait(), 5)
    gone.set_result(None)
    outcome = await asyncio.wait_for(task, 5)
    assert outcome.status is Status.CANCELLED
    supervisor.script = echo_of(supervisor)
    assert isinstance(await run(connections, supervisor, fence=2), Outcome)
    assert supervisor.connections == 1


def echo_of(supervisor):
    async def script(talk, message):
        talk.result(message["execution"])

    return script


async def test_a_supervisor_that_ignores_cancel_is_given_up(connections, supervisor, gone, monkeypatch):
    monkeypatch.setattr(pod_stream, "CANCEL_SECONDS", 0.05)
    supervisor.script = supervisor.for_ever
    task = asyncio.create_task(run(connections, supervisor, gone=gone))
    await asyncio.wait_for(supervisor.running.wait(), 5)
    gone.set_result(None)
    with pytest.raises(PlatformError, match="did not cancel"):
        await asyncio.wait_for(task, 5)
    assert len(connections) == 0
    await asyncio.wait_for(supervisor.lost.wait(), 5)


async def test_a_caller_that_is_gone_before_the_run_sends_nothing(connections, supervisor, gone):
    gone.set_result(None)
    verdict = await run(connections, supervisor, gone=gone)
    assert verdict.reason == "cancelled"
    assert verdict.clean
    assert supervisor.runs == []


async def test_a_task_that_is_cancelled_closes_the_connection(connections, supervisor):
    supervisor.script = supervisor.for_ever
    task = asyncio.create_task(run(connections, supervisor))
    await asyncio.wait_for(supervisor.running.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(supervisor.lost.wait(), 5)


async def test_a_silent_supervisor_is_given_up_after_the_deadline_and_grace(connections, supervisor, monkeypatch):
    monkeypatch.setattr(pod_stream, "GRACE_SECONDS", 0.05)
    supervisor.script = supervisor.for_ever
    with pytest.raises(PlatformError, match="in time") as caught:
        await run(connections, supervisor, Program(code="1", wall_seconds=0.01))
    assert caught.value.fields == {"pod": "pod-1", "execution": "exe_1"}
    assert len(connections) == 0


async def test_a_supervisor_killed_during_a_run_is_a_platform_error(connections, supervisor):
    supervisor.script = supervisor.for_ever
    task = asyncio.create_task(run(connections, supervisor))
    await asyncio.wait_for(supervisor.running.wait(), 5)
    await supervisor.stop()
    with pytest.raises(PlatformError, match="lost"):
        await asyncio.wait_for(task, 5)
    assert len(connections) == 0


async def test_a_program_says_whose_it_is_without_a_name(connections, supervisor):
    for fence, tenant in enumerate(("acme", "globex", "acme"), 1):
        lease = replace(supervisor.lease("exe_1", fence), tenant=tenant)
        await connections.run(lease, Program(code="1"), no_tools, asyncio.get_running_loop().create_future())
    marks = [run["tenant"] for run in supervisor.runs]
    assert marks[0] == marks[2] != marks[1]
    assert not any(name in mark for mark in marks for name in ("acme", "globex"))


@pytest.mark.parametrize("refusal", list(Refusal))
async def test_a_refusal_is_a_value_and_only_a_malformed_run_is_not_tried_elsewhere(connections, supervisor, refusal):
    supervisor.refuse = refusal
    verdict = await run(connections, supervisor)
    assert (verdict.reason, verdict.message) == (refusal, "not now")
    assert verdict.retry is (refusal is not Refusal.MALFORMED)
    assert verdict.clean is (refusal is Refusal.MALFORMED)


def outcome(**changes) -> bytes:
    message = Outcome(execution="exe_1", status=Status.OK, clean=True).to_json().decode()
    for old, new in changes.items():
        assert old in message
        message = message.replace(old, new)
    return encode_frame(Message.RESULT, message.encode())


BROKEN = {
    "an unknown type": HEADER.pack(0, 99),
    "an oversized length": HEADER.pack(MAX_BODY_BYTES + 1, Message.RESULT),
    "a message out of place": encode_frame(Message.HELLO, {}),
    "not JSON": encode_frame(Message.RESULT, b"\xff\xfe"),
    "not an object": encode_frame(Message.RESULT, b"[1]"),
    "an empty object": encode_frame(Message.RESULT, b"{}"),
    "deep nesting": encode_frame(Message.RESULT, b"[" * 100_000),
    "a NaN": encode_frame(Message.RESULT, b'{"value": NaN}'),
    "another execution's result": outcome(exe_1="exe_2"),
    "an unknown status": outcome(**{'"ok"': '"fine"'}),
    "a number for text": outcome(**{'"head":""': '"head":5'}),
    "text for a number": outcome(**{'"scratch_bytes":0': '"scratch_bytes":"0"'}),
    "a field too many": outcome(**{'"head":""': '"head":"","size":1'}),
    "a list for an error": outcome(**{'"error":null': '"error":[]'}),
    "an error of no form": outcome(**{'"error":null': '"error":{"type":1,"message":"x"}'}),
    "residue that is not text": outcome(**{'"residue":[]': '"residue":[1]'}),
    "another execution's refusal": encode_frame(Message.REFUSED, {"execution": "x", "reason": "busy", "message": ""}),
    "an unknown refusal": encode_frame(Message.REFUSED, {"execution": "exe_1", "reason": "tired", "message": ""}),
    "a refusal of no form": encode_frame(Message.REFUSED, {"execution": "exe_1", "reason": ["busy"]}),
    "a tool call without id": encode_frame(Message.TOOL_CALL, {"tool": "a.b", "arguments": {}}),
    "a tool call with a true id": encode_frame(Message.TOOL_CALL, {"id": True, "tool": "a.b", "arguments": {}}),
    "a tool call without tool": encode_frame(Message.TOOL_CALL, {"id": 1, "arguments": {}}),
    "a tool call with a list": encode_frame(Message.TOOL_CALL, {"id": 1, "tool": "a.b", "arguments": []}),
    "one tool call twice": encode_frame(Message.TOOL_CALL, {"id": 1, "tool": "a.b", "arguments": {}}) * 2,
    "nine tool calls at once": b"".join(
        encode_frame(Message.TOOL_CALL, {"id": id, "tool": "a.b", "arguments": {}}) for id in range(9)
    ),
    "a frame cut off": struct.pack(">IB", 100, Message.RESULT) + b"{",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
async def test_a_broken_answer_is_a_platform_error_and_closes_the_connection(connections, supervisor, data):
    async def script(talk, message):
        talk.writer.write(data)
        talk.writer.write_eof()
        await talk.receive()

    async def tools(tool, arguments):
        await asyncio.Event().wait()
        return b""

    supervisor.script = script
    with pytest.raises(PlatformError):
        await asyncio.wait_for(run(connections, supervisor, tools=tools), 5)
    assert len(connections) == 0
    await asyncio.wait_for(supervisor.lost.wait(), 5)


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
async def test_a_broken_greeting_did_not_start_the_program(connections, supervisor, data):
    async def greet(talk):
        talk.writer.write(data)
        talk.writer.write_eof()
        await talk.receive()

    supervisor.handshake = greet
    verdict = await asyncio.wait_for(run(connections, supervisor), 5)
    assert isinstance(verdict, NotStarted)
    assert len(connections) == 0


async def test_a_message_between_runs_closes_the_connection(connections, supervisor):
    async def script(talk, message):
        talk.result(message["execution"])
        talk.result(message["execution"])

    supervisor.script = script
    assert isinstance(await run(connections, supervisor), Outcome)
    await asyncio.wait_for(supervisor.lost.wait(), 5)
    await soon(lambda: len(connections) == 0)


async def test_noise_never_hangs_and_never_escapes(connections, supervise):
    noise = random.Random(7)
    whole = outcome() + encode_frame(Message.TOOL_CALL, {"id": 1, "tool": "a.b", "arguments": {}})

    async def script(talk, message):
        data = bytearray(whole) if noise.random() < 0.7 else bytearray(noise.randbytes(noise.randrange(1, 200)))
        for _ in range(noise.randrange(1, 4)):
            data[noise.randrange(len(data))] = noise.randrange(256)
        cut = noise.randrange(len(data))
        talk.writer.write(bytes(data[:cut]))
        await talk.writer.drain()
        talk.writer.write(bytes(data[cut:]))
        talk.writer.write_eof()
        await talk.receive()

    async def tools(tool, arguments):
        return b"null"

    supervisor = await supervise(script=script)
    for number in range(200):
        try:
            async with asyncio.timeout(5):
                await run(connections, supervisor, tools=tools, fence=number)
        except PlatformError:
            pass

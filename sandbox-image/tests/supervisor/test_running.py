"""Programs sent to `warmpool-sandbox serve`, as a gateway sends them, and as nobody should."""

import asyncio
import json
import os
import random
import signal
import struct
import time

import pytest
from support.serving import Serving, connected, is_gone, proven, run, still_serves, wait_until

from warmpool.protocol import HEADER, Message, encode_frame

WAITING_CALL = "from warmpool_sandbox.tools import call\ncall('a.b', {})"
SLEEP = "import time\nprint('started', flush=True)\ntime.sleep(60)"
PROMPT_SECONDS = 1.0


# -- running


async def test_a_program_runs_and_its_outcome_comes_back(serving):
    result = await run(serving, "print(context)\nreturn {'n': context * 2}", context=21, execution="exe_é")
    assert (result["execution"], result["status"], result["value"]) == ("exe_é", "ok", {"n": 42})
    assert (result["stdout"]["head"], result["clean"], result["residue"]) == ("21\n", True, [])


async def test_one_connection_runs_program_after_program(serving):
    async with proven(serving) as stream:
        for number in range(20):
            stream.start(f"return {number}", serving.next_fence(), execution=f"exe_{number}")
            result = await stream.message(Message.RESULT)
            assert (result["execution"], result["value"]) == (f"exe_{number}", number)


async def test_limits_can_be_lowered_by_a_request(serving):
    result = await run(serving, SLEEP, limits={"wall_seconds": 0.2})
    assert (result["status"], result["stdout"]["head"]) == ("timeout", "started\n")
    assert "wall_seconds = 0.2 reached" in result["error"]["message"]


async def test_a_pools_lower_limits_are_those_of_its_programs(start):
    serving = start("--limits", '{"wall_seconds": 0.2, "processes": 8}')
    async with connected(serving) as stream:
        ready = await stream.greet(serving.home.key)
    assert (ready["limits"]["wall_seconds"], ready["limits"]["processes"]) == (0.2, 8)
    assert (await run(serving, SLEEP))["status"] == "timeout"
    reason, message = await refusal(serving, execution="exe", fence=9, code="1", limits={"wall_seconds": 1})
    assert (reason, message) == (
        "malformed",
        "limits.wall_seconds: 1 is above the pool's 0.2; limits can only be lowered",
    )


async def test_validation_can_be_left_out_by_a_request(serving):
    assert (await run(serving, "eval('1')"))["status"] == "rejected"
    assert (await run(serving, "eval('1')", validate=False))["value"] == 1


async def test_tool_calls_go_up_the_stream_and_their_results_down(serving):
    code = "from warmpool_sandbox.tools import parallel, call\nparallel(lambda n: call('a.b', {'n': n}), range(3))"
    async with proven(serving) as stream:
        stream.start(code, serving.next_fence(), validate=False)
        calls = [await stream.message(Message.TOOL_CALL) for _ in range(3)]
        assert sorted(call["arguments"]["n"] for call in calls) == [0, 1, 2]
        for call in reversed(calls):
            assert (set(call), call["tool"]) == ({"id", "tool", "arguments"}, "a.b")
            stream.send(Message.TOOL_RESULT, {"id": call["id"], "value": call["arguments"]["n"] * 10})
        result = await stream.message(Message.RESULT)
    assert (result["value"], result["usage"]["tool_calls"]) == ([0, 10, 20], 3)


async def test_results_for_no_call_or_from_another_gateway_are_dropped(serving):
    code = WAITING_CALL
    async with proven(serving) as stream, proven(serving) as other:
        stream.send(Message.TOOL_RESULT, {"id": 1, "value": "nothing runs"})
        stream.start(code, serving.next_fence(), validate=False)
        call = await stream.message(Message.TOOL_CALL)
        other.send(Message.TOOL_RESULT, {"id": call["id"], "value": "forged"})
        stream.send(Message.TOOL_RESULT, {"id": call["id"] + 1, "value": "another call"})
        stream.send(Message.TOOL_RESULT, {"id": call["id"], "value": "right"})
        assert (await stream.message(Message.RESULT))["value"] == "right"


# -- refusals


async def refusal(serving: Serving, **body) -> tuple[str, str]:
    async with proven(serving) as stream:
        stream.send(Message.RUN, body)
        refused = await stream.message(Message.REFUSED)
    assert refused["execution"] == str(body.get("execution"))
    return refused["reason"], refused["message"]


async def test_a_second_program_is_refused_while_one_runs(serving):
    async with proven(serving) as first:
        first.start(SLEEP, serving.next_fence(), execution="first")
        for stream_of in (first, None):
            if stream_of is first:
                first.start("1", serving.fence + 1, execution="second")
                refused = await first.message(Message.REFUSED)
                assert (refused["execution"], refused["reason"]) == ("second", "busy")
            else:
                reason, _ = await refusal(serving, execution="third", fence=serving.fence + 1, code="1")
                assert reason == "busy"
        first.send(Message.CANCEL, {"execution": "first"})
        assert (await first.message(Message.RESULT))["status"] == "cancelled"


async def test_a_fence_that_is_not_newer_is_refused(serving):
    await run(serving)
    for fence in (serving.fence, serving.fence - 1, 0, -1):
        reason, message = await refusal(serving, execution="exe", fence=fence, code="1")
        assert (reason, message) == ("stale_fence", f"fence {fence} is not newer than {serving.fence}")


async def test_a_refused_program_does_not_use_up_its_fence(serving):
    await refusal(serving, execution="exe", fence=serving.fence + 5, code=5)
    assert await still_serves(serving)


MALFORMED = {
    "no code": ({"execution": "exe"}, "RUN needs `execution` and `code`"),
    "code that is not text": ({"execution": "exe", "code": ["1"]}, "RUN needs `execution` and `code`"),
    "no execution": ({"code": "1"}, "RUN needs `execution` and `code`"),
    "a fence that is not a number": ({"execution": "exe", "code": "1", "fence": "7"}, "RUN needs `fence`, a number"),
    "a fence that is a truth value": ({"execution": "exe", "code": "1", "fence": True}, "RUN needs `fence`"),
    "a fence with a fraction": ({"execution": "exe", "code": "1", "fence": 1e9 + 0.5}, "RUN needs `fence`"),
    "a limit that is raised": (
        {"execution": "exe", "code": "1", "limits": {"processes": 64}},
        "limits.processes: 64 is above the pool's 32",
    ),
    "an unknown limit": ({"execution": "exe", "code": "1", "limits": {"gpus": 1}}, "limits.gpus: no such limit"),
    "limits that are no object": ({"execution": "exe", "code": "1", "limits": [1]}, "limits"),
    "limits that are text": ({"execution": "exe", "code": "1", "limits": "all"}, "limits"),
    "too much code": ({"execution": "exe", "code": "#" * 65_537}, "code is over code_bytes = 65536"),
    "too many bytes of code": ({"execution": "exe", "code": "é" * 32_769}, "code is over code_bytes = 65536"),
    "more code than a lowered limit": (
        {"execution": "exe", "code": "1 + 1", "limits": {"code_bytes": 4}},
        "code is over code_bytes = 4",
    ),
}


@pytest.mark.parametrize(("body", "message"), MALFORMED.values(), ids=MALFORMED)
async def test_a_request_that_is_not_of_its_form_is_refused_and_says_why(serving, body, message):
    reason, said = await refusal(serving, **({"fence": serving.fence + 1} | body))
    assert reason == "malformed"
    assert message in said


async def test_code_of_just_the_limit_runs(serving):
    code = "7" + " " * 65_535
    assert (await run(serving, code))["value"] == 7


# -- cancelling


async def test_a_cancelled_program_ends_at_once_and_says_so(serving):
    async with proven(serving) as stream:
        stream.start(WAITING_CALL, serving.next_fence(), validate=False)
        await stream.message(Message.TOOL_CALL)
        started = time.monotonic()
        stream.send(Message.CANCEL, {"execution": "exe"})
        result = await stream.message(Message.RESULT)
    assert (result["status"], result["clean"]) == ("cancelled", True)
    assert time.monotonic() - started < PROMPT_SECONDS


async def test_a_cancel_right_behind_its_program_is_not_lost(serving):
    async with proven(serving) as stream:
        program = {"execution": "exe", "fence": serving.next_fence(), "code": SLEEP}
        stream.send_bytes(encode_frame(Message.RUN, program) + encode_frame(Message.CANCEL, {"execution": "exe"}))
        started = time.monotonic()
        assert (await stream.message(Message.RESULT))["status"] == "cancelled"
    assert time.monotonic() - started < PROMPT_SECONDS
    assert await still_serves(serving)


async def test_a_cancel_while_the_zygote_starts_is_not_lost(start):
    serving = start()
    (zygote,) = serving.tree()
    os.kill(zygote, signal.SIGKILL)
    wait_until(lambda: is_gone(zygote))
    await test_a_cancel_right_behind_its_program_is_not_lost(serving)


async def test_only_the_gateway_whose_program_runs_can_cancel_it_and_only_by_its_name(serving):
    async with proven(serving) as stream, proven(serving) as other:
        stream.send(Message.CANCEL, {"execution": "exe"})  # nothing runs
        stream.start(WAITING_CALL, serving.next_fence(), validate=False)
        call = await stream.message(Message.TOOL_CALL)
        other.send(Message.CANCEL, {"execution": "exe"})
        for body in ({"execution": "another"}, {"execution": None}, {}):
            stream.send(Message.CANCEL, body)
        stream.send(Message.TOOL_RESULT, {"id": call["id"], "value": "went on"})
        assert (await stream.message(Message.RESULT))["value"] == "went on"


async def test_a_connection_that_closes_takes_its_program_with_it(serving):
    async with proven(serving) as stream:
        stream.start(WAITING_CALL, serving.next_fence(), validate=False)
        await stream.message(Message.TOOL_CALL)
        assert len(serving.tree()) == 2
    async with proven(serving) as other, asyncio.timeout(PROMPT_SECONDS):
        while True:
            other.start("return 'next'", serving.next_fence())
            frame = await other.receive()
            if frame.type is Message.RESULT:
                break
            assert frame.json()["reason"] == "busy"
            serving.fence -= 1
    assert frame.json()["value"] == "next"


async def test_a_connection_that_closes_at_once_takes_its_program_with_it(serving):
    async with proven(serving) as stream:
        stream.start(SLEEP, serving.next_fence())
    deadline = time.monotonic() + PROMPT_SECONDS
    while True:
        async with proven(serving) as other:
            other.start("1", serving.fence + 1)
            if (await other.receive()).type is Message.RESULT:
                break
            assert time.monotonic() < deadline
    serving.next_fence()


# -- whatever else may arrive


def damaged_frames(rng: random.Random) -> bytes:
    """Random bytes, a frame cut short, a frame of the wrong length or type, or a body that is none."""
    body = json.dumps({"execution": "x", "fence": rng.choice([1, None, "a", 1e300]), "code": 1, "id": [], "v": {}})
    frame = bytearray(encode_frame(rng.choice(list(Message)), body.encode()))
    match rng.randrange(6):
        case 0:
            return rng.randbytes(rng.randrange(200))
        case 1:
            return bytes(frame[: rng.randrange(len(frame))])
        case 2:
            frame[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
            return bytes(frame) * 3
        case 3:
            return struct.pack(">IB", rng.randrange(1 << 32), rng.randrange(256)) + rng.randbytes(50)
        case 4:
            return encode_frame(rng.choice(list(Message)), rng.choice([b"[]", b"1", b"\xff", b"", b"{" * 2000]))
    return bytes(frame)


@pytest.mark.parametrize("after", ["connecting", "the proof"])
async def test_damaged_frames_never_end_the_supervisor(serving, after):
    rng = random.Random(after)
    for _ in range(150):
        async with connected(serving) if after == "connecting" else proven(serving) as stream:
            for _ in range(rng.randrange(1, 4)):
                stream.send_bytes(damaged_frames(rng))
            await stream.finish()
    assert await still_serves(serving)


async def test_an_oversized_frame_closes_the_connection_before_its_bytes_arrive(serving):
    async with proven(serving) as stream:
        stream.send_bytes(HEADER.pack(2 * 1024 * 1024 + 1, Message.RUN))
        assert await stream.is_closed()


@pytest.mark.parametrize("type", [Message.HELLO, Message.READY, Message.RESULT, Message.TOOL_CALL, Message.VALUE])
async def test_a_message_that_is_not_a_gateways_closes_the_connection(serving, type):
    async with proven(serving) as stream:
        stream.send(type, {})
        assert await stream.is_closed()


async def test_a_broken_frame_while_a_program_runs_ends_that_program(serving):
    async with proven(serving) as stream:
        stream.start(SLEEP, serving.next_fence())
        stream.send_bytes(b"\xff" * 100)
        with pytest.raises(EOFError):
            await stream.receive()
    wait_until(lambda: len(serving.tree()) == 1, PROMPT_SECONDS)


FORGE = """
import os, struct
body = b'{"status": "ok", "value": [' + b','.join([b'1e15'] * 65_000) + b']}'
os.write(1, b'\\x01' * 70_000)
os.write(2, b'\\x01' * 70_000)
data = struct.pack('>IB', len(body), 11) + body
while data:
    data = data[os.write(3, data):]
"""


async def test_the_largest_result_that_can_be_forged_fits_into_a_frame(serving):
    result = await run(serving, FORGE)
    assert (result["status"], len(result["value"])) == ("ok", 65_000)
    assert result["stdout"]["truncated"]
    assert result["stderr"]["truncated"]

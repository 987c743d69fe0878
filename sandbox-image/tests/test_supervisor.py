"""`warmpool-sandbox serve` as a gateway meets it: a real process, a real socket."""

import asyncio
import json
import os
import random
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from support.serving import POD, Serving, connected, is_gone, proven, wait_until
from support.unprivileged import AS_ROOT, Place

from warmpool.protocol import HEADER, VERSION, Limits, Message, encode_frame, gateway_proof
from warmpool_sandbox import supervisor as supervisor_module
from warmpool_sandbox.slot import Slot
from warmpool_sandbox.supervisor import Supervisor, serve

WAITING_CALL = "from warmpool_sandbox.tools import call\ncall('a.b', {})"
SLEEP = "import time\nprint('started', flush=True)\ntime.sleep(60)"
PROMPT_SECONDS = 1.0


@pytest.fixture(scope="module")
def serving(sandbox_place: Place) -> Iterator[Serving]:
    """One process that many tests speak to; none may end it."""
    made = Serving(sandbox_place)
    yield made
    assert made.process.poll() is None, "it ended"
    made.close()


async def run(serving: Serving, code: str = "6 * 7", **others) -> dict:
    """One program on a connection of its own; its RESULT."""
    async with proven(serving) as stream:
        stream.start(code, serving.next_fence(), **others)
        return await stream.message(Message.RESULT)


async def still_serves(serving: Serving) -> bool:
    return (await run(serving))["value"] == 42


# -- the handshake


async def test_a_gateway_and_a_supervisor_prove_themselves_to_each_other(serving):
    async with connected(serving) as stream:
        ready = await stream.greet(serving.home.key)
    assert ready["limits"] == Limits().as_dict()


async def test_the_supervisor_speaks_first_and_its_nonce_is_new_each_time(serving):
    nonces = set()
    for _ in range(3):
        async with connected(serving) as stream:
            hello = await stream.message(Message.HELLO)
        assert {name: hello[name] for name in ("v", "pod", "pool")} == {"v": VERSION, "pod": POD, "pool": "default"}
        nonces.add(hello["nonce"])
    assert len(nonces) == 3
    assert all(len(nonce) == 32 for nonce in nonces)


def auth(serving: Serving, hello: dict, **changes) -> dict:
    nonce = changes.get("nonce", "g" * 32)
    parts = {"pod": POD, "supervisor_nonce": hello["nonce"], "gateway_nonce": nonce if isinstance(nonce, str) else ""}
    return {"v": VERSION, "proof": gateway_proof(serving.home.key, **parts), "nonce": nonce} | changes


WRONG = {
    "a proof by another key": lambda s, h: auth(s, h, proof=gateway_proof(
        b"x" * 32, pod=POD, supervisor_nonce=h["nonce"], gateway_nonce="g" * 32)),
    "a proof for another connection": lambda s, h: auth(s, h | {"nonce": "0" * 32}),
    "the proof of the other end": lambda s, h: auth(s, h, proof=supervisor_module.supervisor_proof(
        s.home.key, pod=POD, supervisor_nonce=h["nonce"], gateway_nonce="g" * 32)),
    "no proof": lambda s, h: auth(s, h, proof=None),
    "a proof that is not text": lambda s, h: auth(s, h, proof=[1]),
    "a proof that is not Unicode": lambda s, h: auth(s, h, proof="\ud800"),
    "another version": lambda s, h: auth(s, h, v=VERSION + 1),
    "no version": lambda s, h: auth(s, h, v=None),
    "no nonce": lambda s, h: auth(s, h, nonce=None),
    "an empty nonce": lambda s, h: auth(s, h, nonce=""),
    "a nonce that is too long": lambda s, h: auth(s, h, nonce="g" * 65),
    "a nonce that is not Unicode": lambda s, h: auth(s, h, nonce="\ud800" * 32),
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG.values(), ids=WRONG)
async def test_whoever_does_not_prove_to_hold_the_key_is_cut_off(serving, message):
    async with connected(serving) as stream:
        hello = await stream.message(Message.HELLO)
        body = json.dumps(message(serving, hello)).encode()  # escapes what UTF-8 cannot carry
        stream.send_bytes(encode_frame(Message.AUTH, body))
        stream.start("open('ran', 'w')", 10**9)
        assert await stream.is_closed()
    assert await still_serves(serving)


@pytest.mark.parametrize("type", [type for type in Message if type is not Message.AUTH], ids=lambda type: type.name)
async def test_anything_but_a_proof_comes_too_early(serving, type):
    async with connected(serving) as stream:
        await stream.message(Message.HELLO)
        stream.send(type, {"execution": "exe", "fence": 10**9, "code": "1"})
        assert await stream.is_closed()


async def test_a_proof_is_good_for_one_connection_only(serving):
    async with connected(serving) as first, connected(serving) as second:
        hello = await first.message(Message.HELLO)
        await second.message(Message.HELLO)
        second.send(Message.AUTH, auth(serving, hello))
        assert await second.is_closed()


async def test_a_second_proof_is_out_of_place(serving):
    async with proven(serving) as stream:
        stream.send(Message.AUTH, {"v": VERSION, "proof": "x", "nonce": "y"})
        assert await stream.is_closed()


async def test_before_the_proof_no_large_frame_is_taken_in(serving):
    async with connected(serving) as stream:
        await stream.message(Message.HELLO)
        stream.send_bytes(HEADER.pack(100_000, Message.AUTH))
        assert await stream.is_closed()


async def test_a_proof_and_a_program_may_arrive_in_one_piece(serving):
    async with connected(serving) as stream:
        hello = await stream.message(Message.HELLO)
        program = {"execution": "exe", "fence": serving.next_fence(), "code": "len(context)", "context": "x" * 100_000}
        frames = encode_frame(Message.AUTH, auth(serving, hello)) + encode_frame(Message.RUN, program)
        stream.send_bytes(frames)
        await stream.message(Message.READY)
        assert (await stream.message(Message.RESULT))["value"] == 100_000


async def rest(reader: asyncio.StreamReader, size: int = -1) -> bytes:
    """What still arrives, however the connection ends."""
    data = b""
    with suppress(ConnectionError):
        while len(data) != size and (more := await reader.read(1000 if size < 0 else size)):
            data += more
    return data


@pytest.fixture
def silent_supervisor(tmp_path, monkeypatch) -> Supervisor:
    """In this process, with a patience that a test can wait for; it runs nothing."""
    monkeypatch.setattr(supervisor_module, "_HANDSHAKE_SECONDS", 0.1)
    return Supervisor(Slot(tmp_path), pod=POD, pool="default", key=b"k" * 32, limits=Limits())


async def test_a_peer_that_says_nothing_is_cut_off_in_time(silent_supervisor):
    server = await serve(silent_supervisor, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        async with asyncio.timeout(5):
            assert await reader.readexactly(HEADER.size)
            assert len(await rest(reader)) > 0
        writer.close()
        assert silent_supervisor.connections == set()


async def test_connections_above_the_bound_are_cut_off_and_those_below_it_stay(serving):
    waiting = [await asyncio.open_connection(*serving.address) for _ in range(70)]
    greeted = [bool(await rest(reader, 1)) for reader, _ in waiting]
    for _, writer in waiting:
        writer.close()
    assert 0 < sum(greeted) <= 64
    async with asyncio.timeout(5):
        while True:
            try:
                assert await still_serves(serving)
                break
            except EOFError:  # some of the others are still being closed
                continue


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


# -- ending


def test_it_says_where_it_listens_in_one_line_of_json(start):
    serving = start()
    assert set(serving.said) == {"listening", "landlock_abi"}
    assert serving.said["listening"].startswith("127.0.0.1:")
    assert serving.said["landlock_abi"] >= 6


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_idle_it_ends_at_once_when_told_to(start, number):
    serving = start()
    (zygote,) = serving.tree()
    started = time.monotonic()
    serving.process.send_signal(number)
    assert await asyncio.to_thread(serving.process.wait, 10) == 0
    assert time.monotonic() - started < PROMPT_SECONDS
    assert is_gone(zygote)


async def test_idle_it_refuses_what_is_on_its_way_before_it_ends(start):
    serving = start()
    async with proven(serving) as stream:
        serving.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(wait_until, lambda: not serving.tree())
        stream.start("1", 1)
        assert (await stream.message(Message.REFUSED))["reason"] == "draining"
        assert await stream.is_closed()
    assert await asyncio.to_thread(serving.process.wait, 10) == 0


async def no_longer_busy(serving) -> dict[str, Any]:
    """The first refusal for another reason: the signal has arrived."""
    async with asyncio.timeout(5), proven(serving) as other:
        while True:
            other.start("1", 2, execution="next")
            refused = await other.message(Message.REFUSED)
            if refused["reason"] != "busy":
                return refused


async def test_busy_it_refuses_what_follows_its_last_result(start):
    serving = start()
    async with proven(serving) as stream:
        stream.start(WAITING_CALL, 1, validate=False)
        call = await stream.message(Message.TOOL_CALL)
        serving.process.send_signal(signal.SIGTERM)
        assert (await no_longer_busy(serving))["reason"] == "draining"
        stream.send(Message.TOOL_RESULT, {"id": call["id"], "value": "done"})
        assert (await stream.message(Message.RESULT))["value"] == "done"
        await asyncio.to_thread(wait_until, lambda: not serving.tree())
        stream.start("1", 3)
        assert (await stream.message(Message.REFUSED))["reason"] == "draining"
        assert await stream.is_closed()
    assert await asyncio.to_thread(serving.process.wait, 10) == 0


async def test_busy_it_refuses_what_is_new_and_ends_after_its_program(start):
    serving = start()
    async with proven(serving) as stream:
        stream.start(WAITING_CALL, 1, validate=False)
        call = await stream.message(Message.TOOL_CALL)
        serving.process.send_signal(signal.SIGTERM)
        refused = await no_longer_busy(serving)
        assert (refused["execution"], refused["reason"]) == ("next", "draining")
        stream.send(Message.TOOL_RESULT, {"id": call["id"], "value": "done"})
        assert (await stream.message(Message.RESULT))["value"] == "done"
        assert await stream.is_closed()
    assert await asyncio.to_thread(serving.process.wait, 10) == 0


LARGE = f"{WAITING_CALL}\nprint('\\x01' * 70_000)\nreturn ['x' * 100] * 2400"


async def test_the_last_result_arrives_whole_whatever_its_size(start):
    serving = start()
    async with proven(serving, narrow=True) as stream:
        stream.start(LARGE, 1, validate=False)
        call = await stream.message(Message.TOOL_CALL)
        serving.process.send_signal(signal.SIGTERM)
        stream.send(Message.TOOL_RESULT, {"id": call["id"], "value": None})
        wait_until(lambda: not serving.tree())  # it is over, and reading begins only now
        assert len((await stream.message(Message.RESULT))["value"]) == 2400
    assert await asyncio.to_thread(serving.process.wait, 10) == 0


async def test_the_end_waits_until_the_last_result_has_arrived(start):
    serving = start("--single-use")
    async with proven(serving, narrow=True) as stream:
        stream.start("print('x' * 30_000)", 1)
        stream.pause()
        wait_until(lambda: not serving.tree())
        with pytest.raises(subprocess.TimeoutExpired):
            await asyncio.to_thread(serving.process.wait, 0.3)
        stream.resume()
        assert len((await stream.message(Message.RESULT))["stdout"]["head"]) > 20_000
    assert await asyncio.to_thread(serving.process.wait, 10) == 0


async def test_one_of_single_use_ends_after_its_program(start):
    serving = start("--single-use")
    async with proven(serving) as stream, proven(serving) as other:
        stream.start("6 * 7", serving.next_fence())
        assert (await stream.message(Message.RESULT))["clean"] is True
        assert await stream.is_closed()
        assert await other.is_closed()
    assert await asyncio.to_thread(serving.process.wait, 10) == 0


async def test_one_of_a_single_tenant_runs_the_programs_of_its_first_and_of_no_other(start):
    serving = start("--one-tenant")
    async with proven(serving) as stream:
        for tenant, code in (("a", "1"), ("a", "2")):
            stream.start(code, serving.next_fence(), tenant=tenant)
            assert (await stream.message(Message.RESULT))["value"] == int(code)
        stream.start("3", serving.next_fence(), tenant="b")
        assert (await stream.message(Message.REFUSED))["reason"] == "other_tenant"
    async with proven(serving) as stream:  # of another gateway
        stream.start("4", serving.next_fence(), tenant="b")
        assert (await stream.message(Message.REFUSED))["reason"] == "other_tenant"
        stream.start("5", serving.next_fence(), tenant="a")
        assert (await stream.message(Message.RESULT))["value"] == 5


@pytest.mark.parametrize("tenant", [None, "", 1])
async def test_one_of_a_single_tenant_needs_to_know_whose_a_program_is(start, tenant):
    serving = start("--one-tenant")
    async with proven(serving) as stream:
        stream.start("1", serving.next_fence(), tenant=tenant)
        refused = await stream.message(Message.REFUSED)
        assert refused["reason"] == "malformed"
        assert "`tenant`" in refused["message"]


async def test_one_of_single_use_is_not_used_up_by_a_program_that_it_refused(start):
    serving = start("--single-use")
    async with proven(serving) as stream:
        stream.start(None, serving.next_fence())
        assert (await stream.message(Message.REFUSED))["reason"] == "malformed"
        stream.start("6 * 7", serving.next_fence())
        assert (await stream.message(Message.RESULT))["value"] == 42


async def test_a_gateway_that_never_reads_does_not_hold_up_the_end_for_long(start):
    serving = start()
    async with proven(serving, narrow=True) as stream:
        stream.start(LARGE, 1, validate=False)
        call = await stream.message(Message.TOOL_CALL)
        stream.pause()
        serving.process.send_signal(signal.SIGTERM)
        stream.send(Message.TOOL_RESULT, {"id": call["id"], "value": None})
        assert await asyncio.to_thread(serving.process.wait, 10) == 0


async def test_a_zygote_that_is_killed_while_a_program_runs_ends_the_sandbox(start):
    serving = start()
    async with proven(serving) as stream:
        stream.start(WAITING_CALL, 1, validate=False)
        await stream.message(Message.TOOL_CALL)
        tree = serving.tree()
        os.kill(tree[0], signal.SIGKILL)
        result = await stream.message(Message.RESULT)
        assert (result["status"], result["clean"], result["residue"]) == ("platform_error", False, ["zygote: lost"])
        assert await stream.is_closed()
    assert await asyncio.to_thread(serving.process.wait, 10) == 0
    assert all(is_gone(pid) for pid in tree)


async def test_a_zygote_that_is_killed_between_programs_is_replaced(start):
    serving = start()
    assert await still_serves(serving)
    (zygote,) = serving.tree()
    os.kill(zygote, signal.SIGKILL)
    wait_until(lambda: is_gone(zygote))
    assert await still_serves(serving)
    assert serving.tree() != [zygote]


HIDING = """
import os, time
from warmpool_sandbox.tools import call
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(60)
        time.sleep(60)
call('a.b', {})
"""


@pytest.mark.parametrize("code", [WAITING_CALL, HIDING], ids=["one process", "processes that hide"])
async def test_a_supervisor_that_is_killed_leaves_no_process(start, code):
    serving = start()
    async with proven(serving) as stream:
        stream.start(code, 1, validate=False)
        await stream.message(Message.TOOL_CALL)
        wait_until(lambda: len(serving.tree()) == (2 if code == WAITING_CALL else 8))
        tree = serving.tree()
        serving.process.kill()
        serving.process.wait()
        wait_until(lambda: all(is_gone(pid) for pid in tree))


# -- the command


def command(place: Place, *arguments: str, root: bool = False) -> tuple[int, str, str]:
    """Runs `warmpool-sandbox` to its end: exit code, stdout, stderr."""
    home = place.home()
    if root:
        home.uid = 0
    words = [word.format(home=home) for word in arguments]
    pipe = subprocess.PIPE
    process = place.start(["-m", "warmpool_sandbox", *words], home, stdout=pipe, stderr=pipe, text=True)
    output, errors = process.communicate(timeout=30)
    return process.returncode, output, errors


SCRATCH = ("--scratch", "{home.scratch}")
SERVE = ("serve", "--pod", "p", "--port", "0", "--key-file", "{home.key_file}")


def test_the_probe_prints_a_table(sandbox_place):
    code, output, _ = command(sandbox_place, "probe")
    lines = output.splitlines()
    assert code == 0, output
    assert lines[0].startswith("Linux ")
    assert lines[-1] == "meets the floor"
    assert all(line.startswith("holds  ") for line in lines[1:-1])
    for name in ("Landlock ABI", "unprivileged user", "network: IPv4", "limits: memory", "processes: exec", "residue"):
        assert any(name in line for line in lines)


def test_the_probe_prints_json(sandbox_place):
    code, output, _ = command(sandbox_place, "probe", "--json", "--scratch", "{home.scratch}")
    report = json.loads(output)
    assert (code, report["meets_floor"]) == (0, True), output
    assert set(report) == {"meets_floor", "kernel", "machine", "python", "landlock_abi", "checks"}
    assert all(set(check) == {"name", "holds", "seen"} and check["holds"] for check in report["checks"])


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_below_the_floor_the_probe_says_so_and_exits_with_3(sandbox_place, form):
    code, output, _ = command(sandbox_place, "probe", "--min-landlock-abi", "99", *form)
    assert code == 3
    if form:
        (failed,) = [check["name"] for check in json.loads(output)["checks"] if not check["holds"]]
        assert failed == "Landlock ABI"
    else:
        assert "FAILS  Landlock ABI" in output
        assert output.endswith("BELOW THE FLOOR: the supervisor will not serve here\n")


def test_below_the_floor_it_does_not_serve(sandbox_place):
    code, output, errors = command(sandbox_place, *SERVE, "--scratch", "{home.scratch}", "--min-landlock-abi", "99")
    assert (code, output) == (3, "")
    assert "FAILS  Landlock ABI" in errors


@pytest.mark.skipif(not AS_ROOT, reason="needs to be started as root")
def test_it_does_not_serve_as_root(sandbox_place):
    code, output, errors = command(sandbox_place, *SERVE, "--scratch", "{home.scratch}", root=True)
    assert (code, output) == (3, "")
    assert "FAILS  unprivileged user" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (SERVE, "required: --scratch"),
        ((*SERVE, "--scratch", "{home.path}/missing"), "--scratch: {home.path}/missing is not a folder"),
        ((*SERVE, "--scratch", "{home.key_file}"), "--scratch: "),
        ((*SERVE, *SCRATCH, "--limits", "{{"), "--limits: "),
        ((*SERVE, *SCRATCH, "--limits", "[]"), "--limits: [] is not a JSON object"),
        ((*SERVE, *SCRATCH, "--limits", '{{"processes": 64}}'), "--limits: limits.processes: 64 is above"),
        ((*SERVE, *SCRATCH, "--limits", '{{"gpus": 1}}'), "--limits: limits.gpus: no such limit"),
        ((*SERVE, *SCRATCH, "--key-file", "{home.path}/none"), "--key-file: "),
        ((*SERVE, *SCRATCH, "--key-file", "/dev/null"), "--key-file: /dev/null holds 0 bytes, 32 are the least"),
        ((*SERVE, *SCRATCH, "--port", "many"), "--port: "),
        *[
            ((*SERVE, *SCRATCH, "--tcp-ports", ports), f"--tcp-ports: {ports} is not a list of ports, such as 443,8443")
            for ports in ("", "0", "65536", "443;80", "https", "-1")
        ],
        *[
            ((*SERVE, *SCRATCH, "--tcp-ports", f"443,{port}"), f"--tcp-ports: {port} is never open")
            for port in (53, 8888, 8889, 10250, 10255)
        ],
        ((*SERVE, *SCRATCH, "--tcp-ports", ",".join(map(str, range(1, 18)))), "--tcp-ports: 17 ports, 16 are the most"),
        ((*SERVE, *SCRATCH, "--tcp-ports", "443"), "--port and --health-port must be ports of their own"),
        ((*SERVE, *SCRATCH, "--tcp-ports", "443", "--port", "443"), "--port and --health-port must be ports of their"),
        (
            (*SERVE, *SCRATCH, "--tcp-ports", "444", "--port", "443", "--health-port", "444"),
            "--port and --health-port must be ports of their own",
        ),
        (("serve",), "required: --pod, --key-file"),
        ((), "required: command"),
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_argument_is_named_and_exits_with_2(sandbox_place, arguments, message):
    code, output, errors = command(sandbox_place, *arguments)
    assert (code, output) == (2, ""), errors
    assert message.split("{")[0] in errors
    assert "Traceback" not in errors


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

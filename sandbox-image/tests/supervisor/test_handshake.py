"""Who may speak to `warmpool-sandbox serve`: a real process, a real socket."""

import asyncio
import json
from contextlib import suppress

import pytest
from support.serving import POD, Serving, connected, proven, still_serves

from warmpool.protocol import HEADER, VERSION, Limits, Message, encode_frame, gateway_proof
from warmpool_sandbox import supervisor as supervisor_module
from warmpool_sandbox.supervisor import serve


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

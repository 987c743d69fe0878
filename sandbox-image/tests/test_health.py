"""What the kubelet asks, and what anyone else who asks gets."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import closing

import pytest
from support.serving import Serving, connected, free_port, proven

from warmpool.protocol import READY_PERIOD_SECONDS, Message
from warmpool_sandbox import health
from warmpool_sandbox.boot import listen, listening
from warmpool_sandbox.health import Health


class Responder:
    """A health endpoint on a free port."""

    def __init__(self, port: int = 0) -> None:
        self.port = port

    async def ask(self, request: bytes) -> bytes:
        """All that comes back; empty where it is cut off."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        try:
            async with asyncio.timeout(5):
                return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


@pytest.fixture
async def responder() -> AsyncIterator[Responder]:
    made = Responder()
    server = await Health().serve(listen("127.0.0.1", 0))
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: pod\r\n\r\n".encode()


async def test_a_process_that_serves_is_alive_and_ready(responder):
    for path in ("/healthz", "/readyz"):
        head, _, body = (await responder.ask(get(path))).partition(b"\r\n\r\n")
        assert head.splitlines()[0] == b"HTTP/1.1 200 OK"
        assert body == b"ok"


async def test_an_answer_names_nothing_but_the_state(responder):
    answer = await responder.ask(get("/healthz"))
    names = {line.partition(b":")[0] for line in answer.partition(b"\r\n\r\n")[0].splitlines()[1:]}
    assert names == {b"Content-Type", b"Content-Length", b"Connection"}


@pytest.mark.parametrize("request_", [get("/"), get("/healthz/"), get("/metrics"), b"POST /healthz HTTP/1.1\r\n\r\n"])
async def test_anything_else_is_not_found(responder, request_):
    assert (await responder.ask(request_)).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    "request_", [b"GET /" + b"x" * 4096, b"GET /healthz HTTP/1.1\r\nX: " + b"y" * 4096 + b"\r\n\r\n"]
)
async def test_a_request_above_the_bound_gets_no_answer(responder, request_):
    assert await responder.ask(request_) == b""


async def test_whoever_does_not_finish_a_request_is_cut_off_in_time(responder, monkeypatch):
    monkeypatch.setattr(health, "_SECONDS", 0.05)
    assert await responder.ask(b"GET /healthz") == b""


async def test_connections_above_the_bound_get_no_answer_and_those_after_them_do(responder, monkeypatch):
    monkeypatch.setattr(health, "_CONNECTIONS", 1)
    _, held = await asyncio.open_connection("127.0.0.1", responder.port)
    held.write(b"GET ")
    await held.drain()
    assert await responder.ask(get("/healthz")) == b""
    held.write(b"/healthz HTTP/1.1\r\n\r\n")
    assert (await responder.ask(get("/healthz")) or await responder.ask(get("/healthz"))).startswith(b"HTTP/1.1 200 ")
    held.close()


async def test_whoever_asks_before_there_is_an_answer_waits_for_it():
    asker, listening = Responder(), listen("127.0.0.1", 0)
    asker.port = listening.getsockname()[1]
    asked = asyncio.create_task(asker.ask(get("/readyz")))
    await asyncio.sleep(0)
    async with await Health().serve(listening):
        assert (await asked).startswith(b"HTTP/1.1 200 ")


def test_it_listens_before_the_rest_is_loaded_where_it_is_told_to():
    port = free_port("127.0.0.1")
    with closing(listening(["serve", "--host", "127.0.0.1", "--health-port", str(port)])) as made:
        assert made.getsockname() == ("127.0.0.1", port)
        assert listening(["serve", "--host", "127.0.0.1", "--health-port", str(port)]) is None, "it is taken"


@pytest.mark.parametrize("arguments", [["probe"], ["serve", "--health-port"], ["--host", "x", "--health-port", "y"]])
def test_where_it_is_not_told_to_it_does_not_listen_yet(arguments):
    assert listening(arguments) is None


def test_what_is_loaded_before_is_little():
    """Half of what the supervisor needs takes as long to load as the interpreter to start."""
    boot = "import warmpool_sandbox.boot; print(sorted(set(sys.modules) - before))"
    code = f"import sys; sys.path[:0] = {sys.path!r}; before = set(sys.modules); {boot}"
    loaded = subprocess.run([sys.executable, "-ISc", code], capture_output=True, text=True)
    assert loaded.stdout == "['_socket', 'warmpool_sandbox', 'warmpool_sandbox.boot']\n", loaded


# -- of a whole process


@pytest.fixture
async def used(start) -> tuple[Serving, Responder]:
    """A sandbox of single use whose program has ended."""
    responder = Responder(free_port("127.0.0.1"))
    serving = start("--single-use", "--health-port", str(responder.port))
    async with proven(serving) as stream:
        stream.start("return 1", 1)
        assert (await stream.message(Message.RESULT))["value"] == 1
        with pytest.raises(EOFError):
            await stream.message(Message.RESULT)
    return serving, responder


async def test_one_that_was_used_ends_once_it_was_asked_again_and_no_sooner(used):
    serving, responder = used
    assert (await responder.ask(get("/healthz"))).startswith(b"HTTP/1.1 200 ")
    assert serving.process.poll() is None
    assert (await responder.ask(get("/readyz"))).startswith(b"HTTP/1.1 200 ")
    assert await asyncio.to_thread(serving.process.wait, 10) == 0


async def test_one_that_was_used_and_is_told_to_end_does_so_unasked(used):
    serving, _ = used
    began = time.monotonic()
    serving.process.terminate()
    assert await asyncio.to_thread(serving.process.wait, 10) == 0
    assert time.monotonic() - began < READY_PERIOD_SECONDS


async def test_one_that_was_used_and_is_asked_no_more_ends_all_the_same(used):
    serving, _ = used
    assert await asyncio.to_thread(serving.process.wait, READY_PERIOD_SECONDS + 10) == 0


async def test_it_listens_on_an_address_of_version_6(start):
    serving = start("--host", "::1")
    host, port = serving.address
    assert (host, serving.said["listening"]) == ("[::1]", f"[::1]:{port}")
    reader, writer = await asyncio.open_connection("::1", port)
    assert await reader.read(1)
    writer.close()


async def test_a_port_that_is_taken_is_named_and_ends_it(start, sandbox_place):
    import subprocess

    serving = start()
    home = sandbox_place.home()
    words = ["serve", "--pod", "p", "--port", str(serving.address[1]), "--key-file", str(home.key_file)]
    process = sandbox_place.start(
        ["-m", "warmpool_sandbox", *words, "--scratch", str(home.scratch)], home, stderr=subprocess.PIPE, text=True
    )
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert errors.startswith("warmpool-sandbox: cannot listen: ")
    assert errors.count("\n") == 1
    async with connected(serving) as stream:
        await stream.greet(serving.home.key)

"""A sandbox's real process on a real port, and a gateway's end of the stream to it."""

import asyncio
import contextlib
import json
import select
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
from support.unprivileged import Place

from warmpool.protocol import (
    VERSION,
    Frame,
    FrameReader,
    Message,
    encode_frame,
    gateway_proof,
    supervisor_proof,
)

START_SECONDS = 20.0
ANSWER_SECONDS = 15.0
POD = "pod-1"


class Serving:
    """`warmpool-sandbox serve`, started and listening."""

    def __init__(self, place: Place, *options: str) -> None:
        self.home = place.home()
        arguments = ["serve", "--pod", POD, "--port", "0", "--key-file", str(self.home.key_file)]
        arguments += ["--scratch", str(self.home.scratch), *options]
        self.process = place.start(["-m", "warmpool_sandbox", *arguments], self.home, stdout=subprocess.PIPE)
        self.said = json.loads(self._first_line())
        self.fence = 0

    def _first_line(self) -> bytes:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], START_SECONDS)
        assert ready, "it did not start to listen"
        return self.process.stdout.readline()

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.said["listening"].rpartition(":")
        return host, int(port)

    def next_fence(self) -> int:
        self.fence += 1
        return self.fence

    def tree(self) -> list[int]:
        """The processes below it: the zygote first."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        return [process.pid for process in found if not is_gone(process.pid)]

    def close(self) -> None:
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Stream:
    """One connection of a gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._frames = FrameReader()
        self._waiting: list[Frame] = []

    async def receive(self) -> Frame:
        """Raises EOFError once the other end has closed."""
        async with asyncio.timeout(ANSWER_SECONDS):
            while not self._waiting:
                try:
                    data = await self._reader.read(1 << 20)
                except ConnectionError:
                    data = b""
                if not data:
                    raise EOFError
                self._waiting += self._frames.feed(data)
        return self._waiting.pop(0)

    async def message(self, type: Message) -> dict[str, Any]:
        """The next frame, which must be of this type."""
        frame = await self.receive()
        assert frame.type is type, frame
        return frame.json()

    def send(self, type: Message, body: bytes | dict[str, Any]) -> None:
        self.send_bytes(encode_frame(type, body))

    def send_bytes(self, data: bytes) -> None:
        self._writer.write(data)

    async def is_closed(self) -> bool:
        """Whether the other end closes without another word."""
        try:
            frame = await self.receive()
        except EOFError:
            return True
        raise AssertionError(f"it said {frame}")

    def pause(self) -> None:
        """Reads nothing more."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    def resume(self) -> None:
        self._writer.transport.resume_reading()  # type: ignore[attr-defined]

    async def finish(self) -> None:
        """Says that nothing more comes, and waits until the other end has closed."""
        with contextlib.suppress(OSError):
            self._writer.write_eof()
        with contextlib.suppress(EOFError):
            while True:
                await self.receive()

    def close(self) -> None:
        self._writer.close()

    async def greet(self, key: bytes) -> dict[str, Any]:
        """The whole handshake; READY."""
        hello = await self.message(Message.HELLO)
        parts = {"pod": hello["pod"], "supervisor_nonce": hello["nonce"], "gateway_nonce": "g" * 32}
        self.send(Message.AUTH, {"v": VERSION, "proof": gateway_proof(key, **parts), "nonce": "g" * 32})
        ready = await self.message(Message.READY)
        assert ready["proof"] == supervisor_proof(key, **parts)
        return ready

    def start(self, code: str, fence: int, execution: str = "exe", **others: Any) -> None:
        self.send(Message.RUN, {"execution": execution, "fence": fence, "code": code, **others})


@contextlib.asynccontextmanager
async def connected(serving: Serving, *, narrow: bool = False) -> AsyncIterator[Stream]:
    """A connection on which nothing was said yet. A narrow one holds little that is not read, as a real network's."""
    wire = socket.socket()
    if narrow:  # loopback's segments of 64 KiB would make room for megabytes at the other end
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    wire.setblocking(False)
    await asyncio.get_running_loop().sock_connect(wire, serving.address)
    stream = Stream(*await asyncio.open_connection(sock=wire))
    try:
        yield stream
    finally:
        stream.close()


@contextlib.asynccontextmanager
async def proven(serving: Serving, *, narrow: bool = False) -> AsyncIterator[Stream]:
    """A connection whose ends have proved themselves."""
    async with connected(serving, narrow=narrow) as stream:
        await stream.greet(serving.home.key)
        yield stream


async def run(serving: Serving, code: str = "6 * 7", **others) -> dict:
    """One program on a connection of its own; its RESULT."""
    async with proven(serving) as stream:
        stream.start(code, serving.next_fence(), **others)
        return await stream.message(Message.RESULT)


async def still_serves(serving: Serving) -> bool:
    return (await run(serving))["value"] == 42


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """For states that announce themselves nowhere."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


def free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        return int(listener.getsockname()[1])


def is_gone(pid: int) -> bool:
    """Also where nobody has fetched its end yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] in (b"Z", b"X")
    except OSError:
        return True

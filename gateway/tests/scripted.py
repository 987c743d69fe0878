"""A supervisor that speaks the real protocol over a real socket and runs no program: a script says what it does."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from warmpool.protocol import (
    VERSION,
    FrameReader,
    Limits,
    Message,
    Outcome,
    Refusal,
    Status,
    encode_frame,
    gateway_proof,
    supervisor_proof,
)
from warmpool.registry import Lease
from warmpool_gateway.pod_stream import CallTool, Program
from warmpool_gateway.pods import PodConnections

KEY = b"k" * 32
POOL = "default"


class Talk:
    """One connection of a gateway, as the supervisor's script sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._reader = reader
        self._frames = FrameReader()
        self._ready: list[tuple[Message, dict[str, Any]]] = []

    async def receive(self) -> tuple[Message, dict[str, Any]]:
        """The next message. Raises EOFError at the end."""
        while not self._ready:
            data = await self._reader.read(65536)
            if not data:
                raise EOFError
            self._ready += [(frame.type, frame.json()) for frame in self._frames.feed(data)]
        return self._ready.pop(0)

    def send(self, type: Message, body: bytes | dict[str, Any]) -> None:
        self.writer.write(encode_frame(type, body))

    async def call_tool(self, tool: str, arguments: dict[str, Any], id: int = 1) -> dict[str, Any]:
        self.send(Message.TOOL_CALL, {"id": id, "tool": tool, "arguments": arguments})
        type, answer = await self.receive()
        assert type is Message.TOOL_RESULT
        assert answer["id"] == id
        return answer

    def result(self, execution: str, **changes: Any) -> None:
        known: dict[str, Any] = {"status": Status.OK, "clean": True}
        self.send(Message.RESULT, Outcome(execution=execution, **(known | changes)).to_json())


Script = Callable[[Talk, dict[str, Any]], Awaitable[None]]


async def echo(talk: Talk, run: dict[str, Any]) -> None:
    """The program's text, its context and limits are its value."""
    value = {name: run[name] for name in ("code", "context", "limits", "fence")}
    talk.result(run["execution"], value=value)


class ScriptedSupervisor:
    """Serves on loopback as one pod. `script` is what it does with each RUN."""

    def __init__(self, pod: str = "pod-1", *, key: bytes = KEY, pool: str = POOL, script: Script = echo) -> None:
        self.pod = pod
        self.key = key
        self.pool = pool
        self.script = script
        self.connections = 0
        self.runs: list[dict[str, Any]] = []
        self.cancelled = asyncio.Event()
        self.running = asyncio.Event()
        self.lost = asyncio.Event()
        self.refuse: Refusal | None = None
        self._talks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> "ScriptedSupervisor":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    @property
    def address(self) -> str:
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    def lease(self, execution: str = "exe_1", fence: int = 1) -> Lease:
        return Lease(
            pod=self.pod, address=self.address, execution=execution, tenant="acme", gateway="g", fence=fence, deadline=0
        )

    async def stop(self) -> None:
        """As if it were killed: every socket closes."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        for task in list(self._talks):
            task.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        await server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        try:
            with contextlib.suppress(EOFError, ConnectionError, asyncio.CancelledError):
                await self.serve(Talk(reader, writer))
        finally:
            self._talks.discard(task)
            self.lost.set()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def serve(self, talk: Talk) -> None:
        await self.handshake(talk)
        while True:
            type, run = await talk.receive()
            if type is Message.CANCEL:  # came after the result had left
                continue
            assert type is Message.RUN
            if self.refuse is not None:
                talk.send(Message.REFUSED, {"execution": run["execution"], "reason": self.refuse, "message": "not now"})
                continue
            self.runs.append(run)
            self.running.set()
            await self.script(talk, run)
            await talk.writer.drain()

    async def handshake(self, talk: Talk) -> None:
        nonce = "supervisor's"
        talk.send(Message.HELLO, {"v": VERSION, "pod": self.pod, "pool": self.pool, "nonce": nonce})
        type, auth = await talk.receive()
        assert type is Message.AUTH
        proof = {"pod": self.pod, "supervisor_nonce": nonce, "gateway_nonce": auth["nonce"]}
        assert auth["proof"] == gateway_proof(KEY, **proof)
        talk.send(Message.READY, {"proof": supervisor_proof(self.key, **proof), "limits": Limits().as_dict()})

    async def until_cancelled(self, talk: Talk, run: dict[str, Any]) -> None:
        """A script: runs until a CANCEL, then says so."""
        type, message = await talk.receive()
        assert type is Message.CANCEL
        assert message["execution"] == run["execution"]
        self.cancelled.set()
        talk.result(run["execution"], status=Status.CANCELLED)

    async def for_ever(self, talk: Talk, run: dict[str, Any]) -> None:
        """A script: takes everything and says nothing."""
        while True:
            await talk.receive()


async def no_tools(tool: str, arguments: dict[str, Any]) -> bytes:
    raise AssertionError(f"{tool} was called")


async def run(
    connections: PodConnections,
    supervisor: ScriptedSupervisor,
    program: Program | None = None,
    *,
    tools: CallTool = no_tools,
    gone: asyncio.Future[None] | None = None,
    execution: str = "exe_1",
    fence: int = 1,
) -> Any:
    """One program on the pod of this supervisor: an `Outcome` or a `NotStarted`."""
    gone = gone or asyncio.get_running_loop().create_future()
    lease = supervisor.lease(execution, fence)
    return await connections.run(lease, program or Program(code="1"), tools, gone)

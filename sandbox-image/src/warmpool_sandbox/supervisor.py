"""The stream to the gateways: who may start a program here, which one, and how its end is told.

A gateway proves with every connection that it holds the pool's key, and gets the same proof back. One
execution runs at a time; a fencing number that is not newer than the last is refused, so that even with the
registry lost and rebuilt no two executions ever share this sandbox. docs/reference/protocol.md has the bytes.
"""

import asyncio
import secrets
import socket
import struct
from typing import Any, Final, TypeGuard

from warmpool.protocol import (
    MAX_BODY_BYTES,
    VERSION,
    Frame,
    FrameReader,
    Limits,
    Message,
    ProtocolError,
    Refusal,
    encode_frame,
    gateway_proof,
    same_proof,
    supervisor_proof,
)
from warmpool_sandbox.slot import Slot
from warmpool_sandbox.zygote_process import ZygoteLost

_HANDSHAKE_SECONDS: Final = 5.0
_HANDSHAKE_BYTES: Final = 4096
"""A peer that has proved nothing gets no more of our memory."""
_MAX_NONCE_CHARACTERS: Final = 64
_FAREWELL_SECONDS: Final = 2.0
_LEAVE_SECONDS: Final = 1.0
"""For which one that ends goes on refusing programs. Its pod may be leased until the registry knows that it goes, and
of a program that is on its way when the connection closes nobody can tell whether it ran."""
_LINGER: Final = struct.pack("ii", 1, int(_FAREWELL_SECONDS))
_MAX_CONNECTIONS: Final = 64
"""One a gateway, and room for those that are just being replaced."""


class Supervisor:
    """One sandbox. `stopped` is set when it can serve no more; the process then ends and its pod is replaced."""

    def __init__(
        self, slot: Slot, *, pod: str, pool: str, key: bytes, limits: Limits, single_use: bool = False,
        one_tenant: bool = False,
    ) -> None:  # fmt: skip
        self.slot = slot
        self.pod = pod
        self.pool = pool
        self.key = key
        self.limits = limits
        self.single_use = single_use
        """Runs one program and ends, whatever the registry says of it."""
        self.one_tenant = one_tenant
        """Runs the programs of its first tenant only, whatever the registry has forgotten."""
        self._tenant: str | None = None
        self.connections: set[Connection] = set()
        self.stopped = asyncio.Event()
        self._last_fence = 0
        self._owner: Connection | None = None
        self._execution: str | None = None
        self._draining = False
        self._tasks: set[asyncio.Task[None]] = set()
        """A run, and the one before it while it still exchanges the zygote."""

    def refusal(self, request: dict[str, Any], limits: Limits) -> tuple[Refusal, str] | None:
        """Why a RUN message would not be started now, or None. Pure but for what it reads of this sandbox."""
        fence = request.get("fence")
        if not isinstance(request.get("execution"), str) or not isinstance(request.get("code"), str):
            return Refusal.MALFORMED, "RUN needs `execution` and `code`, both strings"
        if not isinstance(fence, int) or isinstance(fence, bool):
            return Refusal.MALFORMED, "RUN needs `fence`, a number"
        if len(request["code"].encode("utf-8", "replace")) > limits.code_bytes:
            return Refusal.MALFORMED, f"code is over code_bytes = {limits.code_bytes}"
        if self.one_tenant and not (isinstance(request.get("tenant"), str) and request["tenant"]):
            return Refusal.MALFORMED, "RUN needs `tenant`, a string, where a sandbox serves one tenant only"
        if self._draining:
            return Refusal.DRAINING, "this sandbox is shutting down"
        if self._execution is not None:
            return Refusal.BUSY, "this sandbox runs another execution"
        if fence <= self._last_fence:
            return Refusal.STALE_FENCE, f"fence {fence} is not newer than {self._last_fence}"
        if self._tenant not in (None, request.get("tenant")):
            return Refusal.OTHER_TENANT, "this sandbox serves another tenant"
        return None

    def run(self, connection: "Connection", body: bytes, request: dict[str, Any]) -> None:
        limits = self.limits
        try:
            limits = limits.lowered(_object(request.get("limits") or {}, "limits"))
            refused = self.refusal(request, limits)
        except ValueError as fault:
            refused = Refusal.MALFORMED, str(fault)
        if refused is not None:
            reason, message = refused
            answer = {"execution": str(request.get("execution")), "reason": reason.value, "message": message}
            connection.send(encode_frame(Message.REFUSED, answer))
            return
        self._last_fence = request["fence"]
        if self.one_tenant:
            self._tenant = request["tenant"]
        self._owner = connection
        self._execution = request["execution"]
        task = asyncio.create_task(self._run(connection, body, request["execution"], limits))
        self._tasks.add(task)
        task.add_done_callback(self._ran)

    def _ran(self, task: asyncio.Task[None]) -> None:
        """A fault of ours leaves nobody who knows what became of the program: the sandbox ends."""
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            told = {"message": "running a program failed", "exception": fault, "task": task}
            asyncio.get_running_loop().call_exception_handler(told)
            self._finish()

    async def _run(self, connection: "Connection", body: bytes, execution: str, limits: Limits) -> None:
        outcome = await self.slot.run(execution, body, limits, connection.send)
        self._owner = self._execution = None
        connection.send(encode_frame(Message.RESULT, outcome.to_json()))
        usable = outcome.clean and not self.single_use
        if usable and self._draining:
            connection.linger()
            self._leave()
        elif usable:
            try:
                await self.slot.refresh()  # the next program may arrive meanwhile, and waits for it
            except ZygoteLost:
                usable = False
        if not usable:
            connection.linger()
            self._finish()

    def _finish(self) -> None:
        """A sandbox that is dirty or used runs nothing more, whatever the registry says of it."""
        self._draining = True
        self.slot.close()
        self.stopped.set()

    def cancel(self, connection: "Connection", execution: object) -> None:
        if self._owner is connection and self._execution == execution:
            self.slot.cancel()

    def answer(self, connection: "Connection", frame: Frame) -> None:
        if self._owner is connection:
            self.slot.answer(frame)

    def lost(self, connection: "Connection") -> None:
        """Nobody is left to hear of its program."""
        self.connections.discard(connection)
        if self._owner is connection:
            self.slot.cancel()

    def drain(self) -> None:
        """Ends when idle, else after the execution under way; at once where no gateway is connected."""
        self._draining = True
        if self._execution is None:
            self._leave()

    def _leave(self) -> None:
        self.slot.close()
        asyncio.get_running_loop().call_later(_LEAVE_SECONDS if self.connections else 0.0, self.stopped.set)

    async def farewell(self) -> None:
        """Closes the connections once their last bytes have left; a gateway that does not read is not waited for."""
        closing = [connection.close() for connection in self.connections]
        if closing:
            await asyncio.wait(closing, timeout=_FAREWELL_SECONDS)


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not an object")
    return value


class Connection(asyncio.Protocol):
    """One gateway's stream. Anything out of order closes it."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._reader = FrameReader(_HANDSHAKE_BYTES)
        self._nonce = secrets.token_hex(16)
        self._proven = False
        self._transport: asyncio.Transport | None = None
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._handshake: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if len(self._supervisor.connections) >= _MAX_CONNECTIONS:
            transport.abort()
            return
        self._supervisor.connections.add(self)
        self._handshake = asyncio.get_running_loop().call_later(_HANDSHAKE_SECONDS, self._abort)
        hello = {"v": VERSION, "pod": self._supervisor.pod, "pool": self._supervisor.pool, "nonce": self._nonce}
        self.send(encode_frame(Message.HELLO, hello))

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                self._take(frame)
        except ProtocolError:
            self._abort()

    def _take(self, frame: Frame) -> None:
        if not self._proven:
            self._authenticate(frame)
            return
        match frame.type:
            case Message.RUN:
                self._supervisor.run(self, frame.body, frame.json())
            case Message.TOOL_RESULT:
                self._supervisor.answer(self, frame)
            case Message.CANCEL:
                self._supervisor.cancel(self, frame.json().get("execution"))
            case _:
                raise ProtocolError(f"{frame.type.name} is not a gateway's to send")

    def _authenticate(self, frame: Frame) -> None:
        message = frame.json()
        nonce = message.get("nonce")
        if frame.type is not Message.AUTH or message.get("v") != VERSION or not _is_nonce(nonce):
            raise ProtocolError("expected AUTH {v, proof, nonce}")
        supervisor = self._supervisor
        parts = {"pod": supervisor.pod, "supervisor_nonce": self._nonce, "gateway_nonce": nonce}
        if not same_proof(message.get("proof"), gateway_proof(supervisor.key, **parts)):
            raise ProtocolError("wrong proof")
        self._proven = True
        self._reader.max_body_bytes = MAX_BODY_BYTES
        if self._handshake is not None:
            self._handshake.cancel()
        ready = {"proof": supervisor_proof(supervisor.key, **parts), "limits": supervisor.limits.as_dict()}
        self.send(encode_frame(Message.READY, ready))

    def send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def linger(self) -> None:
        """Closing waits until the last bytes have arrived: a pod's network may end with this process."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)

    def close(self) -> "asyncio.Future[None]":
        """Takes nothing more, sends what is left; done once the connection is closed."""
        if self._transport is not None:
            self._transport.close()
        return self._closed

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed.set_result(None)
        if self._handshake is not None:
            self._handshake.cancel()
        self._supervisor.lost(self)


def _is_nonce(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and value.isascii() and 0 < len(value) <= _MAX_NONCE_CHARACTERS


async def serve(supervisor: Supervisor, host: str, port: int) -> asyncio.Server:
    """Listens; the port is the server's first socket's where 0 was asked for."""
    return await asyncio.get_running_loop().create_server(lambda: Connection(supervisor), host, port, backlog=128)

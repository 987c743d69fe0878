"""The gateway's end of the stream to one sandbox: prove, run one program, relay its tool calls.

Knows neither the queue nor the tool server, and never sends a program twice: it says whether one
provably did not start, and leaves it to the caller to try elsewhere.
"""

import asyncio
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, cast

import orjson

from warmpool.errors import PlatformError, ToolFailed
from warmpool.protocol import (
    MAX_DEPTH,
    VERSION,
    Frame,
    FrameReader,
    Message,
    Outcome,
    ProtocolError,
    Refusal,
    encode_frame,
    gateway_proof,
    is_deep,
    same_proof,
    supervisor_proof,
    tenant_mark,
)
from warmpool.registry import Lease
from warmpool_gateway.encoding import Json, json_bytes
from warmpool_gateway.outcomes import read_outcome

GRACE_SECONDS: Final = 1.0  # a supervisor reports a timeout within milliseconds; past this it is taken for dead
CANCEL_SECONDS: Final = 1.0  # for the result that follows a CANCEL; closing the connection cancels too

SOCKET: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 11_000),
)
"""A node that vanishes says no goodbye. With 5 s + 3 times 2 s an idle stream to it is closed in 11 s, and one on which
something was sent in as many; the kernel's own 2 hours and 15 minutes would outlast every caller."""

logger = logging.getLogger(__name__)

CallTool = Callable[[str, dict[str, Any]], Awaitable[bytes]]
"""Calls a tool by its qualified name; returns the value as JSON. Raises ToolFailed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What is sent to a sandbox."""

    code: str
    context: bytes = b"null"
    """JSON."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """The lowered ones only."""
    wall_seconds: float = 30.0
    validate: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class NotStarted:
    """The program provably did not start, so it is safe to run it elsewhere."""

    reason: str
    """A `Refusal`, or one of `unreachable`, `handshake`, `cancelled`."""
    message: str

    @property
    def retry(self) -> bool:
        return self.reason not in (Refusal.MALFORMED, "cancelled")

    @property
    def clean(self) -> bool:
        """Whether the pod may be leased again: it is not at fault."""
        return not self.retry


class Phase(StrEnum):
    """Where a stream is in its life."""

    GREETING = "greeting"  # connected; the supervisor speaks first
    PROVING = "proving"  # our proof is sent
    IDLE = "idle"  # both have proved themselves
    RUNNING = "running"
    CLOSED = "closed"


@dataclass(slots=True)
class _Run:
    execution: str
    call_tool: CallTool
    verdict: asyncio.Future[Outcome | NotStarted]
    open_calls: dict[int, asyncio.Task[None]] = field(default_factory=dict)


class PodStream(asyncio.Protocol):
    """One connection to one supervisor. Anything unexpected on it closes it."""

    def __init__(self, *, key: bytes, pool: str, pod: str, on_closed: Callable[["PodStream"], None]) -> None:
        self.pod = pod
        self.phase = Phase.GREETING
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self._key = key
        self._pool = pool
        self._on_closed = on_closed
        self._nonce = secrets.token_hex(16)
        self._supervisor_nonce = ""
        self._calls_at_once = 1
        self._reader = FrameReader()
        self._run: _Run | None = None
        self._transport: asyncio.Transport | None = None

    async def run(
        self, lease: Lease, program: Program, call_tool: CallTool, gone: asyncio.Future[None]
    ) -> Outcome | NotStarted:
        """Runs one program. Once `gone` is done the program is cancelled, and its result still comes back.

        Raises PlatformError where the sandbox is lost or silent, and closes the connection then.
        """
        if self.phase is not Phase.IDLE:
            return NotStarted(reason=Refusal.BUSY, message=f"the stream to {self.pod} is {self.phase}")
        loop, execution = asyncio.get_running_loop(), lease.execution
        message = _run_message(lease, tenant_mark(self._key, lease.tenant), program)
        self._run = run = _Run(execution, call_tool, loop.create_future())
        self.phase = Phase.RUNNING
        silent = PlatformError("The sandbox did not answer in time.", pod=self.pod, execution=execution)
        deadline = loop.call_later(program.wall_seconds + GRACE_SECONDS, self.fail, silent)
        gone.add_done_callback(self._cancel)
        assert self._transport is not None
        self._transport.write(message)
        try:
            return await run.verdict
        except asyncio.CancelledError:
            self.fail(PlatformError("The wait for the sandbox was given up.", pod=self.pod, execution=execution))
            raise
        finally:
            deadline.cancel()
            gone.remove_done_callback(self._cancel)

    def fail(self, fault: Exception) -> None:
        """Closes the stream; whoever waits on it gets the fault."""
        if self.phase is Phase.CLOSED:
            return
        self.phase = Phase.CLOSED
        if self._transport is not None:
            self._transport.abort()
        run, self._run = self._run, None
        _fail(self.ready, fault)
        if run is not None:
            _fail(run.verdict, fault)
            self._end_calls(run)
        self._on_closed(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        wire = transport.get_extra_info("socket")
        if wire is not None and wire.family != socket.AF_UNIX:
            for level, option, value in SOCKET:
                wire.setsockopt(level, option, value)

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(PlatformError("The connection to the sandbox was lost.", pod=self.pod, cause=str(exc or "closed")))

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                if self.phase is Phase.CLOSED:
                    return
                self._handle(frame)
        except ProtocolError as fault:
            self.fail(PlatformError("The sandbox broke the protocol.", pod=self.pod, cause=str(fault)))

    def _handle(self, frame: Frame) -> None:
        match self.phase, frame.type:
            case Phase.GREETING, Message.HELLO:
                self._greeted(frame.json())
            case Phase.PROVING, Message.READY:
                self._proved(frame.json())
            case Phase.RUNNING, Message.TOOL_CALL:
                self._call(frame.json())
            case Phase.RUNNING, Message.RESULT:
                self._finish(read_outcome(frame.json()))
            case Phase.RUNNING, Message.REFUSED:
                self._refused(frame.json())
            case _:
                raise ProtocolError(f"{frame.type.name} while {self.phase}")

    def _greeted(self, hello: Mapping[str, Any]) -> None:
        if hello.get("v") != VERSION:
            raise ProtocolError(f"version {hello.get('v')!r}, not {VERSION}")
        if (hello.get("pool"), hello.get("pod")) != (self._pool, self.pod):
            raise ProtocolError(f"pod {hello.get('pod')!r} of pool {hello.get('pool')!r} answers at this address")
        self._supervisor_nonce = _text(hello, "nonce")
        proof = gateway_proof(self._key, **self._handshake)
        self.phase = Phase.PROVING
        self._write(Message.AUTH, json_bytes({"v": VERSION, "proof": proof, "nonce": self._nonce}))

    def _proved(self, ready: Mapping[str, Any]) -> None:
        if not same_proof(ready.get("proof"), supervisor_proof(self._key, **self._handshake)):
            raise ProtocolError("wrong proof: it does not hold the pool's key")
        limits = ready.get("limits")
        at_once = limits.get("tool_calls_at_once") if isinstance(limits, dict) else None
        if not isinstance(at_once, int) or at_once < 1:
            raise ProtocolError("READY without limits")
        self._calls_at_once = at_once
        self.phase = Phase.IDLE
        if not self.ready.done():
            self.ready.set_result(None)

    @property
    def _handshake(self) -> dict[str, str]:
        return {"pod": self.pod, "supervisor_nonce": self._supervisor_nonce, "gateway_nonce": self._nonce}

    def _call(self, message: Mapping[str, Any]) -> None:
        run, id, tool, arguments = self._run, message.get("id"), _text(message, "tool"), message.get("arguments")
        assert run is not None
        if type(id) is not int or not isinstance(arguments, dict):
            raise ProtocolError("TOOL_CALL is not of its form")
        if id in run.open_calls or len(run.open_calls) >= self._calls_at_once:
            raise ProtocolError(f"tool call {id} is open already, or more than {self._calls_at_once} are")
        run.open_calls[id] = asyncio.get_running_loop().create_task(self._answer(run, id, tool, arguments))

    async def _answer(self, run: _Run, id: int, tool: str, arguments: dict[str, Any]) -> None:
        try:
            frame = _tool_value(id, await run.call_tool(tool, arguments))
        except ToolFailed as fault:
            frame = _tool_error(id, fault)
        except ProtocolError as fault:
            too_large = ToolFailed(f"The result of {tool} cannot be sent: {fault}.", code="result_too_large", tool=tool)
            frame = _tool_error(id, too_large)
        except Exception:
            logger.exception("tool call failed", extra={"execution": run.execution, "tool": tool})
            frame = _tool_error(id, ToolFailed(f"{tool} failed inside the platform.", code="platform", tool=tool))
        finally:
            run.open_calls.pop(id, None)
        if self._run is run and self._transport is not None:
            self._transport.write(frame)

    def _refused(self, message: Mapping[str, Any]) -> None:
        self._check_execution(message.get("execution"))
        try:
            reason = Refusal(message.get("reason", ""))
        except ValueError as fault:
            raise ProtocolError(f"unknown refusal: {fault}") from fault
        self._finish(NotStarted(reason=reason, message=_text(message, "message")))

    def _finish(self, verdict: Outcome | NotStarted) -> None:
        if isinstance(verdict, Outcome):
            self._check_execution(verdict.execution)
        run, self._run = self._run, None
        assert run is not None
        self.phase = Phase.IDLE
        self._end_calls(run)
        if not run.verdict.done():
            run.verdict.set_result(verdict)

    def _check_execution(self, execution: object) -> None:
        if self._run is None or execution != self._run.execution:
            raise ProtocolError(f"an answer for execution {execution!r}")

    def _cancel(self, _: asyncio.Future[None]) -> None:
        run = self._run
        if run is None or self.phase is not Phase.RUNNING:
            return
        self._write(Message.CANCEL, json_bytes({"execution": run.execution}))
        fault = PlatformError("The sandbox did not cancel in time.", pod=self.pod, execution=run.execution)
        timer = asyncio.get_running_loop().call_later(CANCEL_SECONDS, self.fail, fault)
        run.verdict.add_done_callback(lambda _: timer.cancel())

    def _end_calls(self, run: _Run) -> None:
        for task in run.open_calls.values():
            task.cancel()

    def _write(self, type: Message, body: bytes) -> None:
        assert self._transport is not None
        self._transport.write(encode_frame(type, body))


def _fail(future: asyncio.Future[Any], fault: Exception) -> None:
    if not future.done():
        future.set_exception(fault)
        future.exception()  # counts as seen: nobody may be left to look


def _run_message(lease: Lease, tenant: str, program: Program) -> bytes:
    body = {
        "execution": lease.execution,
        "fence": lease.fence,
        "tenant": tenant,
        "code": program.code,
        "context": Json(program.context),
        "limits": dict(program.limits),
        "validate": program.validate,
    }
    return encode_frame(Message.RUN, json_bytes(body))


def _tool_value(id: int, value: bytes) -> bytes:
    """Raises ProtocolError where the supervisor would close the stream over it."""
    body = b'{"id":%d,"value":%b}' % (id, value)
    if _is_deep(body):
        raise ProtocolError("it is nested too deeply")
    return encode_frame(Message.TOOL_RESULT, body)


def _tool_error(id: int, fault: ToolFailed) -> bytes:
    error = {"type": "ToolError", "code": fault.code, "message": fault.message, "fields": fault.fields}
    body = json_bytes({"id": id, "error": error})
    if _is_deep(body):
        body = json_bytes({"id": id, "error": error | {"fields": {}}})
    return encode_frame(Message.TOOL_RESULT, body)


def _is_deep(body: bytes) -> bool:
    """Whether the supervisor would not read this JSON, whose depth is looked at only where it may be too much."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return False
    try:
        return is_deep(orjson.loads(body))
    except orjson.JSONDecodeError:  # past 1,024 levels
        return True


def _text(message: Mapping[str, Any], name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str):
        raise ProtocolError(f"{name} is {type(value).__name__}, not text")
    return value

"""What travels between a gateway and a sandbox, byte for byte.

The one definition that both ends share: frame layout, message types, limits, statuses and the proofs
of the handshake. It imports the standard library only, because it is part of the sandbox image, and it
does no I/O: readers feed bytes in and take frames out. docs/reference/protocol.md describes the same
bytes for other implementations.
"""

import hashlib
import hmac
import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import IntEnum, StrEnum
from typing import Any, Final

VERSION: Final = 1

HEADER: Final = struct.Struct(">IB")
"""Length of the body in bytes (unsigned 32-bit, big-endian), then the message type (one byte)."""

MAX_BODY_BYTES: Final = 2 * 1024 * 1024
"""A frame above this is a protocol error. The largest is a result: two streams of 64 KiB, each byte of which
JSON may write as six (control characters), and a value of 320 KiB, as much as a sandbox takes from a program,
which grows to 1.2 MB where it is a forged list of 1e15, written anew as 1000000000000000.0."""

MAX_DEPTH: Final = 128
"""Levels of a body's arrays and objects, its own included. Far above an honest value, far below where any
parser gives up: what one end accepted, the other must be able to read and to write again."""


MOST_TCP_PORTS: Final = 16
"""Of a pool's network profile."""
CLOSED_TCP_PORTS: Final = (53, 8888, 8889, 10250, 10255)
"""Never part of one: a name server, which passes words on to anybody; the supervisor and its health; the kubelet, which
no NetworkPolicy keeps a node's own pods from."""
TCP_BUFFER_BYTES: Final = 256 * 1024
"""The most that one connection of a pod with such a profile may hold of what it sends, and of what it receives. What
the kernel allows by itself, 36 MB for both, would take twelve connections to fill a program's memory."""
READY_PERIOD_SECONDS: Final = 3
"""After which a kubelet asks a pod again whether it is ready. One that ends by itself ends just after it was asked."""


class ProtocolError(Exception):
    """The peer broke the framing or sent a message of the wrong form; the connection cannot go on."""


class Message(IntEnum):
    """Message types. G→S: gateway to supervisor; S→G: back; S→C and C→S: supervisor and child."""

    HELLO = 1  # S→G: {v, pod, pool, nonce}; the first frame of a connection
    AUTH = 2  # G→S: {v, proof, nonce}
    READY = 3  # S→G: {proof, limits}
    RUN = 4  # G→S: {execution, fence, code, context, limits, validate}
    CANCEL = 5  # G→S: {execution}
    REFUSED = 6  # S→G: {execution, reason, message}; the run did not start
    RESULT = 7  # S→G: an `Outcome` as JSON
    TOOL_CALL = 8  # C→S→G: {id, tool, arguments}
    TOOL_RESULT = 9  # G→S→C: {id, value} or {id, error: {type, code, message, fields}}
    PROGRAM = 10  # S→C: the body of RUN as it came
    VALUE = 11  # C→S: {status, value} or {status, error}; the child's last word


class Status(StrEnum):
    """How an execution ended. Only `platform_error` counts against the service's error budget."""

    OK = "ok"  # the program ran to its end and its value is JSON
    USER_ERROR = "user_error"  # the program raised, or its value cannot be JSON
    REJECTED = "rejected"  # validation refused the program before it ran
    TIMEOUT = "timeout"  # the wall-clock limit
    MEMORY_LIMIT = "memory_limit"
    CPU_LIMIT = "cpu_limit"
    OUTPUT_LIMIT = "output_limit"  # the result, or a stream's total
    DISK_LIMIT = "disk_limit"  # scratch bytes, scratch inodes or one file's size
    CRASHED = "crashed"  # killed by a signal, or left without a word
    CANCELLED = "cancelled"  # the caller went away or asked for it
    PLATFORM_ERROR = "platform_error"  # ours: sandbox lost, stream broken


class Refusal(StrEnum):
    """Why a supervisor would not start a run. The caller may try another pod in every case but `malformed`."""

    BUSY = "busy"  # one execution at a time, and one is under way
    STALE_FENCE = "stale_fence"  # the fencing number is not newer than the last
    DRAINING = "draining"  # the supervisor is shutting down
    OTHER_TENANT = "other_tenant"  # it serves one tenant only, and has served another
    MALFORMED = "malformed"  # the RUN message is not of its form


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one execution may use. A pool sets them; a request may lower them, never raise them."""

    wall_seconds: float = 30.0
    cpu_seconds: float = 30.0
    memory_bytes: int = 400 * 1024 * 1024
    """Of the whole process tree, beyond the interpreter's own pages. Below the pod's 512 MB, so that ours
    fires before the kubelet's, which takes every process of the container at once."""
    processes: int = 32
    """Processes and threads together, as the kernel counts them."""
    open_files: int = 64
    file_bytes: int = 48 * 1024 * 1024
    scratch_bytes: int = 64 * 1024 * 1024
    scratch_inodes: int = 4096
    stream_bytes: int = 64 * 1024
    """Kept of stdout and of stderr each: the first and the last half."""
    stream_total_bytes: int = 16 * 1024 * 1024
    """Written to one stream before the program is stopped."""
    result_bytes: int = 256 * 1024
    code_bytes: int = 64 * 1024
    tool_calls: int = 256
    tool_calls_at_once: int = 8

    def lowered(self, requested: Mapping[str, float]) -> "Limits":
        """These limits with every requested one put lower.

        Raises ValueError, naming the field, for an unknown name, a value that is not a positive finite
        number, or one above the pool's.
        """
        known = {field.name for field in fields(self)}
        changes: dict[str, Any] = {}
        for name, value in requested.items():
            if name not in known:
                raise ValueError(f"limits.{name}: no such limit; known are {', '.join(sorted(known))}")
            ceiling = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
                raise ValueError(f"limits.{name}: must be a positive number, got {value!r}")
            if isinstance(ceiling, int) and value != int(value):
                raise ValueError(f"limits.{name}: must be a whole number, got {value!r}")
            if value > ceiling:
                raise ValueError(f"limits.{name}: {value} is above the pool's {ceiling}; limits can only be lowered")
            changes[name] = type(ceiling)(value)
        return replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # `asdict` would copy each value


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """What was kept of one output stream."""

    head: str = ""
    tail: str = ""
    total_bytes: int = 0
    truncated: bool = False

    @property
    def text(self) -> str:
        """Head and tail, and where something is missing between them a line that says so."""
        if not self.truncated:
            return self.head + self.tail
        cut = f"[... cut: {self.total_bytes} bytes were written, this is their beginning and end ...]"
        return f"{self.head}\n{cut}\n{self.tail}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramError:
    """Why a program did not end well, in words meant for its author."""

    type: str
    message: str
    line: int | None = None
    column: int | None = None
    traceback: str | None = None
    """Only the program's own frames, with its source lines."""
    remedy: str | None = None
    limit: str | None = None
    """The `Limits` field that was reached, where one was."""
    fields: dict[str, Any] | None = None
    """The fields of a tool's error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one execution took. Wall from the run message to the last process reaped."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory_peak_bytes: int = 0
    """0 where the program ended before the first look."""
    scratch_bytes: int = 0
    tool_calls: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Everything a supervisor says of one execution."""

    execution: str
    status: Status
    value: Any = None
    stdout: Stream = Stream()
    stderr: Stream = Stream()
    error: ProgramError | None = None
    usage: Usage = Usage()
    clean: bool = False
    """Nothing of the program is left; else the pod must be retired."""
    residue: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """Raises ValueError where the value is none that JSON can carry."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}  # `asdict` would copy the value
        for name in ("stdout", "stderr", "usage"):
            parts[name] = asdict(parts[name])
        return encode_json({**parts, "error": asdict(self.error) if self.error is not None else None})

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> "Outcome":
        """Raises ProtocolError where the message is not an outcome."""
        try:
            error = message["error"]
            return cls(
                execution=message["execution"],
                status=Status(message["status"]),
                value=message["value"],
                stdout=Stream(**message["stdout"]),
                stderr=Stream(**message["stderr"]),
                error=ProgramError(**error) if error is not None else None,
                usage=Usage(**message["usage"]),
                clean=message["clean"] is True,
                residue=tuple(message["residue"]),
            )
        except (KeyError, TypeError, ValueError) as fault:
            raise ProtocolError(f"not an outcome: {fault}") from fault


@dataclass(frozen=True, slots=True)
class Frame:
    type: Message
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as a JSON object. Raises ProtocolError where it is none."""
        return decode_json(self.body)


def encode_frame(type: Message, body: bytes | Mapping[str, Any]) -> bytes:
    """One frame; a mapping is written as JSON. Raises ProtocolError over MAX_BODY_BYTES."""
    data = body if isinstance(body, bytes) else encode_json(body)
    if len(data) > MAX_BODY_BYTES:
        raise ProtocolError(f"{type.name} frame of {len(data)} bytes is over the {MAX_BODY_BYTES} allowed")
    return HEADER.pack(len(data), type) + data


def encode_json(message: Mapping[str, Any]) -> bytes:
    """UTF-8 JSON. Lone surrogates, which UTF-8 cannot carry, become question marks.

    Raises ValueError for NaN and infinities, which JSON cannot carry.
    """
    text = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def decode_json(body: bytes) -> dict[str, Any]:
    """Raises ProtocolError for anything but a JSON object in UTF-8 of at most MAX_DEPTH levels and finite numbers."""
    try:
        message = json.loads(body.decode(), parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as fault:
        raise ProtocolError(f"body is not JSON: {fault}") from fault
    if not isinstance(message, dict):
        raise ProtocolError(f"body is a JSON {type(message).__name__}, not an object")
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and is_deep(message):
        raise ProtocolError(f"body is nested deeper than {MAX_DEPTH} levels")
    return message


def is_deep(value: Any, levels: int = MAX_DEPTH) -> bool:
    """Whether a JSON value's arrays and objects are nested deeper than so many levels, its own included."""
    level: list[Any] = [value] if isinstance(value, (dict, list)) else []
    for _ in range(levels):
        inner = (item.values() if isinstance(item, dict) else item for item in level)
        level = [item for items in inner for item in items if isinstance(item, (dict, list))]
    return bool(level)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:20]} is too large")
    return number


class FrameReader:
    """Turns bytes, in any portions, into frames. Holds at most one frame's bytes and one portion."""

    def __init__(self, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self.max_body_bytes = max_body_bytes
        """May be changed between two frames, of one portion too."""
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Every frame that is complete with this portion.

        Raises ProtocolError for an unknown type or a length over the maximum; the reader is then done.
        """
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            length, number = HEADER.unpack_from(self._buffer)
            if length > self.max_body_bytes:
                raise ProtocolError(f"frame of {length} bytes is over the {self.max_body_bytes} allowed")
            try:
                type = Message(number)
            except ValueError as fault:
                raise ProtocolError(f"unknown message type {number}") from fault
            end = HEADER.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[HEADER.size : end])
            del self._buffer[:end]
            yield Frame(type, body)


def gateway_proof(key: bytes, *, pod: str, supervisor_nonce: str, gateway_nonce: str) -> str:
    """What a gateway shows to prove that it holds the pool's key; fresh for every connection."""
    return _proof(key, "gateway", pod, supervisor_nonce, gateway_nonce)


def supervisor_proof(key: bytes, *, pod: str, supervisor_nonce: str, gateway_nonce: str) -> str:
    """What a supervisor answers, so that a program never goes to whoever took over a pod's address."""
    return _proof(key, "supervisor", pod, supervisor_nonce, gateway_nonce)


def tenant_mark(key: bytes, tenant: str) -> str:
    """By which a supervisor knows a tenant again and learns nothing of it; its program could read it."""
    return _proof(key, "tenant", tenant)


def same_proof(shown: object, expected: str) -> bool:
    """Compares in constant time; False for anything that is not a string."""
    return isinstance(shown, str) and hmac.compare_digest(_bytes(shown), _bytes(expected))


def _proof(key: bytes, role: str, *parts: str) -> str:
    text = "\x00".join(("warmpool", str(VERSION), role, *parts))
    return hmac.new(key, _bytes(text), hashlib.sha256).hexdigest()


def _bytes(text: str) -> bytes:
    """UTF-8, and something for the lone surrogates that a peer may put into JSON."""
    return text.encode("utf-8", "surrogatepass")

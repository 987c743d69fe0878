"""One execution, from the supervisor's side: its descriptors, its deadline, its limits, its end.

Everything a child says is data of a stranger: bounded, checked for form, and never believed where the kernel
or the zygote knows better. The status comes from here.
"""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import NoneType
from typing import Any, Final

from warmpool.protocol import (
    Frame,
    FrameReader,
    Limits,
    Message,
    ProgramError,
    ProtocolError,
    Status,
    Usage,
    encode_frame,
)
from warmpool_sandbox.capture import Capture
from warmpool_sandbox.connections import Connections
from warmpool_sandbox.looks import POLL_SECONDS, Looks, Pod
from warmpool_sandbox.meter import Meter
from warmpool_sandbox.scratch import Scratch
from warmpool_sandbox.zygote_process import ZygoteProcess

_END_SECONDS: Final = 2.0
_AFTER_VALUE_SECONDS: Final = 0.1
_READ_BYTES: Final = 64 * 1024
_MAX_ARGUMENT_BYTES: Final = 256 * 1024
_MAX_CALL_ID: Final = 2**53
"""What every JSON parser keeps exactly."""
_MAX_UNREAD_BYTES: Final = 1024 * 1024
"""Of refusals that a program calls forth and does not read; an honest one waits for each."""

ToolCalls = Callable[[bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What the zygote reports of a tree that is gone; `lost` where the zygote itself went."""

    status: int | None = None
    cpu_seconds: float = 0.0
    max_rss_bytes: int = 0
    processes: int = 0
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """Why the supervisor ended the program."""

    status: Status
    error: ProgramError


class Execution:
    """Drives one child. `done` resolves with how the tree ended, once it has."""

    def __init__(
        self, zygote: ZygoteProcess, scratch: Scratch, limits: Limits, on_tool_call: ToolCalls, pod: Pod | None = None
    ) -> None:
        self.limits = limits
        self._pod = pod
        self.stdout = Capture(limits.stream_bytes)
        self.stderr = Capture(limits.stream_bytes)
        self.value: dict[str, Any] | None = None
        self.stop: Stop | None = None
        self.tool_calls = 0
        self.cpu_seconds = 0.0
        self.memory_peak_bytes = 0
        self.scratch_bytes = 0
        self._zygote = zygote
        self._scratch = scratch
        self._on_tool_call = on_tool_call
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[Ended] = self._loop.create_future()
        self._open_calls: set[int] = set()
        self._timers: list[asyncio.TimerHandle] = []
        self._reader = FrameReader()
        self._unsent = bytearray()
        self._descriptors: dict[int, Capture] = {}
        self._channel: socket.socket
        """Watched by its number: asyncio, asked about a socket that it does not watch, puts its name in words first."""
        self._started = time.monotonic()
        self._meter: Meter
        self._looks = Looks(pod.cpu if pod is not None else None, self._started)

    def start(self, program: bytes, uid_tasks: int, shared_bytes: int, connections: Connections | None = None) -> None:
        """Forks the child and sends it the program. Raises OSError where the zygote is gone."""
        self._meter = Meter(
            self._zygote.pid, shared_bytes, self.limits.memory_bytes, self._stop_at_full_pod, connections
        )
        ours, theirs = socket.socketpair()
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        self._channel = ours
        self._descriptors = {out_read: self.stdout, err_read: self.stderr}
        try:
            self._zygote.fork(
                {"limits": self.limits.as_dict(), "uid_tasks": uid_tasks}, (out_write, err_write, theirs.fileno())
            )
        except OSError:
            self._close()
            raise
        finally:
            theirs.close()
            os.close(out_write)
            os.close(err_write)
        ours.setblocking(False)
        for descriptor, capture in self._descriptors.items():
            os.set_blocking(descriptor, False)
            self._loop.add_reader(descriptor, self._read_output, descriptor, capture)
        self._loop.add_reader(ours.fileno(), self._read_channel)
        self._send(encode_frame(Message.PROGRAM, program))
        self._later(self.limits.wall_seconds, self._deadline)
        self._poll_later()

    def _later(self, seconds: float, callback: Callable[[], None]) -> None:
        self._timers.append(self._loop.call_later(seconds, callback))

    # -- what the child says

    def _read_output(self, descriptor: int, capture: Capture) -> bool:
        """Reads once; False where there is nothing more."""
        try:
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(descriptor)
            return False
        capture.add(data)
        if capture.total_bytes > self.limits.stream_total_bytes:
            name = "stdout" if capture is self.stdout else "stderr"
            self._reached(Status.OUTPUT_LIMIT, "stream_total_bytes", capture.total_bytes, f"bytes written to {name}")
        return True

    def _read_channel(self) -> bool:
        try:
            data = self._channel.recv(_READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._channel.fileno())
            return False
        try:
            for frame in self._reader.feed(data):
                self._take(frame)
        except ProtocolError as fault:
            self._loop.remove_reader(self._channel.fileno())
            self.kill(
                Status.CRASHED, ProgramError(type="ProtocolError", message=f"the program wrote to the channel: {fault}")
            )
            return False
        return True

    def _take(self, frame: Frame) -> None:
        if self.value is not None:
            return
        if frame.type is Message.VALUE:
            if len(frame.body) > self.limits.result_bytes + 64 * 1024:
                raise ProtocolError(f"a value of {len(frame.body)} bytes")
            self.value = frame.json()
            self._later(_AFTER_VALUE_SECONDS, self._zygote.end_tree)
        elif frame.type is Message.TOOL_CALL:
            self._take_tool_call(frame)
        else:
            raise ProtocolError(f"{frame.type.name} is not the child's to send")

    def _take_tool_call(self, frame: Frame) -> None:
        call = frame.json()
        number = call.get("id")
        if type(number) is not int or not 0 <= number < _MAX_CALL_ID or number in self._open_calls:
            raise ProtocolError("a tool call's id must be a number of its own")
        self.tool_calls += 1
        refusal = self._refusal(call, len(frame.body))
        if refusal is not None:
            if len(self._unsent) > _MAX_UNREAD_BYTES:
                raise ProtocolError("answers to tool calls are not read")
            self._send(encode_frame(Message.TOOL_RESULT, {"id": number, "error": refusal}))
            return
        self._open_calls.add(number)
        self._on_tool_call(encode_frame(Message.TOOL_CALL, {k: call[k] for k in ("id", "tool", "arguments")}))

    def _refusal(self, call: dict[str, Any], size: int) -> dict[str, Any] | None:
        if not isinstance(call.get("tool"), str) or not isinstance(call.get("arguments"), dict):
            return _tool_error("malformed_call", "a tool call is {id, tool, arguments}")
        if size > _MAX_ARGUMENT_BYTES:
            return _tool_error("arguments_too_large", f"arguments of {size} bytes are over {_MAX_ARGUMENT_BYTES}")
        if self.tool_calls > self.limits.tool_calls:
            return _tool_error("too_many_calls", f"tool_calls = {self.limits.tool_calls} reached; ask for more at once")
        if len(self._open_calls) >= self.limits.tool_calls_at_once:
            return _tool_error("too_many_at_once", f"tool_calls_at_once = {self.limits.tool_calls_at_once} reached")
        return None

    def answer(self, frame: Frame) -> None:
        """Hands a TOOL_RESULT to the child. One that no call waits for is dropped."""
        number = frame.json().get("id")
        if isinstance(number, int) and number in self._open_calls and not self.done.done():
            self._open_calls.discard(number)
            self._send(encode_frame(Message.TOOL_RESULT, frame.body))

    def _send(self, data: bytes) -> None:
        self._unsent += data
        if len(self._unsent) == len(data):
            self._flush()

    def _flush(self) -> None:
        try:
            sent = self._channel.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._unsent.clear()
            self._loop.remove_writer(self._channel.fileno())
            return
        del self._unsent[:sent]
        if self._unsent:
            self._loop.add_writer(self._channel.fileno(), self._flush)
        else:
            self._loop.remove_writer(self._channel.fileno())

    # -- limits

    def _deadline(self) -> None:
        elapsed = round(time.monotonic() - self._started, 2)
        self._reached(Status.TIMEOUT, "wall_seconds", elapsed, "seconds on the clock")

    def _poll(self) -> None:
        if self._stop_at_full_pod():
            return
        if self._looks.is_due(time.monotonic()):
            self._look()
        if not self.done.done():
            self._poll_later()

    def _poll_later(self) -> None:
        self._later(POLL_SECONDS if self._pod is None else self._pod.seconds_to_next_look(), self._poll)

    def _look(self) -> None:
        tree = self._meter.look()
        usage = self._scratch.usage(self.limits.scratch_inodes, tree.deleted_bytes)
        self.cpu_seconds = tree.cpu_seconds
        self.memory_peak_bytes = max(self.memory_peak_bytes, tree.memory_bytes)
        self.scratch_bytes = max(self.scratch_bytes, usage.bytes)
        if self._stop_at_full_pod():  # a look takes its time
            return
        if tree.memory_bytes > self.limits.memory_bytes:
            self._reached(Status.MEMORY_LIMIT, "memory_bytes", tree.memory_bytes, "bytes held")
        elif tree.cpu_seconds >= self.limits.cpu_seconds:
            self._reached(Status.CPU_LIMIT, "cpu_seconds", round(tree.cpu_seconds, 2), "seconds of processor time")
        elif usage.bytes >= self.limits.scratch_bytes:
            self._reached(Status.DISK_LIMIT, "scratch_bytes", usage.bytes, "bytes in the working folder")
        elif usage.inodes >= self.limits.scratch_inodes:
            self._reached(Status.DISK_LIMIT, "scratch_inodes", usage.inodes, "files and folders in the working folder")

    def _stop_at_full_pod(self) -> bool:
        """Whether it had to."""
        overfull = self._pod.overfull_bytes() if self._pod is not None else 0
        if overfull:
            self._reached(Status.MEMORY_LIMIT, "memory_bytes", overfull, "bytes in the whole pod, which is full")
        return overfull > 0

    def _reached(self, status: Status, limit: str, value: float, what: str) -> None:
        message = f"{limit} = {getattr(self.limits, limit)} reached: {value} {what}"
        self.kill(status, ProgramError(type="LimitReached", message=message, limit=limit))

    def kill(self, status: Status, error: ProgramError) -> None:
        """Ends the whole tree; the first reason stands. A zygote that does not manage is given up."""
        if self.stop is None and self.value is None and not self.done.done():
            self.stop = Stop(status, error)
        if not self.done.done():
            self._zygote.end_tree()
            self._later(_END_SECONDS, self._give_up)

    def _give_up(self) -> None:
        if not self.done.done():
            self._zygote.destroy()
            self.ended(Ended(lost=True))

    # -- the end

    def ended(self, ended: Ended) -> None:
        """The tree is gone: take what is still in the pipes, then let go of everything."""
        if self.done.done():
            return
        for descriptor, capture in self._descriptors.items():
            while self.stop is None and self._read_output(descriptor, capture):
                pass
        while self._channel.fileno() >= 0 and self._read_channel():
            pass
        self._close()
        self.done.set_result(ended)

    def _close(self) -> None:
        for timer in self._timers:
            timer.cancel()
        for descriptor in self._descriptors:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
        self._loop.remove_reader(self._channel.fileno())
        self._loop.remove_writer(self._channel.fileno())
        self._channel.close()

    def usage(self, ended: Ended, zygote_rss_bytes: int) -> Usage:
        own_rss = max(0, ended.max_rss_bytes - zygote_rss_bytes)
        return Usage(
            wall_seconds=round(time.monotonic() - self._started, 6),
            cpu_seconds=round(max(ended.cpu_seconds, self.cpu_seconds), 6),
            memory_peak_bytes=max(self.memory_peak_bytes, own_rss),
            scratch_bytes=self.scratch_bytes,
            tool_calls=self.tool_calls,
        )


def judge(
    stop: Stop | None, value: dict[str, Any] | None, ended: Ended, limits: Limits
) -> tuple[Status, Any, ProgramError | None]:
    """Status, value and error, from what the supervisor did, what the child said and how it ended."""
    if stop is not None:
        return stop.status, None, stop.error
    if value is not None:
        return _judge_value(value)
    if ended.lost:
        return (
            Status.PLATFORM_ERROR,
            None,
            ProgramError(type="SandboxLost", message="the sandbox was lost during the run"),
        )
    return _judge_exit(ended, limits)


_CHILD_MAY_SAY: Final = {
    Status.USER_ERROR, Status.REJECTED, Status.OUTPUT_LIMIT, Status.MEMORY_LIMIT, Status.DISK_LIMIT,
}  # fmt: skip


def _judge_value(value: dict[str, Any]) -> tuple[Status, Any, ProgramError | None]:
    if value.get("status") == Status.OK.value and "value" in value:
        return Status.OK, value["value"], None
    with suppress(ValueError, KeyError, TypeError):
        status = Status(value["status"])
        if status in _CHILD_MAY_SAY:
            return status, None, _program_error(value["error"])
    return Status.CRASHED, None, ProgramError(type="ProtocolError", message="the program wrote to the channel")


_ERROR_PARTS: Final[dict[str, type | tuple[type, ...]]] = {
    "type": str, "message": str, "line": (int, NoneType), "column": (int, NoneType), "traceback": (str, NoneType),
    "remedy": (str, NoneType), "limit": (str, NoneType), "fields": (dict, NoneType),
}  # fmt: skip


def _program_error(parts: dict[str, Any]) -> ProgramError:
    """Raises TypeError or KeyError where the parts are not an error's."""
    error = ProgramError(**parts)
    if not all(isinstance(getattr(error, name), types) for name, types in _ERROR_PARTS.items()):
        raise TypeError("an error's part is of another type")
    return error


def _judge_exit(ended: Ended, limits: Limits) -> tuple[Status, Any, ProgramError | None]:
    status = ended.status or 0
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if ended.cpu_seconds >= limits.cpu_seconds and number in (signal.SIGXCPU, signal.SIGKILL):
            message = f"cpu_seconds = {limits.cpu_seconds} reached: {ended.cpu_seconds:.2f} seconds of processor time"
            return Status.CPU_LIMIT, None, ProgramError(type="LimitReached", message=message, limit="cpu_seconds")
        name = signal.Signals(number).name if number in signal.Signals.__members__.values() else str(number)
        return (
            Status.CRASHED,
            None,
            ProgramError(type="Signal", message=f"the program was ended by signal {number} ({name})"),
        )
    code = os.WEXITSTATUS(status)
    return (
        Status.CRASHED,
        None,
        ProgramError(type="Exit", message=f"the program left with code {code} and without a value"),
    )


def _tool_error(code: str, message: str) -> dict[str, Any]:
    return {"type": "ToolError", "code": code, "message": message, "fields": {}}

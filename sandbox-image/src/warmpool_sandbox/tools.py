"""How a program calls tools: synchronously, over the one descriptor that leads out of the sandbox.

The generated stubs under `servers` call `call`; programs may use `parallel` (also as `servers.parallel`) to
have several calls under way at once. Grants and secrets are not here: the gateway attaches them.
"""

import socket
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from warmpool.protocol import FrameReader, Limits, Message, ProtocolError, encode_frame

T = TypeVar("T")
R = TypeVar("R")


class ToolError(Exception):
    """A tool said no. `code` is a word to branch on; `fields` holds what else the tool said."""

    def __init__(self, message: str, *, code: str = "tool_failed", **fields: Any) -> None:
        super().__init__(message)
        self.code = code
        self.fields = fields

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["fields"][name]
        except KeyError:
            raise AttributeError(name) from None


class Channel:
    """The child's end of the socketpair; safe to use from several threads.

    Whichever caller finds nobody reading reads for all and hands replies out by their number.
    """

    def __init__(self, connection: socket.socket, limits: Limits) -> None:
        self.limits = limits
        self._connection = connection
        self._reader = FrameReader()
        self._turn = threading.Condition()
        self._reading = False
        self._replies: dict[int, dict[str, Any]] = {}
        self._last_id = 0

    def send(self, type: Message, body: bytes) -> None:
        self._connection.sendall(encode_frame(type, body))

    def receive(self) -> Iterable[Any]:
        """The frames of one read. Raises ProtocolError at end of file."""
        data = self._connection.recv(256 * 1024)
        if not data:
            raise ProtocolError("the supervisor is gone")
        return self._reader.feed(data)

    def call(self, tool: str, arguments: dict[str, Any]) -> Any:
        """One tool call's value. Raises ToolError."""
        with self._turn:
            self._last_id += 1
            number = self._last_id
            self._connection.sendall(
                encode_frame(Message.TOOL_CALL, {"id": number, "tool": tool, "arguments": arguments})
            )
        reply = self._await_reply(number)
        error = reply.get("error")
        if error is None:
            return reply.get("value")
        fault = ToolError(error.get("message", "the tool call failed"), code=error.get("code", "tool_failed"))
        fault.fields = error.get("fields") or {}  # not as arguments: a field may have the name of one
        raise fault

    def _await_reply(self, number: int) -> dict[str, Any]:
        while True:
            with self._turn:
                self._turn.wait_for(lambda: number in self._replies or not self._reading)
                if number in self._replies:
                    return self._replies.pop(number)
                self._reading = True
            replies: list[dict[str, Any]] = []
            try:
                replies = [frame.json() for frame in self.receive() if frame.type is Message.TOOL_RESULT]
            finally:
                with self._turn:
                    self._replies.update((reply["id"], reply) for reply in replies)
                    self._reading = False
                    self._turn.notify_all()


_channel: Channel | None = None


def connect(channel: Channel) -> None:
    """Makes `call` work; done once, in the child, before the program runs."""
    global _channel
    _channel = channel


def call(tool: str, arguments: dict[str, Any]) -> Any:
    """Calls a tool by its qualified name, such as `search.search_products`. Raises ToolError."""
    if _channel is None:
        raise RuntimeError("tools can be called inside an execution only")
    return _channel.call(tool, {name: value for name, value in arguments.items() if value is not None})


def parallel(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """`[function(item) for item in items]`, several at once; results in the order of the items.

    The first exception is raised once the calls under way have ended.
    """
    if _channel is None:
        raise RuntimeError("tools can be called inside an execution only")
    with ThreadPoolExecutor(max_workers=_channel.limits.tool_calls_at_once) as executor:
        return list(executor.map(function, items))

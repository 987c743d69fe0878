"""What the kubelet asks: is this process alive, and may it get programs. Two paths, no names, no version, no state.

A responder of a few lines in the supervisor's own loop, so that its answer is about that loop. Programs cannot reach
it: they have no sockets, or none that connects to its port.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

_REQUEST_BYTES: Final = 1024
_SECONDS: Final = 5.0
_CONNECTIONS: Final = 16


def listen(host: str, port: int) -> socket.socket:
    """Takes questions from now on, for a `Health` to answer: until there is one they wait, for as long as the kubelet
    does. A kubelet that is refused says so in an event, and asks again seconds later."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_CONNECTIONS)


class Health:
    """Answers `GET /healthz` while the loop turns, and `GET /readyz` by `ready`: None, or in a word why not."""

    def __init__(self, ready: Callable[[], str | None]) -> None:
        self._ready = ready
        self._open = 0

    async def serve(self, listening: socket.socket) -> asyncio.Server:
        return await asyncio.start_server(self._answer, sock=listening, limit=_REQUEST_BYTES, backlog=_CONNECTIONS)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= _CONNECTIONS:
                async with asyncio.timeout(_SECONDS):
                    request = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self._response(request.split(b" ", 2)[:2]))
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return  # whoever asks like this gets no answer
        finally:
            self._open -= 1
            writer.close()

    def _response(self, asked: list[bytes]) -> bytes:
        match asked:
            case [b"GET", b"/healthz"]:
                status, body = "200 OK", "ok"
            case [b"GET", b"/readyz"]:
                reason = self._ready()
                status, body = ("200 OK", "ok") if reason is None else ("503 Service Unavailable", reason)
            case _:
                status, body = "404 Not Found", "not found"
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return (head + body).encode()

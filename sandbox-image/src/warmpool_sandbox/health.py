"""What the kubelet asks: is this process alive, and is it ready. Two paths, no names, no version, no state: one that
serves is both until its end, for whether a program may be sent here is the registry's to say.

A responder of a few lines in the supervisor's own loop, so that its answer is about that loop. Programs cannot reach
it: they have no sockets, or none that connects to its port.
"""

import _socket
import asyncio
import socket
from typing import Final

_REQUEST_BYTES: Final = 1024
_SECONDS: Final = 5.0
_CONNECTIONS: Final = 16

ALIVE: Final = [b"GET", b"/healthz"]
READY: Final = [b"GET", b"/readyz"]


class Health:
    """Answers `GET /healthz` and `GET /readyz` while the loop turns."""

    def __init__(self) -> None:
        self.said_ready = asyncio.Event()
        """Set with each answer to the latter."""
        self._open = 0

    async def serve(self, listening: _socket.socket) -> asyncio.Server:
        """Takes over what listens already."""
        taken = socket.socket(fileno=listening.detach())
        return await asyncio.start_server(self._answer, sock=taken, limit=_REQUEST_BYTES, backlog=_CONNECTIONS)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= _CONNECTIONS:
                async with asyncio.timeout(_SECONDS):
                    request = await reader.readuntil(b"\r\n\r\n")
                    asked = request.split(b" ", 2)[:2]
                    writer.write(_response(asked))
                    await writer.drain()
                    if asked == READY:
                        self.said_ready.set()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return  # whoever asks like this gets no answer
        finally:
            self._open -= 1
            writer.close()


def _response(asked: list[bytes]) -> bytes:
    status, body = ("200 OK", "ok") if asked in (ALIVE, READY) else ("404 Not Found", "not found")
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return (head + body).encode()

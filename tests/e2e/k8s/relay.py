"""The network between an operator of a test's own and the API server, which the test can cut.

Its TLS goes through untouched. Not an HTTP proxy: through one the operator's client would keep no connection.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

PIECE_BYTES: Final = 65536


class Relay:
    """`relaying` makes one; everything passes at first."""

    def __init__(self, host: str, port: int) -> None:
        self.port = 0
        """On loopback."""
        self._target = host, port
        self._server: asyncio.Server | None = None
        self._frozen = False
        self._connections: set[_Connection] = set()

    async def open(self) -> None:
        """Everything passes again, on new connections: the old ones break."""
        await self.refuse()
        self._frozen = False
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Nobody listens, and every connection breaks: a server whose process is gone."""
        if self._server is not None:
            self._server.close()
            self._server = None
        serving = [connection.break_off() for connection in self._connections]
        await asyncio.gather(*serving, return_exceptions=True)

    def freeze(self) -> None:
        """Connections stay, new ones are taken, and nothing passes: a network that loses every packet."""
        self._frozen = True
        self.freeze_what_is_there()

    def freeze_what_is_there(self) -> None:
        """For good; new ones pass: as where something between forgets the connections that it knew."""
        for connection in self._connections:
            connection.flows.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(reader, writer, self._target)
        if self._frozen:
            connection.flows.clear()
        self._connections.add(connection)
        with suppress(asyncio.CancelledError):
            await connection.serve()
        self._connections.discard(connection)


class _Connection:
    """Of one client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: tuple[str, int]) -> None:
        self.flows = asyncio.Event()
        self.flows.set()
        self._reader, self._writer, self._target = reader, writer, target
        self._task = asyncio.current_task()

    def break_off(self) -> "asyncio.Task[None]":
        assert self._task is not None
        self._task.cancel()
        return self._task

    async def serve(self) -> None:
        writers = [self._writer]
        try:
            await self.flows.wait()
            reader, writer = await asyncio.open_connection(*self._target)
            writers.append(writer)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(self._reader, writer))
                both.create_task(self._pass(reader, self._writer))
        except* (OSError, EOFError):
            pass  # one side is gone, and so is the other now
        finally:
            for writer in writers:
                writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Raises EOFError at the end, which ends the other way too."""
        while piece := await reader.read(PIECE_BYTES):
            await self.flows.wait()
            writer.write(piece)
            await writer.drain()
        raise EOFError


@asynccontextmanager
async def relaying(host: str, port: int) -> AsyncIterator[Relay]:
    relay = Relay(host, port)
    await relay.open()
    try:
        yield relay
    finally:
        await relay.refuse()

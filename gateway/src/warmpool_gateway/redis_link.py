"""A Redis client that sends the hot path's commands together.

Commands that are asked for in the same turn of the event loop leave in one write on one connection, in
the order in which they were asked for, and their replies are matched to them in that order. So a release,
its audit record and the next caller's acquire cost one round trip, and a command costs a third of the CPU of an
exchange of its own. Everything else (blocking reads, subscriptions, transactions) goes the ordinary way.

It repeats nothing: where the connection breaks, every command without a reply fails, run or not.
"""

import asyncio
import math
from collections import deque
from typing import Any, Final

from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.exceptions import ConnectionError, RedisError, ResponseError, TimeoutError

from warmpool.registry.connection import WITHOUT_NOTICES

TOGETHER: Final = frozenset({"EVALSHA", "XADD", "XLEN", "PING"})
"""Commands whose reply needs no options to be read, and that never block."""

DRIVER: Final = DriverInfo()
"""Made once, as it reads the package's metadata from disk; a connection would make its own."""

Reply = asyncio.Future[Any]


class PipelinedRedis(Redis):
    """As `Redis`. Make it with `connect`, end it with `aclose`; it belongs to one event loop."""

    _link: "_Link | None" = None
    timeout_seconds: float = 2.0

    @classmethod
    def connect(cls, url: str, *, timeout_seconds: float) -> "PipelinedRedis":
        """Opens nothing yet. Past `timeout_seconds` a command fails."""
        client = cls.from_url(
            url,
            decode_responses=True,
            socket_timeout=None,  # a blocking read on this client must outlive the package's default of 5 s
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
            driver_info=DRIVER,
            maint_notifications_config=WITHOUT_NOTICES,
        )
        assert isinstance(client, cls)
        client.timeout_seconds = timeout_seconds
        return client

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] not in TOGETHER:
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        if self._link is None or self._link.broken:
            self._link = _Link(self.connection_pool.make_connection(), self.timeout_seconds)  # type: ignore[no-untyped-call]
        reply = await self._link.ask(args)
        read = self.response_callbacks.get(args[0])
        return reply if read is None else read(reply)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        if self._link is not None:
            await self._link.aclose()
        await super().aclose(close_connection_pool)


class _Link:
    """One connection and the commands that wait for their replies on it. Once broken it is thrown away."""

    def __init__(self, connection: AbstractConnection, timeout_seconds: float) -> None:
        self.broken = False
        self._connection = connection
        self._timeout = timeout_seconds
        self._outbox: list[tuple[Any, ...]] = []
        self._waiting: deque[tuple[float, Reply]] = deque()
        self._loop = asyncio.get_running_loop()
        self._asked = asyncio.Event()
        self._watch: asyncio.TimerHandle | None = None
        self._tasks = [self._loop.create_task(self._serve())]

    def ask(self, command: tuple[Any, ...]) -> Reply:
        reply: Reply = self._loop.create_future()
        self._outbox.append(command)
        self._waiting.append((self._loop.time() + self._timeout, reply))
        self._asked.set()
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout, self._look)
        return reply

    async def aclose(self) -> None:
        self._break(ConnectionError("the client was closed"))
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self) -> None:
        try:
            await self._connection.connect()  # type: ignore[no-untyped-call]
            self._tasks.append(self._loop.create_task(self._send()))
            await self._receive()
        except (RedisError, OSError) as fault:
            self._break(fault)
        finally:
            await self._connection.disconnect(nowait=True)

    async def _send(self) -> None:
        try:
            while await self._asked.wait():
                self._asked.clear()
                commands, self._outbox = self._outbox, []
                packed = [pack_command(command) for command in commands]  # a tenth of redis-py's own packing
                await self._connection.send_packed_command(packed, check_health=False)
        except (RedisError, OSError) as fault:
            self._break(fault)

    async def _receive(self) -> None:
        while True:
            try:
                answer = await self._connection.read_response(timeout=math.inf, disconnect_on_error=False)
            except ResponseError as refusal:
                self._settle(refusal)
            else:
                self._settle(answer)

    def _settle(self, answer: Any) -> None:
        _, reply = self._waiting.popleft()
        if reply.done():  # its caller was cancelled
            return
        if isinstance(answer, ResponseError):
            reply.set_exception(answer)
        else:
            reply.set_result(answer)

    def _look(self) -> None:
        """Breaks the connection when the oldest command has waited too long, for then all others have to."""
        self._watch = None
        if not self._waiting:
            return
        due = self._waiting[0][0]
        if due <= self._loop.time():
            self._break(TimeoutError(f"no reply from Redis within {self._timeout} s"))
        else:
            self._watch = self._loop.call_at(due, self._look)

    def _break(self, fault: Exception) -> None:
        if self.broken:
            return
        self.broken = True
        if self._watch is not None:
            self._watch.cancel()
        for task in self._tasks:
            if task is not asyncio.current_task():  # that one is on its way out, and closes the connection first
                task.cancel()
        for _, reply in self._waiting:
            if not reply.done():
                reply.set_exception(fault if isinstance(fault, RedisError) else ConnectionError(str(fault)))
        self._waiting.clear()

"""Watches Redis by MONITOR: every lease and every tool call, in the order in which Redis carried them out.

It is a witness that shares nothing with the registry's own code but the names of its keys.
"""

import asyncio
import re
import socket
import time
from contextlib import suppress
from typing import Final
from uuid import uuid4

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from chaos.evidence import Lease, Move, Seen
from warmpool.registry import PodState

MARK: Final = "chaos:mark"
"""A key of ours: where it is gone, so is everything else."""
AGAIN_SECONDS: Final = 0.05
CONNECT_SECONDS: Final = 2.0
SILENCE_SECONDS: Final = 10.0
"""Gateways ask twice a second: past this the connection is dead, and longer than any pause that is injected."""
KEEPALIVE: Final = {socket.TCP_KEEPIDLE: 1, socket.TCP_KEEPINTVL: 1, socket.TCP_KEEPCNT: 1}
"""So that a Redis which vanished without a word is missed after 2 s already."""
LINE: Final = re.compile(r'^(\d+\.\d+) \[\d+ \S+\] "(.*)"$', re.DOTALL)
BUDGET: Final = re.compile(r"^warmpool:budget:\{.*:(.*)\}$")


def connect(url: str) -> Redis:
    """A client for the witness."""
    return Redis.from_url(
        url, decode_responses=True, socket_timeout=SILENCE_SECONDS, socket_connect_timeout=CONNECT_SECONDS,
        socket_keepalive=True, socket_keepalive_options=KEEPALIVE,
    )  # fmt: skip


class Watch:
    """Of one pool. `run` it until cancelled; what it has seen is in `seen`."""

    def __init__(self, redis: Redis, pool: str) -> None:
        self.seen = Seen()
        self.attached = asyncio.Event()
        """Set while nothing can happen unseen."""
        self._redis = redis
        self._records = f"warmpool:{{{pool}}}:pod:"
        self._mark: str | None = None
        self._lease: dict[str, str] = {}
        self._waiting: list[asyncio.Future[Lease]] = []

    async def run(self) -> None:
        since = time.time()
        while True:
            with suppress(RedisError, OSError, TimeoutError):
                await self._listen(since)
            if self.attached.is_set():
                since = time.time()
                self.attached.clear()
            await asyncio.sleep(AGAIN_SECONDS)

    async def next_lease(self) -> Lease:
        """The next one, in the moment in which it is given."""
        future: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return await future

    async def _listen(self, since: float) -> None:
        connection = self._redis.connection_pool.make_connection()
        try:
            await connection.connect()
            await connection.send_command("MONITOR")
            await connection.read_response()
            await self._recognise()
            self.seen.watch += 1
            self.seen.away.append((since, time.time()))
            self.attached.set()
            await self._read(connection)
        finally:
            await connection.disconnect(nowait=True)

    async def _recognise(self) -> None:
        """Whether this is the Redis that was seen before, with what it held."""
        if self._mark is not None and await self._redis.get(MARK) == self._mark:
            return
        if self._mark is not None:
            self._lost(time.time())
        await self._make_mark()

    async def _make_mark(self) -> None:
        self._mark, mark = None, uuid4().hex  # none, where it cannot be told whether it was taken
        await self._redis.set(MARK, mark)
        self._mark = mark

    async def _read(self, connection: AbstractConnection) -> None:
        while True:
            line = await connection.read_response(timeout=SILENCE_SECONDS)
            if line is None:
                raise TimeoutError
            if self.hear(line):
                self._lost(time.time())
                await self._make_mark()

    def _lost(self, at: float) -> None:
        self.seen.life += 1
        self.seen.losses.append(at)
        self.seen.states.clear()

    def hear(self, line: str) -> bool:
        """Takes one line of MONITOR in. True for one by which all data is lost."""
        match = LINE.match(line)
        if match is None:
            return False
        at, words = float(match[1]), match[2].split('" "')
        match words:
            case ["HSET", key, *fields] if key.startswith(self._records):
                self._written(key.removeprefix(self._records), dict(zip(fields[::2], fields[1::2], strict=True)), at)
            case ["HSETNX", key, "reason", reason] if key.startswith(self._records):
                self.seen.reasons.setdefault(key.removeprefix(self._records), reason)
            case ["HINCRBY", key, "calls", "1"] if budget := BUDGET.match(key):
                self.seen.tool_calls[budget[1]] = self.seen.tool_calls.get(budget[1], 0) + 1
            case ["FLUSHALL", *_]:
                return True
        return False

    def _written(self, pod: str, fields: dict[str, str], at: float) -> None:
        if "max_executions" in fields:
            self.seen.most_executions[pod] = int(fields["max_executions"])
            if fields["per_tenant"] == "1":
                self.seen.per_tenant.add(pod)
        if "execution" in fields:
            self._lease = fields  # the same script says next that the pod is leased
        if "state" in fields:
            self._moved(pod, PodState(fields["state"]), at)

    def _moved(self, pod: str, state: PodState, at: float) -> None:
        seen, lease = self.seen, None
        if state is PodState.LEASED:
            told = self._lease
            lease = Lease(
                pod=pod, execution=told["execution"], tenant=told["tenant"], gateway=told["gateway"],
                fence=int(told["fence"]), at=at, life=seen.life,
            )  # fmt: skip
            seen.leases.append(lease)
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(lease)
        seen.moves.append(Move(pod=pod, state=state, at=at, life=seen.life, watch=seen.watch, lease=lease))
        if state is PodState.GONE:
            seen.states.pop(pod, None)
        else:
            seen.states[pod] = state

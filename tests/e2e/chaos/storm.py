"""Carries faults out, one after another and some beside each other, and keeps what was done when."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from redis.exceptions import RedisError

from chaos.evidence import Fault
from chaos.faults import Kind, Strike, schedule
from chaos.ground import AWAY, Ground

STRIKE_SECONDS: Final = 90.0
"""For a fault to be carried out. Starting an API server on a busy machine takes the longest."""
REST_SECONDS: Final = 60.0
"""Between two outages of the API server, beyond that. After each failure the clients in Kubernetes' own parts wait
twice as long, up to a minute, until they had 2 minutes without one; till then no node is ready."""


class Storm:
    """`run` it once."""

    def __init__(self, ground: Ground, rng: random.Random, tell: Callable[[str], None]) -> None:
        self.faults: list[Fault] = []
        self.by_kind: Counter[str] = Counter()
        self._ground = ground
        self._rng = rng
        self._tell = tell
        self._api_server_rests_until = 0.0

    async def run(self, seconds: float, mean_seconds: float) -> None:
        """Returns when the last one is over."""
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for wait, kind in schedule(self._rng, mean_seconds):
                if time.monotonic() + wait >= end:
                    break
                await asyncio.sleep(wait)
                strike = await self._aim(kind)
                if strike is not None and not (strike.api_server and time.monotonic() < self._api_server_rests_until):
                    group.create_task(self._carry_out(kind, strike))

    async def _aim(self, kind: Kind) -> Strike | None:
        try:
            async with asyncio.timeout(STRIKE_SECONDS):
                return await kind.aim(self._ground, self._rng)
        except AWAY as fault:
            self._tell(f"{kind.name}: no target: {type(fault).__name__}")
            return None

    async def _carry_out(self, kind: Kind, strike: Strike) -> None:
        """It counts as done from the start: nobody knows how far one came that failed."""
        number, outcome = len(self.faults), ""
        if strike.api_server:
            self._api_server_rests_until = time.monotonic() + STRIKE_SECONDS + REST_SECONDS
        self.by_kind[kind.name] += 1
        begun = Fault(
            name=kind.name, at=time.time(), target=strike.target, killed=strike.killed,
            until=float("inf"), redis=strike.redis, api_server=strike.api_server,
        )  # fmt: skip
        self.faults.append(begun)
        try:
            async with asyncio.timeout(STRIKE_SECONDS):
                await strike.act()
        except (*AWAY, RedisError) as fault:
            outcome = f" ({type(fault).__name__})"
        finally:
            self.faults[number] = replace(begun, until=time.time())
        self._tell(f"{kind.name}: {strike.target}{outcome}")

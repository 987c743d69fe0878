"""Callers that never stop while something is broken under them, and what came of each program of theirs.

A caller sends a program again only where it provably did not run: the connection was refused, or the answer was 429 or
503. Each program is one of its kind, and calls a tool once, so that the records tell how often it ran.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

import aiohttp
import psycopg
from harness.caller import Caller
from harness.waiting import until

AGAIN: Final = frozenset({429, 503})
PAUSE_SECONDS: Final = 0.2
TIMEOUT_SECONDS: Final = 10
"""Of each program: none takes a fifth of it."""
RECORD_SECONDS: Final = 100.0
"""Records that a killed gateway was about to write are taken over by another after a while."""

PROGRAM: Final = """
import time
from servers.search import search_products
search_products("lamp", limit=1)
time.sleep({seconds})
return {number}  # {marker}
"""

RUNS: Final = """
SELECT code, count(*), sum((SELECT count(*) FROM tool_calls WHERE execution = executions.id)), array_agg(status)
FROM executions WHERE code LIKE %s GROUP BY code
"""


@dataclass(slots=True)
class Load:
    marker: str = field(default_factory=lambda: uuid4().hex)
    answers: list[dict[str, Any]] = field(default_factory=list)
    """Of the programs that ran to an end, whichever."""
    lost: list[str] = field(default_factory=list)
    """What was said to callers that cannot know whether their program ran."""
    sent_again: int = 0
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    async def call(self, caller: Caller, seconds: float) -> None:
        code = PROGRAM.format(seconds=seconds, number=next(self._numbers), marker=self.marker)
        while True:
            try:
                answer = await caller.post("/v1/executions", {"code": code, "timeout_seconds": TIMEOUT_SECONDS})
            except aiohttp.ClientConnectorError:
                self.sent_again += 1
            except (aiohttp.ClientError, TimeoutError) as fault:
                self.lost.append(f"{type(fault).__name__}: {fault}")
                return
            else:
                if answer.status == 200:
                    self.answers.append(answer.body)
                    return
                if answer.status not in AGAIN:
                    self.lost.append(str(answer))
                    return
                self.sent_again += 1
            await asyncio.sleep(PAUSE_SECONDS)

    @property
    def by_status(self) -> dict[str, int]:
        statuses = [answer["status"] for answer in self.answers]
        return {status: statuses.count(status) for status in sorted(set(statuses))}

    async def assert_none_ran_twice(self, postgres: psycopg.AsyncConnection[Any]) -> None:
        """Every program that was answered has one record, and nothing ran more often than it was recorded."""

        async def recorded() -> list[tuple[Any, ...]] | None:
            rows = await (await postgres.execute(RUNS, [f"%{self.marker}%"])).fetchall()
            return rows if len(rows) >= len(self.answers) else None

        rows = await until(recorded, RECORD_SECONDS, "every answer has its record")
        assert rows is not None
        assert len(rows) <= len(self.answers) + len(self.lost), "more programs were recorded than were sent"
        twice = [row for row in rows if row[1] != 1 or row[2] > 1]
        assert twice == []


@asynccontextmanager
async def load(caller: Caller, callers: int = 6, seconds: float = 0.2) -> AsyncIterator[Load]:
    """So many callers one after another's program of `seconds`, until the block ends and each has its answer."""
    under_way, ending = Load(), asyncio.Event()

    async def keep_calling() -> None:
        while not ending.is_set():
            await under_way.call(caller, seconds)

    tasks = [asyncio.create_task(keep_calling()) for _ in range(callers)]
    try:
        await until(lambda: len(under_way.answers) >= callers, 20, "the load is under way")
        yield under_way
        ending.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 60)
    finally:
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)

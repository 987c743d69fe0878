"""Callers that never stop, each program one of its kind, and what they are told of each.

A program tells its user, which is its pod's own, and by the clock of its node when it ran; it calls one tool first, so
that a program which ran leaves a trace even where its answer is lost. None is ever sent again.
"""

import asyncio
import itertools
import json
import random
import time
from collections import Counter
from typing import Any, Final

import aiohttp
from harness.caller import Caller

from chaos.evidence import Answer

WALL_SECONDS: Final = 10.0
"""Of each program: none takes a quarter of it."""
SECONDS: Final = (0.05, 0.05, 0.2, 0.2, 0.5, 2.0)
"""That programs take; one is drawn."""
LONGEST_SECONDS: Final = 60.0
"""For an answer: a wait for a pod of 10 s, the program, and two more tries where a pod is just gone take 30 s."""
PAUSE_SECONDS: Final = 0.5
"""After an answer that is none, as a caller with manners makes it."""
THINKING_SECONDS: Final = (0.0, 0.0, 0.0, 0.5, 3.0)
"""Between two programs of a caller; one is drawn. So now there are more callers than pods, now pods that are idle."""

PROGRAM: Final = """
import os
import time
began = time.monotonic()
from servers.search import search_products
try:
    search_products("lamp", limit=1)
    tool = "ok"
except Exception as fault:
    tool = f"{{type(fault).__name__}}: {{fault}}"
time.sleep({seconds})
return {{"number": {number}, "user": os.getuid(), "tool": tool, "began": began, "done": time.monotonic()}}
"""


class Callers:
    """`run` them until cancelled; `stop` lets each have its answer first."""

    def __init__(self, session: aiohttp.ClientSession, keys: dict[str, str], rng: random.Random) -> None:
        """`keys` are API keys by tenant."""
        self.answers: list[Answer] = []
        self.kinds: Counter[str] = Counter()
        self.longest_without_ok = 0.0
        """Seconds."""
        self._callers = [Caller(session, key, tenant) for tenant, key in keys.items()]
        self._rng = rng
        self._numbers = itertools.count()
        self._ok_at = 0.0
        self._stopping = False

    async def run(self, at_once: int) -> None:
        self._ok_at = time.time()
        async with asyncio.TaskGroup() as group:
            for _, caller in zip(range(at_once), itertools.cycle(self._callers), strict=False):
                group.create_task(self._keep_calling(caller))

    def stop(self) -> None:
        self._stopping = True

    async def _keep_calling(self, caller: Caller) -> None:
        while not self._stopping:
            answer = await self.call(caller, self._rng.choice(SECONDS))
            await asyncio.sleep(self._rng.choice(THINKING_SECONDS) if answer.kind == "ok" else PAUSE_SECONDS)

    async def call_each(self, pods: int) -> None:
        """Programs at once, each so long that every one of so many idle pods gets one."""
        await asyncio.gather(*(self.call(self._callers[0], seconds=1.0) for _ in range(pods)))

    async def call(self, caller: Caller, seconds: float) -> Answer:
        """Sends one program."""
        number, sent = next(self._numbers), time.time()
        code = PROGRAM.format(number=number, seconds=seconds)
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                told = await caller.post("/v1/executions", {"code": code, "timeout_seconds": WALL_SECONDS})
        except aiohttp.ClientConnectorError as fault:
            heard = {"kind": "refused", "detail": str(fault)}
        except TimeoutError:
            heard = {"kind": "hung", "detail": f"no answer in {LONGEST_SECONDS:g} s"}
        except (aiohttp.ClientError, OSError) as fault:
            heard = {"kind": "lost", "detail": f"{type(fault).__name__}: {fault}"}
        else:
            heard = _ended(told.body, number) if told.status == 200 else _refused(told.status, told.body)
        answer = Answer(number=number, sent=sent, ended=time.time(), **heard)
        self._count(answer)
        return answer

    def _count(self, answer: Answer) -> None:
        self.answers.append(answer)
        self.kinds[answer.kind] += 1
        if answer.kind == "ok":
            self.longest_without_ok = max(self.longest_without_ok, answer.ended - self._ok_at)
            self._ok_at = answer.ended


def _refused(status: int, body: Any) -> dict[str, Any]:
    name = str(body.get("type", "")).rpartition(":")[2]
    return {"kind": f"{status} {name}", "detail": json.dumps(body)}


def _ended(body: dict[str, Any], number: int) -> dict[str, Any]:
    heard: dict[str, Any] = {"kind": body["status"], "execution": body["id"], "detail": json.dumps(body["error"])}
    if body["status"] != "ok":
        return heard
    result = body["result"]
    if result.pop("number") != number:
        return heard | {"kind": "wrong", "detail": f"{body['result']} for program {number}"}
    return heard | result

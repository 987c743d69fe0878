"""The whole stack for the tests, on a thread and an event loop of its own: it lives on while no test runs.

Whatever a test does to it, it is expected to be whole again afterwards; one that is not makes room for a new one.
"""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from harness.keys import new_key

from warmpool.local import stack

T = TypeVar("T")

START_SECONDS: Final = 60.0
END_SECONDS: Final = 30.0

TENANTS: Final = 20

SETTINGS: Final = {
    "WARMPOOL_POOL__LEASE_GRACE_SECONDS": "3",  # what a killed gateway held is seen to be lost within seconds
    "WARMPOOL_TOOLS__TIMEOUT_SECONDS": "2",
}
PLAN: Final = stack.Plan(pods=2, products=300, settings=SETTINGS)


class RunningStack:
    """Started by its constructor; `end` it."""

    def __init__(self, plan: stack.Plan = PLAN) -> None:
        self.pods = plan.pods
        self._plan = plan
        self._started: Future[stack.Stack] = Future()
        self.tenants: list[tuple[str, str]] = []
        """Each with a key, for tests that need tenants that nobody else uses; the gateway knows them in time."""
        self._loop = asyncio.new_event_loop()
        self._ending = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="stack")
        self._thread.start()
        self.parts = self._started.result(START_SECONDS)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._live())
            except BaseException as fault:
                if self._started.done():
                    raise
                self._started.set_exception(fault)

    async def _live(self) -> None:
        async with stack.running(self._plan) as running:
            self.tenants = await _tenants(running)
            self._started.set_result(running)
            await self._ending.wait()

    async def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs it where the stack lives, as all that touches its processes must."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(END_SECONDS)
        assert not self._thread.is_alive(), "the stack did not end"


async def _tenants(parts: stack.Stack) -> list[tuple[str, str]]:
    names = [f"tenant-{number}" for number in range(TENANTS)]
    return [(name, await new_key(parts.settings, name)) for name in names]


class Stacks:
    """One stack for many tests, replaced when a test left it in pieces."""

    def __init__(self) -> None:
        self._now: RunningStack | None = None

    def get(self) -> RunningStack:
        if self._now is None:
            self._now = RunningStack()
        return self._now

    def end(self) -> None:
        running, self._now = self._now, None
        if running is not None:
            running.end()

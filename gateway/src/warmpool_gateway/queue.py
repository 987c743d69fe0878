"""The callers that wait for a pod: bounded, fair between tenants, and never longer than they said.

The registry decides who gets which pod; this module decides who asks it when. It asks only with reason to
believe that a pod is idle (a push, a release of its own, or the count of the slow tick), so that a thousand
waiting callers cost Redis nothing.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from warmpool.errors import PoolExhausted, RetryLater, Unavailable, WarmpoolError
from warmpool.registry import Counts, Lease, NoPod, Registry, Released
from warmpool.settings import QueueSettings
from warmpool_gateway.demand import DemandReport
from warmpool_gateway.line import DrainRate, IdleBelief, Line

ACQUIRES_AT_ONCE: Final = 16  # in flight; what a burst wastes at most on hopes in vain
AWAY_SECONDS: Final = 3.0  # a Redis that restarts is back within this; past it callers are told at once
MIN_RETRY_SECONDS: Final = 1.0
MAX_RETRY_SECONDS: Final = 60.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A caller's wish for a pod."""

    execution: str
    tenant: str
    hold_seconds: float
    """How long the lease should last."""
    deadline: float
    """On the queue's clock; past it the caller gets PoolExhausted."""
    weight: int = 1


@dataclass(slots=True, eq=False)
class _Waiter:
    ask: Ask
    lease: asyncio.Future[Lease | None]
    ticket: int = -1


class PoolQueue:
    """The queue of one gateway for one pool. `run` must be running for it to hear of other gateways' releases."""

    def __init__(
        self,
        registry: Registry,
        settings: QueueSettings,
        *,
        gateway: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self.counts: Counts | None = None
        """As of the last tick; None while Redis is away."""
        self._registry = registry
        self._settings = settings
        self._gateway = gateway
        self._line: Line[_Waiter] = Line()
        self._belief = IdleBelief()
        self._barred: set[str] = set()
        """Tenants for whom the idle pods are no use, being bound to others; until the next news."""
        self._drain = DrainRate()
        self._demand = DemandReport(registry, gateway, lambda: len(self._line), clock)
        self._away_since: float | None = None
        self._in_flight = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        return len(self._line) + self._in_flight

    async def acquire(self, ask: Ask, gone: asyncio.Future[None]) -> Lease | None:
        """Waits for a pod; None if `gone` was done first.

        Raises PoolExhausted (at once, where the wait cannot meet its deadline), QuotaExceeded, or Unavailable.
        """
        self._demand.arrived()
        self._admit(ask)
        loop = asyncio.get_running_loop()
        waiter = _Waiter(ask, loop.create_future())
        self._join(waiter)
        self._serve()
        if self._line:
            self._demand.waits()
        timer = loop.call_later(ask.deadline - self.clock(), self._expire, waiter)

        def leave(_: asyncio.Future[None]) -> None:
            self._dismiss(waiter, None)

        gone.add_done_callback(leave)
        try:
            return await waiter.lease
        except asyncio.CancelledError:
            self._abandon(waiter)
            raise
        finally:
            timer.cancel()
            gone.remove_done_callback(leave)

    async def release(self, lease: Lease, *, clean: bool, used: bool = True) -> Released:
        """Ends a lease and hands the pod on: who is next asks for it on the same round trip. Raises Unavailable."""
        self._demand.released(lease)
        if not clean:
            return await self._registry.release(lease, clean=False, used=used)
        release = self._belief.releasing(self.clock())
        self._serve_anew()
        released = None
        try:
            released = await self._registry.release(lease, clean=True, used=used)
        finally:
            self._belief.released(release, idle=released is Released.IDLE)
            self._serve_anew()
        return released

    async def run(self) -> None:
        """Listens for pods that become idle, and looks at times whether one did unheard. Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._tick())
            group.create_task(self._demand.run())

    async def aclose(self) -> None:
        """Turns everyone away."""
        for waiter in self._line.drain():
            self._dismiss(waiter, Unavailable("The gateway is shutting down."))
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def look(self) -> None:
        """Counts the pods and serves whoever can be served. Raises Unavailable."""
        self.counts = await self._registry.counts()
        self._away_since = None
        self._belief.counted(self.counts.idle)
        self._serve_anew()

    def _admit(self, ask: Ask) -> None:
        now = self.clock()
        if self._away_since is not None and now - self._away_since > AWAY_SECONDS:
            raise Unavailable("The pool's registry is away.", retry_after=2.0)
        if len(self._line) >= self._settings.max_waiting:
            raise PoolExhausted("The queue is full.", retry_after=self._retry_after(now), waiting=len(self._line))
        if self._line:
            seconds = self._drain.seconds_for(self._line.ahead_of(ask.tenant, ask.weight) + 1, now)
            if now + seconds > ask.deadline:
                late = seconds - (ask.deadline - now)
                raise PoolExhausted(retry_after=_bounded(late), expected_wait_seconds=round(seconds, 3))

    def _retry_after(self, now: float) -> float:
        return _bounded(self._drain.seconds_for(len(self._line), now))

    def _join(self, waiter: _Waiter) -> None:
        if not self._line:
            self._drain.began(self.clock())
        ask = waiter.ask
        if waiter.ticket < 0:
            waiter.ticket = self._line.join(ask.tenant, waiter, ask.weight)
        else:
            self._line.rejoin(ask.tenant, waiter, waiter.ticket, ask.weight)

    def _serve_anew(self) -> None:
        """After news: a pod may be idle for whom there was none."""
        self._barred.clear()
        self._serve()

    def _serve(self) -> None:
        while self._belief.likely > 0 and self._in_flight < ACQUIRES_AT_ONCE:
            waiter = self._line.next(self._barred)
            if waiter is None:
                break
            self._in_flight += 1
            self._spawn(self._attempt(waiter, self._belief.attempt()))
        if not self._line:
            self._drain.ended()

    async def _attempt(self, waiter: _Waiter, attempt: int) -> None:
        try:
            lease = await self._ask(waiter, attempt)
        finally:
            self._in_flight -= 1
        if lease is not None:
            self._drain.served(self.clock())
            self._demand.leased(lease)
            if waiter.lease.done():
                await self._give_back(lease)
            else:
                waiter.lease.set_result(lease)
        self._serve()

    async def _ask(self, waiter: _Waiter, attempt: int) -> Lease | None:
        """Asks the registry once. A waiter that gets nothing is back in the line, or told why not."""
        ask = waiter.ask
        try:
            answer = await self._registry.acquire(
                execution=ask.execution,
                tenant=ask.tenant,
                gateway=self._gateway,
                hold_seconds=ask.hold_seconds,
                quota=self._settings.tenant_quota,
            )
        except Unavailable as fault:
            self._lost_redis(fault)
            self._belief.refuted(attempt)
        except Exception as fault:
            if not isinstance(fault, WarmpoolError):
                logger.exception("acquire failed")
            self._belief.counted(1)  # the pod that was hoped for is still there for the next
            self._dismiss(waiter, fault)
            return None
        else:
            self._away_since = None
            if isinstance(answer, Lease):
                return answer
            if answer is NoPod.BOUND:
                if not self._belief.unspent(attempt):
                    self._barred.add(ask.tenant)
            else:
                self._belief.refuted(attempt)
        if not waiter.lease.done():
            self._join(waiter)
        return None

    def _expire(self, waiter: _Waiter) -> None:
        if self._away_since is not None:
            self._dismiss(waiter, Unavailable("The pool's registry is away.", retry_after=2.0))
        else:
            self._dismiss(waiter, PoolExhausted(retry_after=self._retry_after(self.clock())))

    def _dismiss(self, waiter: _Waiter, fault: Exception | None) -> None:
        """Ends a wait without a lease; an acquire on its way is given back when it comes."""
        self._line.leave(waiter.ask.tenant, waiter)
        if waiter.lease.done():
            return
        if fault is None:
            waiter.lease.set_result(None)
        else:
            waiter.lease.set_exception(fault)

    def _abandon(self, waiter: _Waiter) -> None:
        """The caller was cancelled, perhaps in the very moment in which it got its lease."""
        future = waiter.lease
        lease = None if future.cancelled() or not future.done() or future.exception() else future.result()
        self._dismiss(waiter, None)
        if lease is not None:
            self._spawn(self._give_back(lease))

    async def _give_back(self, lease: Lease) -> None:
        """Nothing ran. Where Redis is away the lease runs out, and its pod is replaced."""
        try:
            await self.release(lease, clean=True, used=False)
        except RetryLater as fault:
            logger.warning("lease not given back", extra={"pod": lease.pod, "fault": str(fault)})

    def _lost_redis(self, fault: Unavailable) -> None:
        if self._away_since is None:
            logger.warning("the pool's registry is away: %s", fault.__cause__ or fault)
            self._away_since = self.clock()
            self.counts = None

    async def _listen(self) -> None:
        while True:
            try:
                async with self._registry.wakeups() as wakeups:
                    async for _ in wakeups:
                        if self._belief.pushed(self.clock()):
                            self._serve_anew()
            except Exception:  # the tick goes on; without it a bug would cost every caller the service
                logger.exception("wake-ups of the pool are lost")
            await asyncio.sleep(self._settings.tick_seconds)

    async def _tick(self) -> None:
        while True:
            try:
                await self.look()
            except Unavailable as fault:
                self._lost_redis(fault)
                self._tell_everyone(fault)
            except Exception:
                logger.exception("the pool cannot be counted")
            await asyncio.sleep(self._settings.tick_seconds)

    def _tell_everyone(self, fault: Unavailable) -> None:
        if self._away_since is not None and self.clock() - self._away_since > AWAY_SECONDS:
            for waiter in self._line.drain():
                self._dismiss(waiter, fault)

    def _spawn(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _bounded(seconds: float) -> float:
    return round(min(MAX_RETRY_SECONDS, max(MIN_RETRY_SECONDS, seconds)), 3)

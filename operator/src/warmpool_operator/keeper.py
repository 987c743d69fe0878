"""Keeps one pool: gather, plan, act, say. What is to be done is decided in `plan`, what is said in `status`."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import Final

from warmpool.errors import RetryLater
from warmpool.protocol import Limits
from warmpool.registry import Counts, PodState, Registry, Standing
from warmpool_operator import metrics
from warmpool_operator.act import Actor
from warmpool_operator.api import Api
from warmpool_operator.demand import FORGOTTEN_SECONDS, Load, Meter, Size
from warmpool_operator.informer import EXIT_0, Informer, Pod
from warmpool_operator.observe import HOLD_SECONDS, Endings, Expectations, Hold, Losses, Observed, Unused
from warmpool_operator.pace import Pace
from warmpool_operator.plan import Desired, plan
from warmpool_operator.pool import SandboxPool
from warmpool_operator.say import Speaker
from warmpool_operator.status import BELOW_FLOOR, TEMPLATE_AT_FAULT, Trouble, View, trouble

TICK_SECONDS: Final = 1.0
"""The slowest look: for what falls silent or expires, which nobody tells."""
COALESCE_SECONDS: Final = 0.02
"""Between two looks: what happens at once is dealt with at once."""
POD_SECONDS: Final = 0.0002
"""A pool of thousands is looked at less often, by so much for each pod: a look takes a hundredth of that or less, so
looking takes a hundredth of a processor however much happens. With 5,000 pods a look takes 6 ms, once a second."""
HEARTBEAT_SECONDS: Final = 5.0
DRAIN_SECONDS: Final = 30.0
"""Beyond the longest wall limit of an execution, for which a deleted pool waits for its leased pods."""

log = logging.getLogger(__name__)


class Keeper:
    """One pool's task. `update` hands it the pool, `poke` says that something of it changed."""

    def __init__(
        self, api: Api, informer: Informer, registry: Registry, pool: SandboxPool, *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.pool = pool
        self.gone = asyncio.Event()
        """Set once a deleted pool has no pod and no key any more."""
        self.passed_at = clock()
        self._informer = informer
        self._leads = api.may_write
        self._registry = registry
        self._took_over = False
        self._clock = clock
        self._dirty = asyncio.Event()
        self._expectations = Expectations()
        self._endings = Endings()
        self._losses = Losses()
        self._unused = Unused()
        self._hold = Hold()
        self._actor = Actor(api, registry, self._expectations, clock)
        self._speaker = Speaker(api, clock)
        self._meter = Meter()
        self._size: Size | None = None
        self._desired = pool.replicas
        self._failed: set[str] = set()
        """Uids of pods whose end has been counted."""
        self._floor: Trouble | None = None
        self._aged: frozenset[str] = frozenset()
        self._beat_at = -HEARTBEAT_SECONDS
        self._drains_until: float | None = None

    def update(self, pool: SandboxPool) -> None:
        before, self.pool = self.pool, pool
        if pool.generation != before.generation:
            proven = self._actor.pace.proven and pool.template_hash == before.template_hash
            self._actor.pace = Pace(proven=proven)  # what was wrong may be mended
            self._floor = None
        if (pool.uid, pool.generation, pool.deleting) != (before.uid, before.generation, before.deleting):
            self.poke()  # not for what we said of it ourselves

    def poke(self) -> None:
        self._dirty.set()

    async def run(self) -> None:
        """Until cancelled, or until a deleted pool is gone."""
        await self._informer.synced.wait()
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(self._listen())
            while not self.gone.is_set():
                self._dirty.clear()
                with metrics.pass_time.labels(pool=self.pool.name).time():
                    await self._pass()
                self.passed_at = self._clock()
                pods = len(self._informer.of_pool(self.pool.name))
                await asyncio.sleep(max(COALESCE_SECONDS, POD_SECONDS * pods))
                with suppress(TimeoutError):
                    async with asyncio.timeout(HOLD_SECONDS if self._hold.lasts else TICK_SECONDS):
                        await self._dirty.wait()
            listening.cancel()

    async def _listen(self) -> None:
        """Pods that are to be replaced, and callers that wait, are told of by the registry."""
        async with self._registry.changes() as changes:
            async for _ in changes:
                self.poke()

    async def _pass(self) -> None:
        read = await self._read_registry()
        pods = dict(self._informer.of_pool(self.pool.name))
        now = self._clock()
        self._expectations.see(pods.values(), now)
        self._note_ends(pods.values(), now)
        why = trouble([pod for pod in pods.values() if self._is_current(pod)], self._actor.pace.trouble)
        if read is not None:
            standings, load = read
            self._desired = self._replicas(standings, load, now)
            await self._work(pods, standings, load, why, now)
        counts = await self._counts()
        if counts is None and self._is_overdue(now):
            await self._actor.abandon(self.pool, pods)
            if not pods:
                self.gone.set()  # its keys are left to whoever empties that Redis
        await self._say(pods, counts, why)

    async def _read_registry(self) -> tuple[Mapping[str, Standing], Load] | None:
        """None while Redis is away, and for an operator that leads no more."""
        if not self._leads():
            return None
        try:
            if not self._took_over:
                await self._registry.take_over()
                if not self._leads():
                    return None  # it slept over the loss of its Lease: what it knows of the cluster is old
                self._took_over = True
            standings = await self._registry.standings()
            await self._beat(standings)
            await self._actor.make_sure(self.pool)
            needed = self.pool.autoscale or self.pool.per_tenant or self.pool.single_use
            demands = await self._registry.demands(FORGOTTEN_SECONDS) if needed else {}
        except RetryLater as fault:
            log.warning("pool %s: %s", self.pool.name, fault)
            return None
        return standings, self._meter.read(demands, self._clock())

    async def _work(
        self, pods: Mapping[str, Pod], standings: Mapping[str, Standing], load: Load, why: Trouble | None, now: float
    ) -> None:
        failing = why is not None and why.reason in TEMPLATE_AT_FAULT
        observed = Observed(
            pods=list(pods.values()), registry=standings, waiting=load.waiting, failing=failing,
            held=self._hold.see(standings, load.waiting, now),
            expected=self._expectations.made, deleted=self._expectations.deleted,
            ending=self._endings.see(standings, now) if self.pool.single_use else frozenset(),
            aged=self._aged,
            lost=self._losses.see(pods.values(), now),
            unused=self._unused.see(standings, load.waiting, now) if self.pool.per_tenant else frozenset(),
            may_create=0 if self._expectations.unsure else self._may_create(pods.values(), now),
        )  # fmt: skip
        autoscale = self.pool.autoscale
        desired = Desired(
            replicas=self._desired, template=self.pool.template_hash, paused=self.pool.paused,
            most=autoscale.most if autoscale else None,
            max_surge=self.pool.max_surge(self._desired), max_unavailable=self.pool.max_unavailable(self._desired),
        )  # fmt: skip
        try:
            await self._actor.do(self.pool, plan(desired, observed), pods, standings)
            if self.pool.deleting and not pods and not self._expectations.made:
                await self._registry.destroy()
                self.gone.set()
        except RetryLater as fault:
            log.warning("pool %s: %s", self.pool.name, fault)

    async def _beat(self, standings: Mapping[str, Standing]) -> None:
        """Before the first reap, so that an operator which comes late does not find everything silent.

        A pod that starts cannot answer yet: it may wait for a node or pull an image for as long as that takes, and the
        watch tells of its end.
        """
        if self._clock() - self._beat_at < HEARTBEAT_SECONDS:
            return
        pods = self._informer.of_pool(self.pool.name).values()
        ready = [pod.name for pod in pods if pod.ready and not pod.deleting and not pod.dead]
        starting = [name for name, standing in standings.items() if standing.state is PodState.WARMING]
        await self._registry.heartbeat(ready + starting)
        self._beat_at = self._clock()
        await self._registry.reap()
        self._aged = frozenset(await self._registry.aged())

    async def _counts(self) -> Counts | None:
        if self.gone.is_set():
            return None
        try:
            return await self._registry.counts()
        except RetryLater:
            return None

    def _replicas(self, standings: Mapping[str, Standing], load: Load, now: float) -> int:
        autoscale = self.pool.autoscale
        if autoscale is None:
            self._size = None
            return self.pool.replicas
        states = [standing.state for standing in standings.values()]
        if self._size is None:  # an operator that takes over goes on with what there is
            serving = states.count(PodState.IDLE) + states.count(PodState.LEASED) + states.count(PodState.WARMING)
            self._size = Size.starting_at(serving, now)
        return self._size.of(autoscale, load, states.count(PodState.LEASED), now)

    def _note_ends(self, pods: Iterable[Pod], now: float) -> None:
        """A pod that failed makes the pool slower, once."""
        failed = {pod.uid: pod for pod in pods if pod.dead and pod.trouble != EXIT_0 and self._is_current(pod)}
        for uid, pod in failed.items():
            if uid not in self._failed and (cause := trouble([pod], None)):
                self._actor.pace.crashed(cause, now)
                if pod.trouble == BELOW_FLOOR:
                    self._floor = cause
        self._failed = set(failed)

    def _is_current(self, pod: Pod) -> bool:
        return pod.template == self.pool.template_hash

    def _may_create(self, pods: Collection[Pod], now: float) -> int:
        started = [pod for pod in pods if self._is_current(pod) and not (pod.ready or pod.dead or pod.deleting)]
        nodes = {pod.node for pod in pods if pod.node}
        return self._actor.pace.may_create(len(started) + len(self._expectations.made), len(nodes), now)

    def _is_overdue(self, now: float) -> bool:
        """Whether a deleted pool has waited for its leased pods for longer than any lease lasts."""
        if not self.pool.deleting:
            return False
        if self._drains_until is None:
            self._drains_until = now + Limits().wall_seconds + DRAIN_SECONDS
        return now >= self._drains_until

    async def _say(self, pods: Mapping[str, Pod], counts: Counts | None, why: Trouble | None) -> None:
        metrics.pods(self.pool.name, counts)
        metrics.wanted.labels(pool=self.pool.name).set(self._desired)
        if not self.gone.is_set():
            view = View(
                pool=self.pool, desired=self._desired, pods=list(pods.values()), counts=counts, why=why,
                floor=self._floor,
            )  # fmt: skip
            await self._speaker.say(view)

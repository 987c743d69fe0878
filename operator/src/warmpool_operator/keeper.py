"""Keeps one pool: gather, plan, act, say. All its I/O is here and in `act`; what is to be done is decided in `plan`."""

import asyncio
import logging
import secrets
import string
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from warmpool.errors import RetryLater
from warmpool.registry import Counts, Registry
from warmpool.registry.pods import Pod as RegisteredPod
from warmpool_operator import metrics
from warmpool_operator.api import MERGE_PATCH, Api, ApiError
from warmpool_operator.informer import Informer, Pod
from warmpool_operator.manifest import PORT, pod_manifest
from warmpool_operator.plan import (
    Action,
    Create,
    Delete,
    Desired,
    Forget,
    Known,
    Observed,
    Reason,
    Register,
    Retire,
    plan,
)
from warmpool_operator.pool import GROUP, PLURAL, VERSION, SandboxPool
from warmpool_operator.status import BELOW_FLOOR, Publisher, Trouble, status, trouble

TICK_SECONDS: Final = 1.0
"""The slowest look: for what the registry retires, which no event of the cluster tells."""
COALESCE_SECONDS: Final = 0.05
HEARTBEAT_SECONDS: Final = 5.0
EXPECT_SECONDS: Final = 60.0
"""For which a pod that was made counts though the watch has not shown it."""
AT_ONCE: Final = 20
"""Pods made in one pass: a pass later the first failure has been seen."""
BACK_OFF_SECONDS: Final = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
EVENT_SECONDS: Final = 60.0
"""Between two events of one reason."""
_ALPHABET: Final = string.ascii_lowercase + string.digits

log = logging.getLogger(__name__)


@dataclass(slots=True)
class BackOff:
    """After pods that failed before they ever served, or that the API server refused."""

    failures: int = 0
    until: float = 0.0
    refused: Trouble | None = None
    floor: Trouble | None = None
    seen: set[str] = field(default_factory=set)

    def failed(self, now: float) -> None:
        self.until = now + BACK_OFF_SECONDS[min(self.failures, len(BACK_OFF_SECONDS) - 1)]
        self.failures += 1

    def succeeded(self) -> None:
        self.failures, self.until, self.refused, self.floor = 0, 0.0, None, None


class Keeper:
    """One pool's task. `update` hands it the pool, `poke` says that something of it changed."""

    def __init__(
        self, api: Api, informer: Informer, registry: Registry, pool: SandboxPool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.pool = pool
        self.gone = asyncio.Event()
        """Set once a deleted pool has no pod and no key any more."""
        self.passed_at = clock()
        self._api = api
        self._informer = informer
        self._registry = registry
        self._clock = clock
        self._dirty = asyncio.Event()
        self._expected: dict[str, float] = {}
        self._deleted: dict[str, float] = {}
        self._back_off = BackOff()
        self._publisher = Publisher()
        self._beat_at = 0.0
        self._told: dict[str, float] = {}

    def update(self, pool: SandboxPool) -> None:
        if pool.generation != self.pool.generation:
            self._back_off = BackOff()  # what was wrong may be mended
        self.pool = pool
        self.poke()

    def poke(self) -> None:
        self._dirty.set()

    async def run(self) -> None:
        """Until cancelled, or until a deleted pool is gone."""
        await self._informer.synced.wait()
        while not self.gone.is_set():
            self._dirty.clear()
            with metrics.pass_time.labels(pool=self.pool.name).time():
                await self._pass()
            self.passed_at = self._clock()
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._dirty.wait()
            await asyncio.sleep(COALESCE_SECONDS)

    async def _pass(self) -> None:
        pods = self._informer.of_pool(self.pool.name)
        self._note(pods)
        counts: Counts | None = None
        try:
            await self._beat(pods)
            known = {pod.id: pod for pod in await self._registry.pods()}
            for action in plan(self._desired(), self._observed(pods, known)):
                await self._act(action)
            counts = await self._registry.counts()
            if self.pool.deleting and not pods and not self._expected:
                await self._registry.destroy()
                self.gone.set()
        except RetryLater as fault:
            log.warning("pool %s: %s", self.pool.name, fault)
        await self._say(pods, counts)

    def _desired(self) -> Desired:
        return Desired(replicas=self.pool.replicas, template=self.pool.template_hash)

    def _observed(self, pods: list[Pod], known: dict[str, RegisteredPod]) -> Observed:
        resting = self._clock() < self._back_off.until
        return Observed(
            pods=pods,
            registry={
                name: Known(state=pod.state, going=pod.reason is not None, idle_since=pod.registered_at)
                for name, pod in known.items()
            },
            expected=frozenset(self._expected),
            deleted=frozenset(self._deleted),
            may_create=0 if resting else 1 if self._back_off.failures else AT_ONCE,
        )

    def _note(self, pods: list[Pod]) -> None:
        """What has been seen is expected no more; a pod that failed before it served makes us slower."""
        now = self._clock()
        names, uids = {pod.name for pod in pods}, {pod.uid for pod in pods}
        self._expected = {n: end for n, end in self._expected.items() if n not in names and end > now}
        self._deleted = {uid: end for uid, end in self._deleted.items() if uid in uids and end > now}
        for pod in pods:
            if pod.dead and pod.trouble != "Exit0" and pod.uid not in self._back_off.seen:
                self._back_off.seen.add(pod.uid)
                self._back_off.failed(now)
                cause = trouble([pod], None)
                self._back_off.refused = cause
                if pod.trouble == BELOW_FLOOR:
                    self._back_off.floor = cause
        self._back_off.seen &= uids

    async def _beat(self, pods: list[Pod]) -> None:
        """Before the first reap, so that an operator which comes late does not find everything silent."""
        if self._clock() - self._beat_at < HEARTBEAT_SECONDS:
            return
        alive = [pod.name for pod in pods if pod.ready and not pod.deleting and not pod.dead]
        await self._registry.heartbeat(alive)
        self._beat_at = self._clock()
        await self._registry.reap()

    async def _act(self, action: Action) -> None:
        name = self.pool.name
        match action:
            case Create(count):
                await self._create(count)
            case Register(pod):
                if await self._registry.register(
                    pod.name, _address(pod.ip),
                    max_executions=self.pool.max_executions, max_age_seconds=self.pool.max_age_seconds,
                ):  # fmt: skip
                    self._back_off.succeeded()
            case Retire(pod_name, reason):
                if await self._registry.retire(pod_name, reason):
                    metrics.retired.labels(pool=name, reason=reason).inc()
                elif reason is Reason.UNPROVEN and pod_name in self._informer.pods:
                    # The registry takes it for gone and will never hand it out: it was forgotten before it was seen.
                    await self._act(Delete(self._informer.pods[pod_name], reason))
            case Delete(pod, reason):
                await self._delete(pod)
                metrics.deleted.labels(pool=name, reason=reason).inc()
            case Forget(pod_name):
                await self._registry.remove(pod_name)

    async def _create(self, count: int) -> None:
        """Announced first: a pod that the registry knows as warming was provably never leased."""
        for _ in range(count):
            name = f"{self.pool.name}-{''.join(secrets.choice(_ALPHABET) for _ in range(8))}"
            await self._registry.announce(name)
            self._expected[name] = self._clock() + EXPECT_SECONDS
            try:
                await self._api.call("POST", self._path("pods"), pod_manifest(self.pool, name))
            except (ApiError, ValueError) as fault:
                if isinstance(fault, ApiError) and fault.status in (0, 409, 504):
                    return  # it may exist: the watch will tell, and until then it counts
                del self._expected[name]
                await self._registry.remove(name)
                self._back_off.failed(self._clock())
                self._back_off.refused = _refusal(fault)
                return
            metrics.created.labels(pool=self.pool.name).inc()

    async def _delete(self, pod: Pod) -> None:
        options = {"preconditions": {"uid": pod.uid}}
        try:
            await self._api.call("DELETE", f"{self._path('pods')}/{pod.name}", options)
        except ApiError as fault:
            if fault.status not in (404, 409):
                log.warning("deleting %s: %s", pod.name, fault)
                return
        self._deleted[pod.uid] = self._clock() + EXPECT_SECONDS

    async def _say(self, pods: list[Pod], counts: Counts | None) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        why = trouble(pods, self._back_off.refused)
        said = status(self.pool, pods, counts, why, self._back_off.floor, now)
        metrics.pods(self.pool.name, counts)
        if self.gone.is_set() or not self._publisher.due(said, self._clock()):
            return
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{self.pool.namespace}/{PLURAL}/{self.pool.name}/status"
        try:
            await self._api.call("PATCH", path, {"status": said}, patch=MERGE_PATCH)
        except ApiError as fault:
            if fault.status != 404:
                log.warning("status of %s: %s", self.pool.name, fault)
            return
        self._publisher.done(said)
        for condition in said["conditions"]:
            await self._tell(condition)

    async def _tell(self, condition: dict[str, Any]) -> None:
        """An event where a person should know: once for each reason and minute."""
        reason, now = condition["reason"], self._clock()
        quiet = reason in ("NoPodYet", "ProbePassed", "PodsStarting", "RollingOut", "Draining")
        if quiet or now - self._told.get(reason, -EVENT_SECONDS) < EVENT_SECONDS:
            return
        self._told[reason] = now
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"generateName": f"{self.pool.name}.", "namespace": self.pool.namespace},
            "involvedObject": self.pool.reference, "reason": reason, "message": condition["message"],
            "type": "Normal" if condition["status"] == "True" else "Warning",
            "source": {"component": "warmpool-operator"}, "firstTimestamp": moment, "lastTimestamp": moment, "count": 1,
        }  # fmt: skip
        try:
            await self._api.call("POST", self._path("events"), event)
        except ApiError as fault:
            log.warning("event %s of %s: %s", reason, self.pool.name, fault)

    def _path(self, kind: str) -> str:
        return f"/api/v1/namespaces/{self.pool.namespace}/{kind}"


def _address(ip: str) -> str:
    return f"[{ip}]:{PORT}" if ":" in ip else f"{ip}:{PORT}"


def _refusal(fault: ApiError | ValueError) -> Trouble:
    """The API server's words, with the pool's reason for them."""
    if isinstance(fault, ValueError):
        return Trouble("InvalidLimits", str(fault))
    if "exceeded quota" in fault.message:
        return Trouble("QuotaExceeded", fault.message)
    return Trouble("PodsForbidden" if fault.status in (401, 403) else "PodsRefused", fault.message)

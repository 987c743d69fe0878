"""Carries out what was planned for one pool. It decides nothing."""

import asyncio
import logging
import secrets
import string
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from warmpool.registry import PodState, Registry, Standing
from warmpool_operator import metrics
from warmpool_operator.api import Api, ApiError
from warmpool_operator.informer import Pod
from warmpool_operator.manifest import PORT, pod_manifest
from warmpool_operator.observe import Expectations
from warmpool_operator.pace import Pace
from warmpool_operator.plan import Action, Create, Delete, Forget, Reason, Register, Retire
from warmpool_operator.pool import PER_TENANT, SINGLE_USE, SandboxPool
from warmpool_operator.status import Trouble

AT_ONCE: Final = 16
"""Requests to the API server under way for one pool."""
STARTING_GRACE_SECONDS: Final = 2
"""For a pod that is not ready: no program runs there. The kubelet ends one that it is just starting within milliseconds
of its start, when the interpreter does not listen to signals yet, and it would hold a place for 40 s."""
UNKNOWN_OUTCOME: Final = (0, 409, 500, 504)
"""Answers to a creation after which the pod may exist all the same."""
_ALPHABET: Final = string.ascii_lowercase + string.digits

T = TypeVar("T")

log = logging.getLogger(__name__)


class Actor:
    def __init__(self, api: Api, registry: Registry, expectations: Expectations, clock: Callable[[], float]) -> None:
        self.pace = Pace()
        self._api = api
        self._registry = registry
        self._expectations = expectations
        self._clock = clock

    async def do(
        self, pool: SandboxPool, actions: Sequence[Action], pods: Mapping[str, Pod], standings: Mapping[str, Standing]
    ) -> None:
        """Raises RetryLater where Redis is away: what was not done is planned again."""
        going: list[Delete] = []
        creations = 0
        for action in actions:
            match action:
                case Create(count):
                    creations += count
                case Register(pod):
                    await self._register(pool, pod)
                case Retire(name, reason):
                    going += await self._retire(pool, name, reason, pods)
                case Delete():
                    going.append(action)
                case Forget(name):
                    await self._forget(pool, name, standings)
        await self._create(pool, creations)  # first: callers may wait for one of these, and nobody for a deletion
        await self._delete_all(pool, going)

    async def make_sure(self, pool: SandboxPool) -> None:
        """Whether pods exist whose making was not answered for. One that comes after all is not known to the registry
        any more, and goes."""
        for name in list(self._expectations.unsure):
            try:
                await self._api.call("GET", f"{self._path(pool)}/{name}")
            except ApiError as fault:
                if fault.status != 404:
                    return
                self._expectations.never_made(name)
                await self._registry.remove(name)
            else:
                self._expectations.unsure.discard(name)  # the watch will show it

    async def _register(self, pool: SandboxPool, pod: Pod) -> None:
        """By the stricter of the mode that it was made for, which it keeps to by itself, and the pool's present one."""
        modes = (pod.mode, pool.mode)
        if await self._registry.register(
            pod.name, _address(pod.ip), max_executions=1 if SINGLE_USE in modes else pool.max_executions,
            max_age_seconds=pool.max_age_seconds, per_tenant=PER_TENANT in modes,
        ) and pod.template == pool.template_hash:  # fmt: skip
            self.pace.served()

    async def _retire(self, pool: SandboxPool, name: str, reason: Reason, pods: Mapping[str, Pod]) -> list[Delete]:
        if reason is Reason.UNPROVEN:
            metrics.drift.labels(pool=pool.name, kind="unknown").inc()
        if await self._registry.retire(name, reason):
            metrics.retired.labels(pool=pool.name, reason=reason).inc()
        elif reason is Reason.UNPROVEN and name in pods:
            # The registry takes it for gone and will never hand it out: it was forgotten before it was seen.
            return [Delete(pods[name], reason)]
        return []

    async def _forget(self, pool: SandboxPool, name: str, standings: Mapping[str, Standing]) -> None:
        if name in standings and standings[name].state is not PodState.RETIRING:
            metrics.drift.labels(pool=pool.name, kind="vanished").inc()
        await self._registry.remove(name)

    async def _create(self, pool: SandboxPool, count: int) -> None:
        """In batches that double, so that one refusal stands for all that would have followed."""
        size = 1
        while count > 0:
            size = min(size, count)
            if not all(await _all(self._create_one(pool) for _ in range(size))):
                return
            count -= size
            size = min(2 * size, AT_ONCE)

    async def _create_one(self, pool: SandboxPool) -> bool:
        """Announced first: a pod that the registry knows as warming was provably never leased."""
        name = f"{pool.name}-{_suffix()}"
        await self._registry.announce(name)
        self._expectations.make(name, self._clock())
        try:
            await self._api.call("POST", self._path(pool), pod_manifest(pool, name))
        except (ApiError, ValueError) as fault:
            if isinstance(fault, ApiError) and fault.status in UNKNOWN_OUTCOME:
                self._expectations.unsure.add(name)  # it counts until `make_sure` knows
                return False
            self._expectations.never_made(name)
            self.pace.refused(refusal(fault), self._clock())
            await self._registry.remove(name)
            return False
        self.pace.taken(self._clock())
        metrics.created.labels(pool=pool.name).inc()
        return True

    async def _delete(self, pool: SandboxPool, action: Delete) -> None:
        pod = action.pod
        options: dict[str, Any] = {"preconditions": {"uid": pod.uid}}
        if pod.dead:  # else the API server waits for the kubelet to say so, which takes a write more
            options["gracePeriodSeconds"] = 0
        elif not pod.ready:
            options["gracePeriodSeconds"] = STARTING_GRACE_SECONDS
        try:
            await self._api.call("DELETE", f"{self._path(pool)}/{pod.name}", options)
        except ApiError as fault:
            if fault.status not in (404, 409):
                log.warning("deleting %s: %s", pod.name, fault)
                return
        self._expectations.delete(pod.uid, self._clock())
        metrics.deleted.labels(pool=pool.name, reason=action.reason).inc()

    async def abandon(self, pool: SandboxPool, pods: Mapping[str, Pod]) -> None:
        """Deletes every pod, whatever runs there: of a deleted pool whose registry does not come back."""
        left = [Delete(pod, Reason.ABANDONED) for pod in pods.values() if not pod.deleting]
        await self._delete_all(pool, left)

    async def _delete_all(self, pool: SandboxPool, going: Sequence[Delete]) -> None:
        for start in range(0, len(going), AT_ONCE):
            await _all(self._delete(pool, action) for action in going[start : start + AT_ONCE])

    def _path(self, pool: SandboxPool) -> str:
        return f"/api/v1/namespaces/{pool.namespace}/pods"


async def _all(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """At once. Raises what one of them raised, after each has come to its end."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


def _suffix() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(8))


def _address(ip: str) -> str:
    return f"[{ip}]:{PORT}" if ":" in ip else f"{ip}:{PORT}"


def refusal(fault: ApiError | ValueError) -> Trouble:
    """The API server's words, with the pool's reason for them."""
    if isinstance(fault, ValueError):
        return Trouble("InvalidLimits", str(fault))
    if "exceeded quota" in fault.message:
        return Trouble("QuotaExceeded", fault.message)
    return Trouble("PodsForbidden" if fault.status in (401, 403) else "PodsRefused", fault.message)

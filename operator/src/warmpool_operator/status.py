"""What a pool says of itself: counts and conditions, from what was observed. Pure.

Idle and leased move with every execution. So that executions cost no API write, those two alone are published only once
they have differed from what stands there for a while.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from warmpool.registry import Counts
from warmpool_operator.informer import Pod
from warmpool_operator.pool import SandboxPool

SETTLE_SECONDS: Final = 10.0
MOVING: Final = ("idle", "leased")
BELOW_FLOOR: Final = "Exit3"

CAUSES: Final = {
    "ErrImagePull": "ImagePullFailed",
    "ImagePullBackOff": "ImagePullFailed",
    "InvalidImageName": "ImagePullFailed",
    "ErrImageNeverPull": "ImagePullFailed",
    "Unschedulable": "PodsUnschedulable",
    "CreateContainerConfigError": "PodsMisconfigured",
    "CreateContainerError": "PodsMisconfigured",
    BELOW_FLOOR: "SandboxBelowFloor",
}
"""Kubernetes' word → the pool's reason. Any other trouble is PodsCrashing."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the pool is not whole: the reason of its condition, of its event and of its metric."""

    reason: str
    message: str


def trouble(pods: Sequence[Pod], refused: Trouble | None) -> Trouble | None:
    """What the API server said to our last pod comes first; else what most of the pods suffer from."""
    if refused is not None:
        return refused
    suffering = [pod for pod in pods if pod.trouble and not pod.deleting and pod.trouble != "Exit0"]
    if not suffering:
        return None
    reason, _ = Counter(_reason(pod) for pod in suffering).most_common(1)[0]
    first = next(pod for pod in suffering if _reason(pod) == reason)
    said = f"{first.name}: {first.trouble} {first.message}".strip()
    return Trouble(reason, f"{sum(_reason(pod) == reason for pod in suffering)} pods; {said}"[:1000])


def _reason(pod: Pod) -> str:
    return CAUSES.get(pod.trouble or "", "PodsCrashing")


def status(
    pool: SandboxPool, pods: Sequence[Pod], counts: Counts | None, why: Trouble | None, floor: Trouble | None, now: str
) -> dict[str, Any]:
    """The status as it should stand. `counts` is None while the registry is away; `now` is RFC 3339."""
    living = [pod for pod in pods if not pod.dead and not pod.deleting]
    ready = [pod for pod in living if pod.ready]
    said: dict[str, Any] = {
        "replicas": len(living),
        "readyReplicas": len(ready),
        "updatedReplicas": sum(pod.template == pool.template_hash for pod in living),
        "selector": pool.selector,
        "observedGeneration": pool.generation,
    }
    if counts is not None:
        said |= {"warming": counts.warming, "idle": counts.idle, "leased": counts.leased, "retiring": counts.retiring}
    whole = _ready(pool, ready, counts, why, said["updatedReplicas"])
    confined = _confined(pool, ready, floor)
    previous = {one["type"]: one for one in pool_conditions(pool)}
    said["conditions"] = [
        _condition(kind, state, pool.generation, previous.get(kind), now)
        for kind, state in (("Ready", whole), ("Confined", confined))
    ]
    return said


_State = tuple[str, str, str]
"""Status, reason, message of a condition."""


def _ready(pool: SandboxPool, ready: Sequence[Pod], counts: Counts | None, why: Trouble | None, updated: int) -> _State:
    if pool.deleting:
        return "False", "Draining", "the pool is being deleted: leased pods end with their executions"
    if counts is None:
        return "False", "RegistryUnavailable", "Redis does not answer; pods are kept as they are"
    if counts.idle + counts.leased >= pool.replicas and updated >= pool.replicas:
        return "True", "PoolReady", f"{pool.replicas} pods serve"
    if why is not None:
        return "False", why.reason, why.message
    if len(ready) >= pool.replicas:
        return "False", "RollingOut", f"{updated} of {pool.replicas} pods are of the present template"
    return "False", "PodsStarting", f"{counts.idle + counts.leased} of {pool.replicas} pods serve"


def _confined(pool: SandboxPool, ready: Sequence[Pod], floor: Trouble | None) -> _State:
    if floor is not None:
        return "False", floor.reason, floor.message
    if not ready:
        return "Unknown", "NoPodYet", "no pod has passed its probe yet"
    least = pool.spec.get("minLandlockABI", 6)
    walls = f"Landlock ABI {least} or newer, system-call filter, limits, read-only mounts, no token"
    return "True", "ProbePassed", f"each ready pod has tried every wall from inside and found it standing: {walls}"


def pool_conditions(pool: SandboxPool) -> Sequence[Mapping[str, Any]]:
    conditions: Sequence[Mapping[str, Any]] = pool.status.get("conditions", ())
    return conditions


def _condition(
    kind: str, state: _State, generation: int, previous: Mapping[str, Any] | None, now: str
) -> dict[str, Any]:
    value, reason, message = state
    since = previous["lastTransitionTime"] if previous and previous["status"] == value else now
    return {
        "type": kind, "status": value, "reason": reason, "message": message,
        "observedGeneration": generation, "lastTransitionTime": since,
    }  # fmt: skip


class Publisher:
    """Decides which status is worth a write."""

    def __init__(self) -> None:
        self._published: dict[str, Any] = {}
        self._differs_since: float | None = None

    def due(self, said: dict[str, Any], now: float) -> bool:
        """Whether `said` should be written now; call `done` once it was."""
        if said == self._published:
            self._differs_since = None
            return False
        if _settled(said) != _settled(self._published):
            return True
        if self._differs_since is None:
            self._differs_since = now
        return now - self._differs_since >= SETTLE_SECONDS

    def done(self, said: dict[str, Any]) -> None:
        self._published, self._differs_since = said, None


def _settled(said: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in said.items() if name not in (*MOVING, "conditions")}
    conditions = [{k: v for k, v in one.items() if k != "message"} for one in said.get("conditions", ())]
    return {**kept, "conditions": conditions}

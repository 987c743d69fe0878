"""What a pool says of itself: counts and conditions, from what was observed. Pure.

Idle and leased move with every execution. So that executions cost no API write, those two alone are published only once
they have differed from what stands there for a while.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from warmpool.registry import Counts
from warmpool_operator.informer import EXIT_0, UNSCHEDULABLE, Pod
from warmpool_operator.pool import SandboxPool

WRITE_SECONDS: Final = 1.0
"""Between two writes of one pool: thousands of pods that come up are a write a second, not one each."""
SETTLE_SECONDS: Final = 10.0
MOVING: Final = ("idle", "leased")
BELOW_FLOOR: Final = "Exit3"
DRAINING: Final = "the pool is being deleted: leased pods end with their executions"
REGISTRY_AWAY: Final = "Redis does not answer; pods are kept as they are"

CAUSES: Final = {
    "ErrImagePull": "ImagePullFailed",
    "ImagePullBackOff": "ImagePullFailed",
    "InvalidImageName": "ImagePullFailed",
    "ErrImageNeverPull": "ImagePullFailed",
    UNSCHEDULABLE: "PodsUnschedulable",
    "CreateContainerConfigError": "PodsMisconfigured",
    "CreateContainerError": "PodsMisconfigured",
    BELOW_FLOOR: "SandboxBelowFloor",
}
"""Kubernetes' word → the pool's reason. Any other trouble is PodsCrashing."""

TEMPLATE_AT_FAULT: Final = (
    "ImagePullFailed", "PodsMisconfigured", "SandboxBelowFloor", "PodsCrashing", "InvalidLimits", "PodsForbidden",
    "PodsRefused",
)  # fmt: skip
"""Reasons for which a rollout halts: more pods of the template would fare no better."""

QUIET: Final = (
    "NoPodYet", "ProbePassed", "PodsStarting", "RollingOut", "Draining", "PoolComplete", "AsExpected", "Paused",
)  # fmt: skip
"""Reasons that are no event: the pool goes its way."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the pool is not whole: the reason of its condition, of its event and of its metric."""

    reason: str
    message: str


def trouble(pods: Sequence[Pod], refused: Trouble | None) -> Trouble | None:
    """What the API server said to our last pod comes first; else what most of the pods suffer from."""
    if refused is not None:
        return refused
    suffering = [pod for pod in pods if pod.trouble and not pod.deleting and pod.trouble != EXIT_0]
    if not suffering:
        return None
    reason, _ = Counter(_reason(pod) for pod in suffering).most_common(1)[0]
    first = next(pod for pod in suffering if _reason(pod) == reason)
    said = f"{first.name}: {first.trouble} {first.message}".strip()
    return Trouble(reason, f"{sum(_reason(pod) == reason for pod in suffering)} pods; {said}"[:1000])


def _reason(pod: Pod) -> str:
    return CAUSES.get(pod.trouble or "", "PodsCrashing")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that a status is made of."""

    pool: SandboxPool
    desired: int
    pods: Sequence[Pod]
    counts: Counts | None
    """None while the registry is away."""
    why: Trouble | None
    """What keeps pods of the present template from serving."""
    floor: Trouble | None
    """What the last pod said that found its walls missing."""


def status(view: View, now: str) -> dict[str, Any]:
    """The status as it should stand; `now` is RFC 3339. Idle and leased stay as they were while Redis is away."""
    pool, counts = view.pool, view.counts
    living = [pod for pod in view.pods if not pod.dead and not pod.deleting]
    ready = [pod for pod in living if pod.ready]
    updated = sum(pod.template == pool.template_hash for pod in living)
    said: dict[str, Any] = {
        "desired": view.desired,
        "replicas": len(living),
        "readyReplicas": len(ready),
        "updatedReplicas": updated,
        "selector": pool.selector,
        "observedGeneration": pool.generation,
    }
    if counts is not None:
        said |= {"warming": counts.warming, "idle": counts.idle, "leased": counts.leased, "retiring": counts.retiring}
    serving = 0 if counts is None else counts.idle + counts.leased
    states = {
        "Ready": _ready(view, serving, updated),
        "Progressing": _progressing(view, serving, updated),
        "Degraded": _degraded(view),
        "Confined": _confined(view, ready),
    }
    previous = {one["type"]: one for one in pool_conditions(pool)}
    said["conditions"] = [
        _condition(kind, state, pool.generation, previous.get(kind), now) for kind, state in states.items()
    ]
    return said


_State = tuple[str, str, str]
"""Status, reason, message of a condition."""


def _ready(view: View, serving: int, updated: int) -> _State:
    if view.pool.deleting:
        return "False", "Draining", DRAINING
    if view.counts is None:
        return "False", "RegistryUnavailable", REGISTRY_AWAY
    if serving >= view.desired and updated >= view.desired:
        return "True", "PoolReady", f"{view.desired} pods serve"
    if view.why is not None:
        return "False", view.why.reason, view.why.message
    _, reason, message = _progressing(view, serving, updated)
    return "False", reason, message


def _progressing(view: View, serving: int, updated: int) -> _State:
    """As a Deployment's: True while it moves and once it is there, False where it has stopped short."""
    if view.pool.deleting:
        return "True", "Draining", DRAINING
    outdated = updated < sum(not pod.dead and not pod.deleting for pod in view.pods)
    done = f"{updated} of {view.desired} pods are of the present template"
    if view.pool.paused:
        return "False", "Paused", f"spec.paused is set: nothing is made or replaced; {serving} pods serve"
    if outdated and view.why is not None and view.why.reason in TEMPLATE_AT_FAULT:
        return "False", "RolloutHalted", f"{done}; the first new ones failed: {view.why.message}"[:1000]
    if outdated:
        return "True", "RollingOut", done
    if serving < view.desired:
        return "True", "PodsStarting", f"{serving} of {view.desired} pods serve"
    return "True", "PoolComplete", done


def _degraded(view: View) -> _State:
    if view.counts is None:
        return "True", "RegistryUnavailable", REGISTRY_AWAY
    if view.why is not None:
        return "True", view.why.reason, view.why.message
    return "False", "AsExpected", "no pod of the present template is in trouble"


def _confined(view: View, ready: Sequence[Pod]) -> _State:
    if view.floor is not None:
        return "False", view.floor.reason, view.floor.message
    if not ready:
        return "Unknown", "NoPodYet", "no pod has passed its probe yet"
    least = view.pool.spec.get("minLandlockABI", 6)
    ports = ", ".join(map(str, view.pool.tcp_ports))
    network = f"TCP to {ports} and no other port" if ports else "no network"
    walls = f"Landlock ABI {least} or newer, system-call filter, limits, read-only mounts, no token, {network}"
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
        self._written_at = -math.inf
        self._differs_since: float | None = None

    def rests(self, now: float) -> bool:
        """Whether nothing is written now, whatever is to be said."""
        return now - self._written_at < WRITE_SECONDS

    def due(self, said: dict[str, Any], now: float) -> bool:
        """Whether `said` should be written now; call `done` once it was."""
        if said == self._published:
            self._differs_since = None
            return False
        if self.rests(now):
            return False
        if _settled(said) != _settled(self._published):
            return True
        if self._differs_since is None:
            self._differs_since = now
        return now - self._differs_since >= SETTLE_SECONDS

    def done(self, said: dict[str, Any], now: float) -> None:
        self._published, self._written_at, self._differs_since = said, now, None


def _settled(said: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in said.items() if name not in (*MOVING, "conditions")}
    conditions = [{k: v for k, v in one.items() if k != "message"} for one in said.get("conditions", ())]
    return {**kept, "conditions": conditions}

"""What is to be done about a pool: from what is wanted and what is there to a list of actions. Pure; it alone decides.

The cluster says which pods exist, the registry which of them serve. What neither can prove to be unused is retired.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from warmpool.registry import PodState
from warmpool_operator.informer import Pod

SURGE_SHARE: Final = 4
"""A quarter of the pool may be made beyond its size, or be missing, while a new template is rolled out."""


class Reason(StrEnum):
    """Why a pod goes; in the registry, in the log and in the metric alike."""

    SCALED_DOWN = "ScaledDown"
    TEMPLATE_CHANGED = "TemplateChanged"
    POD_DELETED = "PodDeleted"
    POD_ENDED = "PodEnded"
    UNPROVEN = "Unproven"
    """It can serve, and the registry does not know it: it was lost, and a program may run there."""
    RETIRED = "Retired"
    """The registry said so."""


@dataclass(frozen=True, slots=True)
class Create:
    count: int


@dataclass(frozen=True, slots=True)
class Register:
    """The pod can serve: it becomes idle."""

    pod: Pod


@dataclass(frozen=True, slots=True)
class Retire:
    """In the registry: at once, or at the release of its lease."""

    name: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Delete:
    """In the cluster. Only what serves nobody."""

    pod: Pod
    reason: Reason


@dataclass(frozen=True, slots=True)
class Forget:
    """In the registry: the pod is no more."""

    name: str


Action = Create | Register | Retire | Delete | Forget


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    replicas: int
    template: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A pod as the registry has it."""

    state: PodState
    going: bool = False
    """Leased, and to retire at its release."""
    idle_since: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    pods: Sequence[Pod]
    registry: Mapping[str, Known]
    expected: frozenset[str] = frozenset()
    """Names of pods that were made and have not been seen yet."""
    deleted: frozenset[str] = frozenset()
    """Uids of pods whose deletion was asked for and has not been seen yet."""
    may_create: int = 0
    """By the back-off after failures, and the bound on what is made at once."""


def plan(desired: Desired, observed: Observed) -> list[Action]:
    """Idempotent: nothing is planned again that is under way."""
    here = [pod for pod in observed.pods if pod.uid not in observed.deleted]
    actions: list[Action] = []
    serving: list[Pod] = []
    for pod in here:
        known = observed.registry.get(pod.name)
        actions += _of_one(pod, known)
        if not pod.deleting and not pod.dead and not _goes(pod, known):
            serving.append(pod)
    names = {pod.name for pod in observed.pods} | observed.expected
    actions += [Forget(name) for name in observed.registry if name not in names]
    return actions + _size(desired, observed, serving)


def _of_one(pod: Pod, known: Known | None) -> list[Action]:
    state = known.state if known else None
    if pod.dead:
        forget: list[Action] = [Forget(pod.name)] if known else []
        return forget + ([] if pod.deleting else [Delete(pod, Reason.POD_ENDED)])
    if pod.deleting:
        return [Retire(pod.name, Reason.POD_DELETED)] if known and _takes_leases(known) else []
    if state is PodState.RETIRING:
        return [Delete(pod, Reason.RETIRED)]
    if pod.ready and pod.ip:
        if state is PodState.WARMING:
            return [Register(pod)]
        if state is None:
            return [Retire(pod.name, Reason.UNPROVEN)]
    return []


def _takes_leases(known: Known) -> bool:
    return known.state is not PodState.RETIRING and not known.going


def _goes(pod: Pod, known: Known | None) -> bool:
    if known is None:
        return pod.ready  # about to be retired as unproven
    return known.state is PodState.RETIRING or known.going


def _size(desired: Desired, observed: Observed, serving: Sequence[Pod]) -> list[Action]:
    current = [pod for pod in serving if pod.template == desired.template]
    outdated = [pod for pod in serving if pod.template != desired.template]
    made = len(current) + len(observed.expected - {pod.name for pod in observed.pods})
    spare = max(1, desired.replicas // SURGE_SHARE) if outdated else 0
    room = desired.replicas + spare - made - len(outdated)
    create = min(desired.replicas - made, room, observed.may_create)
    actions: list[Action] = [Create(create)] if create > 0 else []
    actions += [Retire(pod.name, Reason.TEMPLATE_CHANGED) for pod in _replaceable(desired, observed, current, outdated)]
    surplus = _in_order_of_loss(current, observed)[: max(0, len(current) - desired.replicas)]
    return actions + [Retire(pod.name, Reason.SCALED_DOWN) for pod in surplus]


def _replaceable(
    desired: Desired, observed: Observed, current: Sequence[Pod], outdated: Sequence[Pod]
) -> Sequence[Pod]:
    """Those that cannot serve yet at once; of the others as many as the pool can be without. Leased ones stay."""
    order = [pod for pod in _in_order_of_loss(outdated, observed) if _state(pod, observed) is not PodState.LEASED]
    unready = [pod for pod in order if not pod.ready]
    able = sum(_state(pod, observed) in (PodState.IDLE, PodState.LEASED) for pod in (*current, *outdated))
    least = desired.replicas - max(1, desired.replicas // SURGE_SHARE)
    ready = [pod for pod in order if pod.ready]
    return [*unready, *ready[: max(0, able - max(0, least))]]


def _in_order_of_loss(pods: Sequence[Pod], observed: Observed) -> list[Pod]:
    """What can be done without first: not serving yet, then idle for long, then leased."""

    def rank(pod: Pod) -> tuple[int, float, str]:
        known = observed.registry.get(pod.name)
        state = known.state if known else PodState.WARMING
        order = {PodState.IDLE: 1, PodState.LEASED: 2}.get(state, 0)
        return order, known.idle_since if known else 0.0, pod.name

    return sorted(pods, key=rank)


def _state(pod: Pod, observed: Observed) -> PodState | None:
    known = observed.registry.get(pod.name)
    return known.state if known else None

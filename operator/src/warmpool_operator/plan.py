"""What is to be done about a pool: from what is wanted and what is there to a list of actions. Pure; it alone decides.

The cluster says which pods exist, the registry which of them serve. What neither can prove to be unused is retired.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from warmpool.registry import PodState, Standing
from warmpool_operator.informer import UNSCHEDULABLE, Pod
from warmpool_operator.observe import Observed


class Reason(StrEnum):
    """Why a pod goes; in the registry, in the log and in the metric alike."""

    SCALED_DOWN = "ScaledDown"
    TEMPLATE_CHANGED = "TemplateChanged"
    MAX_AGE = "MaxAge"
    """Pods of a pool are made together, so they come of age together: they go like those of an older template."""
    BOUND_ELSEWHERE = "BoundElsewhere"
    """Idle for one tenant, while callers of others wait."""
    POD_DELETED = "PodDeleted"
    POD_ENDED = "PodEnded"
    UNPROVEN = "Unproven"
    """It can serve, and the registry does not know it: it was lost, and a program may run there."""
    ABANDONED = "Abandoned"
    """Its pool is deleted, and Redis does not say whether it is leased."""
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
    """At this moment: of a pool that scales itself, what demand asks for."""
    template: str
    most: int | None = None
    """Pods that there may ever be, `max_surge` on top, also those that end, not lost ones; by default `replicas`."""
    max_surge: int = 1
    """Pods beyond `replicas` while a new template is rolled out."""
    max_unavailable: int = 1
    """Pods of `replicas` that may be missing meanwhile."""
    paused: bool = False
    """No pod is made or replaced, and none goes for the pool's size; the rest of the work goes on."""

    @property
    def limit(self) -> int:
        return max(self.replicas, self.most or 0) + self.max_surge


def plan(desired: Desired, observed: Observed) -> list[Action]:
    """Idempotent: nothing is planned again that is under way."""
    actions: list[Action] = []
    serving: list[Pod] = []
    taken = 0
    for pod in observed.pods:
        dead = pod.dead
        taken += not dead and pod.uid not in observed.lost
        if pod.uid in observed.deleted:
            continue
        known = observed.registry.get(pod.name)
        going = pod.deleting or dead
        if going or not pod.ready or known is None or not _serves(known):  # few, in a pool of thousands
            actions += _of_one(pod, known, pod.name in observed.ending)
            going = going or _goes(pod, known)
        if not going:
            serving.append(pod)
    names = {pod.name for pod in observed.pods}
    actions += [Forget(name) for name in observed.registry if name not in names and name not in observed.expected]
    if desired.paused:
        return actions
    unseen = len(observed.expected - names)
    return actions + _size(desired, observed, serving, unseen, desired.limit - taken - unseen)


def _of_one(pod: Pod, known: Standing | None, is_ending: bool) -> list[Action]:
    state = known.state if known else None
    if pod.dead:
        forget: list[Action] = [Forget(pod.name)] if known else []
        return forget + ([] if pod.deleting else [Delete(pod, Reason.POD_ENDED)])
    if pod.deleting:
        return [Retire(pod.name, Reason.POD_DELETED)] if known and _takes_leases(known) else []
    if state is PodState.RETIRING:
        return [] if is_ending else [Delete(pod, Reason.RETIRED)]
    if pod.ready and pod.ip:
        if state is PodState.WARMING:
            return [Register(pod)]
        if state is None:
            return [Retire(pod.name, Reason.UNPROVEN)]
    return []


def _serves(known: Standing) -> bool:
    return known.state in (PodState.IDLE, PodState.LEASED) and not known.marked


def _takes_leases(known: Standing) -> bool:
    return known.state is not PodState.RETIRING and not known.marked


def _goes(pod: Pod, known: Standing | None) -> bool:
    if known is None:
        return pod.ready  # about to be retired as unproven
    return known.state is PodState.RETIRING or known.marked


def _size(desired: Desired, observed: Observed, serving: Sequence[Pod], unseen: int, places: int) -> list[Action]:
    """`places` are pods that may still be made before the pool is at its limit."""
    current = [pod for pod in serving if pod.template == desired.template and pod.name not in observed.aged]
    outdated: list[Pod] = []
    if len(current) < len(serving):
        names = {pod.name for pod in current}
        outdated = [pod for pod in serving if pod.name not in names]
    made = len(current) + unseen
    surge = desired.max_surge if outdated else 0
    room = desired.replicas + surge - made - len(outdated)
    create = min(desired.replicas - made, room, places, observed.may_create)
    if observed.held or any(pod.trouble == UNSCHEDULABLE for pod in serving):
        create = 0  # of the latter: those that are there already wait for a node, and tell whoever adds nodes
    surplus = max(0, len(current) - desired.replicas)
    by_loss = _in_order_of_loss(current, observed) if surplus or observed.waiting else []
    actions: list[Action] = [Create(create)] if create > 0 else []
    for pod in _replaceable(desired, observed, current, outdated):
        aged = pod.template == desired.template
        actions.append(Retire(pod.name, Reason.MAX_AGE if aged else Reason.TEMPLATE_CHANGED))
    actions += [Retire(pod.name, Reason.SCALED_DOWN) for pod in by_loss[:surplus]]
    bound = _bound_elsewhere(desired, observed, by_loss[surplus:])
    return actions + [Retire(pod.name, Reason.BOUND_ELSEWHERE) for pod in bound]


def _replaceable(
    desired: Desired, observed: Observed, current: Sequence[Pod], outdated: Sequence[Pod]
) -> Sequence[Pod]:
    """Those that cannot serve yet at once; of the others as many as the pool can be without, leased ones last and at
    their release. While pods of the new template come to nothing only what is too many anyway."""
    if not outdated:
        return []
    order = _in_order_of_loss(outdated, observed)
    if observed.failing:
        return order[: max(0, len(outdated) + len(current) - desired.replicas - desired.max_surge)]
    unready = [pod for pod in order if not pod.ready]
    ready = [pod for pod in order if pod.ready]
    able = sum(_state(pod, observed) in (PodState.IDLE, PodState.LEASED) for pod in (*current, *outdated))
    least = max(0, desired.replicas - desired.max_unavailable)
    return [*unready, *ready[: max(0, able - least)]]


def _bound_elsewhere(desired: Desired, observed: Observed, current: Sequence[Pod]) -> Sequence[Pod]:
    """Callers that wait while every idle pod is another tenant's need fresh ones, as many as are not on their way."""
    if not observed.waiting:
        return []
    standings = [standing for pod in current if (standing := observed.registry.get(pod.name))]
    leased = sum(standing.state is PodState.LEASED for standing in standings)
    fresh = desired.replicas - leased - sum(standing.bound for standing in standings)
    unused = [pod for pod in current if pod.name in observed.unused]
    return unused[: max(0, observed.waiting - fresh)]


def _in_order_of_loss(pods: Sequence[Pod], observed: Observed) -> list[Pod]:
    """What can be done without first: not serving yet, the youngest first; then idle, the oldest first; then leased."""
    oldest_first = sorted(pods, key=lambda pod: (pod.created, pod.name))
    idle, leased = (
        [pod for pod in oldest_first if _state(pod, observed) is state] for state in (PodState.IDLE, PodState.LEASED)
    )
    warming = [pod for pod in oldest_first if _state(pod, observed) not in (PodState.IDLE, PodState.LEASED)]
    return [*reversed(warming), *idle, *leased]


def _state(pod: Pod, observed: Observed) -> PodState | None:
    known = observed.registry.get(pod.name)
    return known.state if known else None

"""What is known of a pool at one moment: the cluster's view of it, the registry's, and what was asked for since.

The watch is late by nature. What was asked for counts until the watch shows it, or until it is too old to be believed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from warmpool.registry import PodState, Standing
from warmpool_operator.informer import SILENCE_SECONDS, Pod

EXPECT_SECONDS: Final = SILENCE_SECONDS + 45.0
"""For which a pod that was made counts though the watch has not shown it: longer than a watch may be dead unnoticed,
and a list after that may take."""
LOST_SECONDS: Final = 120.0
"""After which a pod that is still being deleted is lost with its node. A program and its answer have 40 s of it, and
the kubelet the rest; where none is left to say that the pod ended it stays until somebody takes the node away."""
END_SECONDS: Final = 30.0
"""In which a pod of single use ends once it was used: a second until the kubelet sees it, ten where it is busy."""
UNUSED_SECONDS: Final = 1.0
"""For which a pod that is idle for one tenant only is that tenant's, whoever else waits: where its own callers wait
too, they take it within milliseconds, and a pool under load would do nothing but replace pods."""

HOLD_SECONDS: Final = 0.5
"""For which programs that run go before pods that nobody waits for. Forty programs of single use at once take 0.25 s on
two processors, and 1 s beside the start of the pods in their place."""
HELD_FOR: Final = 4
"""Programs, or more, that make a hold begin: fewer are hindered by little, and their pods are replaced within 50 ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    pods: Sequence[Pod]
    registry: Mapping[str, Standing]
    expected: frozenset[str] = frozenset()
    """Names of pods that were made and have not been seen yet."""
    deleted: frozenset[str] = frozenset()
    """Uids of pods whose deletion was asked for and has not been seen yet."""
    ending: frozenset[str] = frozenset()
    """Names of pods that are about to end by themselves."""
    aged: frozenset[str] = frozenset()
    """Names of pods that are to be replaced for their age."""
    lost: frozenset[str] = frozenset()
    """Uids of pods whose deletion nobody is left to carry out."""
    unused: frozenset[str] = frozenset()
    """Names of pods that are idle for one tenant only, and that it has not used for a moment."""
    held: bool = False
    """Many programs run that new pods would hinder, and nobody waits for one."""
    waiting: int = 0
    """Callers in the gateways' queues."""
    may_create: int = 0
    """By the pace at which pods are made, and the back-off after failures."""
    failing: bool = False
    """The last pods of the present template came to nothing."""


@dataclass(slots=True)
class Expectations:
    """What was asked of the API server and has not come back by the watch."""

    unsure: set[str] = field(default_factory=set)
    """Of those that were made: whose making was not answered for."""
    _made: dict[str, float] = field(default_factory=dict)
    _deleted: dict[str, float] = field(default_factory=dict)

    @property
    def made(self) -> frozenset[str]:
        return frozenset(self._made)

    @property
    def deleted(self) -> frozenset[str]:
        return frozenset(self._deleted)

    def make(self, name: str, now: float) -> None:
        self._made[name] = now + EXPECT_SECONDS

    def never_made(self, name: str) -> None:
        self._made.pop(name, None)
        self.unsure.discard(name)

    def delete(self, uid: str, now: float) -> None:
        self._deleted[uid] = now + EXPECT_SECONDS

    def see(self, pods: Iterable[Pod], now: float) -> None:
        if not self._made and not self._deleted:
            return
        names, uids = set(), set()
        for pod in pods:
            names.add(pod.name)
            uids.add(pod.uid)
        self._made = {name: end for name, end in self._made.items() if name not in names and end > now}
        self.unsure &= self._made.keys()
        self._deleted = {uid: end for uid, end in self._deleted.items() if uid in uids and end > now}


@dataclass(slots=True)
class Endings:
    """Pods of single use that were used. They end by themselves, and to delete one that has ended takes the API server,
    scheduler and kubelet three writes less than one that runs: no event of its killing, one status, one deletion."""

    _since: dict[str, float] = field(default_factory=dict)

    def see(self, standings: Mapping[str, Standing], now: float) -> frozenset[str]:
        """Names of those that may still take their time."""
        self._since = {name: self._since.get(name, now) for name, standing in standings.items() if standing.worn}
        return frozenset(name for name, since in self._since.items() if now - since < END_SECONDS)


@dataclass(slots=True)
class Losses:
    """Pods that were being deleted at each look for longer than any takes."""

    _since: dict[str, float] = field(default_factory=dict)

    def see(self, pods: Iterable[Pod], now: float) -> frozenset[str]:
        """Uids of those that are lost."""
        self._since = {pod.uid: self._since.get(pod.uid, now) for pod in pods if pod.deleting}
        return frozenset(uid for uid, since in self._since.items() if now - since >= LOST_SECONDS)


@dataclass(slots=True)
class Unused:
    """Pods that were idle for one tenant only at each look for a while in which callers waited. Where a burst begins,
    those that it is about to use have been idle for long too."""

    _since: dict[str, float] = field(default_factory=dict)

    def see(self, standings: Mapping[str, Standing], waiting: int, now: float) -> frozenset[str]:
        """Names of those that others may have."""
        bound = [name for name, standing in standings.items() if standing.bound and waiting]
        self._since = {name: self._since.get(name, now) for name in bound}
        return frozenset(name for name, since in self._since.items() if now - since >= UNUSED_SECONDS)


@dataclass(slots=True)
class Hold:
    """Begins with the first pod that goes while many programs run, and lasts while one does and nobody waits. Under a
    steady load each is followed by a look at which all that is missing is made, so that no pod is late by more."""

    _going: frozenset[str] = frozenset()
    _until: float | None = None

    @property
    def lasts(self) -> bool:
        return self._until is not None

    def see(self, standings: Mapping[str, Standing], waiting: int, now: float) -> bool:
        """Whether it lasts."""
        before = self._going
        self._going = frozenset(name for name, one in standings.items() if one.state is PodState.RETIRING)
        running = sum(one.state is PodState.LEASED for one in standings.values())
        if waiting or not running:
            self._until = None
        elif self._until is not None:
            self._until = self._until if now < self._until else None
        elif self._going - before and running >= HELD_FOR:
            self._until = now + HOLD_SECONDS
        return self.lasts

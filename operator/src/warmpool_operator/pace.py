"""How fast pods may be made: a steady rate, and slower after each failure, by its cause. Pure; time is a parameter."""

from dataclasses import dataclass, field
from typing import Final

from warmpool_operator.status import Trouble

PER_SECOND: Final = 50.0
"""What one scheduler places (its `kube-api-qps` is 50 by default), and below what an API server notices."""
BURST: Final = 100
UNPROVEN: Final = 4
"""Pods on their way to ready as long as none of their template has been: an image that does not exist, or a program
that crashes, costs no more."""
PER_NODE: Final = 8
"""Pods on their way to ready for each node that the pool is seen on. A kubelet starts four or five a second; with more
at once none is ready sooner, each takes longer, and its probes fail meanwhile: of 40 at once on two cores the first
came after 15 s, and each cost the API server 8 events."""
BACK_OFF_SECONDS: Final = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
TRIAL_SECONDS: Final = 60.0
"""For a pod that is made after a failure to serve or to fail as well. One that does neither, because its node cannot
start it, is not waited for any longer: another may come to a better node."""


@dataclass(slots=True)
class Pace:
    """Of one pool, since its spec last changed."""

    trouble: Trouble | None = None
    """The last failure: until a pod of the template serves, or after a refusal, until one is taken."""
    proven: bool = False
    """A pod of the present template has been ready."""
    _failures: dict[str, int] = field(default_factory=dict)
    _refused: bool = False
    _until: float = 0.0
    _tokens: float = float(BURST)
    _at: float | None = None

    def refused(self, cause: Trouble, now: float) -> None:
        """The API server would not take a pod."""
        self._failed(cause, now)
        self._refused = True

    def crashed(self, cause: Trouble, now: float) -> None:
        """A pod ended, and not in order."""
        self._failed(cause, now)
        self._refused = False

    def taken(self, now: float) -> None:
        """The API server took a pod."""
        self._tokens -= 1
        if self._refused:
            self._forgive()
        elif self._failures:
            self._until = now + TRIAL_SECONDS

    def served(self) -> None:
        """A pod of the present template can serve."""
        self.proven = True
        self._forgive()

    def _failed(self, cause: Trouble, now: float) -> None:
        count = self._failures.get(cause.reason, 0)
        self._failures[cause.reason] = count + 1
        self._until = now + BACK_OFF_SECONDS[min(count, len(BACK_OFF_SECONDS) - 1)]
        self.trouble = cause

    def _forgive(self) -> None:
        self._failures.clear()
        self._until, self._refused, self.trouble = 0.0, False, None

    def may_create(self, on_their_way: int, nodes: int, now: float) -> int:
        """`on_their_way` are pods of the present template that are not ready yet, `nodes` those that the pool is on."""
        if now < self._until:
            return 0
        self._fill(now)
        most = int(self._tokens)
        if self._failures:
            most = min(most, 1)
        if not self.proven:
            most = min(most, max(0, UNPROVEN - on_their_way))
        return min(most, max(0, PER_NODE * max(1, nodes) - on_their_way))

    def _fill(self, now: float) -> None:
        if self._at is not None:
            self._tokens = min(float(BURST), self._tokens + (now - self._at) * PER_SECOND)
        self._at = now

"""How fast pods may be made: a steady rate, and slower after each failure, by its cause. Pure; time is a parameter."""

from dataclasses import dataclass, field
from typing import Final

from warmpool_operator.status import Trouble

PER_SECOND: Final = 50.0
"""Above what one scheduler and a few kubelets start, below what an API server notices."""
BURST: Final = 100
UNPROVEN: Final = 4
"""Pods on their way to ready as long as none of their template has been: an image that does not exist, or a program
that crashes, costs no more."""
BACK_OFF_SECONDS: Final = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


@dataclass(slots=True)
class Pace:
    """Of one pool, since its spec last changed."""

    trouble: Trouble | None = None
    """The last failure, until a pod of the template serves."""
    proven: bool = False
    """A pod of the present template has been ready."""
    _failures: dict[str, int] = field(default_factory=dict)
    _until: float = 0.0
    _tokens: float = float(BURST)
    _at: float | None = None

    def failed(self, cause: Trouble, now: float) -> None:
        """A creation was refused, or a pod ended before it ever served."""
        count = self._failures.get(cause.reason, 0)
        self._failures[cause.reason] = count + 1
        self._until = now + BACK_OFF_SECONDS[min(count, len(BACK_OFF_SECONDS) - 1)]
        self.trouble = cause

    def succeeded(self) -> None:
        self.proven = True
        self._failures.clear()
        self._until, self.trouble = 0.0, None

    def may_create(self, on_their_way: int, now: float) -> int:
        """`on_their_way` are pods of the present template that are not ready yet."""
        if now < self._until:
            return 0
        self._fill(now)
        most = int(self._tokens)
        if self._failures:
            most = min(most, max(0, 1 - on_their_way))
        elif not self.proven:
            most = min(most, max(0, UNPROVEN - on_their_way))
        return most

    def made(self) -> None:
        self._tokens -= 1

    def waits_until(self, now: float) -> float | None:
        """When there is a reason to look again though nothing happens; None if not."""
        if now < self._until:
            return self._until
        self._fill(now)
        return None if self._tokens >= 1 else now + (1 - self._tokens) / PER_SECOND

    def _fill(self, now: float) -> None:
        if self._at is not None:
            self._tokens = min(float(BURST), self._tokens + (now - self._at) * PER_SECOND)
        self._at = now

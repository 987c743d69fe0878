"""How large a pool should be: from what gateways count to a number of pods. Pure; time is a parameter.

Little's law: the pods in use are the callers that come in a second times the seconds that each holds a pod. To them
come those that wait already, and some to spare.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from warmpool.registry import Demand

WINDOW_SECONDS: Final = 10.0
"""Over which rates are taken: shorter follows noise, longer is late for a burst, which `waiting` tells at once."""
FRESH_SECONDS: Final = 3.0
"""Gateways with waiting callers report once a second; an older word is of one that is gone."""
FORGOTTEN_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscale:
    """`spec.autoscale`."""

    least: int
    most: int
    spare: int
    cool_down_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the gateways see together."""

    arrivals_per_second: float = 0.0
    hold_seconds: float = 0.0
    waiting: int = 0

    @property
    def pods(self) -> float:
        return self.arrivals_per_second * self.hold_seconds + self.waiting


@dataclass(frozen=True, slots=True)
class _Sum:
    at: float
    arrivals: float = 0.0
    releases: float = 0.0
    held_seconds: float = 0.0


@dataclass(slots=True)
class Meter:
    """Makes rates of the gateways' counters. A gateway that starts again counts from nought; one not seen before has
    counted nothing yet."""

    _last: dict[str, Demand] = field(default_factory=dict)
    _sums: deque[_Sum] = field(default_factory=deque)

    def read(self, demands: Mapping[str, Demand], now: float) -> Load:
        before = self._sums[-1] if self._sums else _Sum(now)
        arrivals, releases, held = before.arrivals, before.releases, before.held_seconds
        for gateway, demand in demands.items():
            last = self._last.get(gateway, demand)
            if demand.arrivals < last.arrivals or demand.releases < last.releases:
                last = Demand()
            arrivals += demand.arrivals - last.arrivals
            releases += demand.releases - last.releases
            held += demand.held_seconds - last.held_seconds
        self._last = dict(demands)
        self._sums.append(_Sum(now, arrivals, releases, held))
        while len(self._sums) > 1 and self._sums[1].at <= now - WINDOW_SECONDS:
            self._sums.popleft()
        waiting = sum(demand.waiting for demand in demands.values() if demand.age_seconds < FRESH_SECONDS)
        return self._load(waiting, now)

    def _load(self, waiting: int, now: float) -> Load:
        first, last = self._sums[0], self._sums[-1]
        span = max(now - first.at, 1.0)
        ended = last.releases - first.releases
        return Load(
            arrivals_per_second=(last.arrivals - first.arrivals) / span,
            hold_seconds=(last.held_seconds - first.held_seconds) / ended if ended else 0.0,
            waiting=waiting,
        )


@dataclass(slots=True)
class Size:
    """Follows demand upwards at once, and downwards to the highest that was asked for within the cool-down."""

    _asked: deque[tuple[float, int]] = field(default_factory=deque)
    """Times and sizes, each smaller than the one before it."""

    def of(self, autoscale: Autoscale, load: Load, leased: int, now: float) -> int:
        busy = max(math.ceil(load.pods), leased + load.waiting)
        asked = max(autoscale.least, min(autoscale.most, busy + autoscale.spare))
        while self._asked and self._asked[-1][1] <= asked:
            self._asked.pop()
        self._asked.append((now, asked))
        while self._asked[0][0] <= now - autoscale.cool_down_seconds and len(self._asked) > 1:
            self._asked.popleft()
        return max(autoscale.least, min(autoscale.most, self._asked[0][1]))

    @classmethod
    def starting_at(cls, size: int, now: float) -> Self:
        """As an operator that takes over goes on: with what there is, for one cool-down."""
        return cls(deque([(now, size)]))

"""The decisions of the queue, without any I/O: whose turn it is, whether a pod may be idle, how long a wait will be.

Time is a parameter everywhere, in seconds of any one clock.
"""

import math
from collections import OrderedDict
from collections.abc import Collection, Hashable
from itertools import count, islice, takewhile
from typing import Final, Generic, TypeVar

W = TypeVar("W", bound=Hashable)

ECHO_SECONDS: Final = 0.25  # how long after a release a push may still be that release's own
EVIDENCE_SECONDS: Final = 2.0  # no wait is called hopeless before callers have queued for this long
MEMORY_SECONDS: Final = 5.0  # how far back the drain rate looks


class Line(Generic[W]):
    """Waiters in fair order: tenants take turns, and within a tenant the first to come is the first to go.

    A tenant of weight 3 has three waiters served in its turn. Every operation but `ahead_of` is O(1).
    """

    def __init__(self) -> None:
        self._tenants: OrderedDict[str, OrderedDict[W, int]] = OrderedDict()  # waiter -> ticket
        self._tickets = count()
        self._weights: dict[str, int] = {}
        self._served_in_turn = 0
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def join(self, tenant: str, waiter: W, weight: int = 1) -> int:
        """To the end of its tenant's part; a tenant without waiters comes last in the round. Returns a ticket."""
        ticket = next(self._tickets)
        self._put(tenant, waiter, weight, ticket)
        return ticket

    def rejoin(self, tenant: str, waiter: W, ticket: int, weight: int = 1) -> None:
        """Back to the front: its turn had come, and there was nothing to have. Behind those who came before it."""
        waiters = self._put(tenant, waiter, weight, ticket)
        waiters.move_to_end(waiter, last=False)
        older = list(takewhile(lambda other: waiters[other] < ticket, islice(waiters, 1, None)))
        for other in reversed(older):  # few: they had been taken out with it
            waiters.move_to_end(other, last=False)
        self._tenants.move_to_end(tenant, last=False)
        self._served_in_turn = max(0, self._served_in_turn - 1)

    def leave(self, tenant: str, waiter: W) -> bool:
        """False if it is not in the line."""
        waiters = self._tenants.get(tenant)
        if waiters is None or waiter not in waiters:
            return False
        del waiters[waiter]
        self._length -= 1
        if not waiters:
            self._end_turn(tenant)
        return True

    def next(self, but: Collection[str] = ()) -> W | None:
        """Takes out the waiter whose turn it is, of other tenants than those; None when no such waits."""
        tenant = next((tenant for tenant in self._tenants if tenant not in but), None)
        if tenant is None:
            return None
        if tenant != next(iter(self._tenants)):
            self._tenants.move_to_end(tenant, last=False)
            self._served_in_turn = 0
        waiters = self._tenants[tenant]
        waiter, _ = waiters.popitem(last=False)
        self._length -= 1
        self._served_in_turn += 1
        if not waiters or self._served_in_turn >= self._weights[tenant]:
            self._end_turn(tenant)
        return waiter

    def ahead_of(self, tenant: str, weight: int = 1) -> int:
        """Waiters that would be served before one who joined now."""
        own = len(self._tenants.get(tenant, ()))
        rounds = own // weight + 1
        others = (
            min(len(waiters), rounds * self._weights[name]) for name, waiters in self._tenants.items() if name != tenant
        )
        return own + sum(others)

    def drain(self) -> list[W]:
        """Everyone, in order; the line is empty then."""
        return [waiter for waiter in iter(self.next, None) if waiter is not None]

    def _put(self, tenant: str, waiter: W, weight: int, ticket: int) -> OrderedDict[W, int]:
        waiters = self._tenants.setdefault(tenant, OrderedDict())
        waiters[waiter] = ticket
        self._weights[tenant] = weight
        self._length += 1
        return waiters

    def _end_turn(self, tenant: str) -> None:
        first = next(iter(self._tenants)) == tenant
        if self._tenants[tenant]:
            self._tenants.move_to_end(tenant)
        else:
            del self._tenants[tenant], self._weights[tenant]
        if first:
            self._served_in_turn = 0


class IdleBelief:
    """How many pods may be idle, as far as this gateway can know.

    It errs on the high side: a hope in vain costs one script in Redis, a missed one a caller's time.
    """

    def __init__(self) -> None:
        self.likely = 0
        self._news = 0
        self._last_refuted = -1
        self._echoes = 0
        self._released_at = -math.inf

    def counted(self, idle: int) -> None:
        """The registry says that this many are idle."""
        self._hope(idle - self.likely)

    def pushed(self, now: float) -> bool:
        """The registry pushed a wake-up. False if it is the echo of a release of our own, which counted already."""
        if self._echoes and now - self._released_at < ECHO_SECONDS:
            self._echoes -= 1
            return False
        self._echoes = 0  # what did not come by now was lost with a connection
        self._hope(1)
        return True

    def releasing(self, now: float) -> int:
        """We are about to release a clean pod; an acquire sent behind it will find it. For `released`."""
        self._released_at = now
        self._echoes += 1
        self._hope(1)
        return self._news

    def released(self, release: int, *, idle: bool) -> None:
        """That release is done. Where its pod is not idle, nothing will be pushed for it."""
        if not idle:
            self._echoes = max(0, self._echoes - 1)
        elif self._last_refuted >= release:  # an acquire sent behind it overtook it: its script had to be loaded
            self._hope(1)

    def attempt(self) -> int:
        """We are about to acquire. Returns what `refuted` needs to know if it is in vain."""
        self.likely -= 1
        return self._news

    def unspent(self, attempt: int) -> bool:
        """That acquire found an idle pod, which was for others. Whether we heard anything since it was sent."""
        self.likely += 1
        return self._news > attempt

    def refuted(self, attempt: int) -> None:
        """That acquire found no idle pod: only what we heard since it was sent gives hope."""
        self._last_refuted = max(self._last_refuted, attempt)
        self.likely = min(self.likely, self._news - attempt)

    def _hope(self, pods: int) -> None:
        if pods > 0:
            self.likely += pods
            self._news += pods


class DrainRate:
    """How fast a line of waiters moves: those served a second, of late, while others waited."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._served = 0.0
        self._at = 0.0

    def began(self, now: float) -> None:
        """Someone waits; the line was empty before."""
        self._since = self._at = now
        self._served = 0.0

    def ended(self) -> None:
        """Nobody waits any more."""
        self._since = None

    def served(self, now: float) -> None:
        self._decay(now)
        self._served += 1

    def seconds_for(self, waiters: int, now: float) -> float:
        """Until this many have been served; 0 as long as there is no evidence.

        Counts one service more than there was: the next may end right now, and nought would mean for ever.
        """
        if self._since is None or now - self._since < EVIDENCE_SECONDS:
            return 0.0
        self._decay(now)
        window = MEMORY_SECONDS * (1 - math.exp((self._since - now) / MEMORY_SECONDS))
        return waiters * window / (self._served + 1)

    def _decay(self, now: float) -> None:
        self._served *= math.exp((self._at - now) / MEMORY_SECONDS)
        self._at = now

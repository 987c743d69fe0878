"""Whether what was seen may be. Pure: from the evidence of a run to what is wrong with it.

Nothing is excused by "there was chaos": each loss must be one that a fault explains, which killed that very pod or
gateway, or troubled Redis in that very moment.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Final, TypeVar

from chaos.evidence import Answer, Evidence, Lease, Move
from warmpool.registry import PodState
from warmpool.registry.states import TRANSITIONS
from warmpool_operator.manifest import user_of

PERMITTED: Final = frozenset({"ok", "platform_error", "503 pool_exhausted", "503 unavailable", "lost", "refused"})

NOTICE_SECONDS: Final = 3.0
"""Until the death of something has reached everyone, on a machine that is busy."""
REFUSED_SECONDS: Final = 30.0
"""Until nobody is sent any more to a gateway that is gone: kubelet, API server and kube-proxy take their time."""
RECORD_SECONDS: Final = 100.0
"""Records that a killed gateway was about to write are taken over by another after 60 s or 90 s."""
HELD_SECONDS: Final = 6.0
"""That a program holds its lease at most, and some time to give it back."""
KEPT_SECONDS: Final = 15.0
"""Which no program and nobody who gives its lease back takes: it ran out then, after the 20 s that it is given for."""
GRANT_SECONDS: Final = 0.5
"""Until what was asked of a Redis in trouble is carried out, after that."""
ENDING_SECONDS: Final = 10.0
"""That a deleted gateway goes on: it answers who is under way, and Redis hands it records as long as it asks."""
LATE_SECONDS: Final = 10.0
"""That a gateway holds a record, or a lease to give back, which Redis could not take, at most: it tries every 2 s."""

MOST_TOLD: Final = 5

Key = TypeVar("Key")
Value = TypeVar("Value")


def judge(evidence: Evidence) -> list[str]:
    """A line for each thing that is wrong, of each kind the first ones; none where all is well."""
    case, wrong = Case(evidence), []
    for rule in RULES:
        found = list(rule(case))
        wrong += found[:MOST_TOLD]
        if len(found) > MOST_TOLD:
            wrong.append(f"{rule.__name__.replace('_', ' ')}: {len(found) - MOST_TOLD} more")
    return wrong


class Case:
    """The evidence, and what several rules ask of it."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.seen = evidence.seen
        self.answers = evidence.answers

    @cached_property
    def killed(self) -> frozenset[str]:
        return frozenset(pod for fault in self.evidence.faults for pod in fault.killed)

    @cached_property
    def leases(self) -> dict[str, list[Lease]]:
        """By execution, in order."""
        return grouped((lease.execution, lease) for lease in self.seen.leases)

    @cached_property
    def ran(self) -> list[tuple[Answer, Lease | None]]:
        """Programs that told where and when they ran, each with its lease, if that was seen."""
        told = [answer for answer in self.answers if answer.user is not None]
        return [(answer, self.last_lease(answer)) for answer in told]

    def last_lease(self, answer: Answer) -> Lease | None:
        leases = self.leases.get(answer.execution or "")
        return leases[-1] if leases else None

    def places(self, answer: Answer, lease: Lease | None) -> list[str]:
        """Pods in which it must have run: by its record, and by its lease where a later one cannot have been missed."""
        recorded = [kept.pod for kept in self.evidence.kept.get(answer.execution or "", []) if kept.pod]
        return recorded if lease is None or self.unwatched(answer.sent, answer.ended) else [*recorded, lease.pod]

    def was_killed(self, component: str, start: float, end: float) -> bool:
        return any(
            start <= fault.at <= end and component in pod for fault in self.evidence.faults for pod in fault.killed
        )

    def gateway_killed(self, start: float, end: float, name: str) -> bool:
        """Whether the gateway that leases by this name was killed in that time."""
        return any(
            start <= fault.at <= end and name.startswith(pod) for fault in self.evidence.faults for pod in fault.killed
        )

    def redis_troubled(self, start: float, end: float, before: float = NOTICE_SECONDS) -> bool:
        """Whether Redis was away or cut connections at a moment of that time, or shortly `before` it."""
        troubles = [(fault.at, fault.end) for fault in self.evidence.faults if fault.redis] + self.seen.away
        return any(first <= end and start <= last + before for first, last in troubles)

    def no_gateway_ready(self, start: float, end: float) -> bool:
        """Whether there may have been a moment in that time in which none was, or the wrong ones were taken for it.

        One without Redis is not ready.
        """
        killed = self.was_killed("-gateway-", start, end)
        return killed or self.redis_troubled(start, end) or self.api_server_away(start, end)

    def record_endangered(self, answer: Answer) -> bool:
        """Whether Redis lost the record, or could not take it and who had it by then was killed.

        It stays in Redis for longer where a gateway was killed that had just read it.
        """
        start, end = answer.ended - NOTICE_SECONDS, answer.ended + LATE_SECONDS
        gateway = self.was_killed("-gateway-", answer.ended - ENDING_SECONDS, end)
        stays = answer.ended + (RECORD_SECONDS if gateway else LATE_SECONDS)
        if any(answer.sent <= at <= stays for at in self.seen.losses):
            return True
        killed = gateway or self.was_killed("-redis-", start, end)
        return killed and self.redis_troubled(start, answer.ended + NOTICE_SECONDS)

    def unwatched(self, start: float, end: float) -> bool:
        return any(first <= end and start <= last for first, last in self.seen.away)

    def api_server_away(self, start: float, end: float) -> bool:
        return any(
            fault.at <= end and start <= fault.end + NOTICE_SECONDS
            for fault in self.evidence.faults
            if fault.api_server
        )


def grouped(pairs: Iterable[tuple[Key, Value]]) -> dict[Key, list[Value]]:
    groups: dict[Key, list[Value]] = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return groups


# -- leases, by the word of Redis


def moves_that_may_not_be(case: Case) -> Iterator[str]:
    """Two leases at once are one of them."""
    watched = grouped(((move.watch, move.life, move.pod), move) for move in case.seen.moves)
    for moves in watched.values():
        for before, after in pairwise(moves):
            repeated = before.state is after.state is PodState.GONE
            if not repeated and after.state not in TRANSITIONS[before.state]:
                yield f"{after.pod} went from {_told(before)} to {_told(after)}"


def _told(move: Move) -> str:
    return f"leased by {move.lease.execution} at {move.at:.3f}" if move.lease else str(move.state)


def leases_of_pods_that_a_lost_redis_knew(case: Case) -> Iterator[str]:
    """They may have run something when it was lost, and nobody can know."""
    lives: dict[str, int] = {}
    for move in case.seen.moves:
        if move.state is not PodState.WARMING:
            first = lives.setdefault(move.pod, move.life)
            if move.lease and move.life > first:
                yield f"{move.pod} could serve before Redis lost all data, and was leased after it, at {move.at:.3f}"


def fences_that_do_not_grow(case: Case) -> Iterator[str]:
    for before, after in pairwise(case.seen.leases):
        if after.fence <= before.fence:
            yield f"{after.execution} on {after.pod} got fence {after.fence} after {before.fence}"


def leases_that_nobody_gave_back(case: Case) -> Iterator[str]:
    """They ran out; which only those of a killed gateway may, those whose grant was lost on its way, and those whose
    end was among the last that a killed Redis had not written to its file."""
    for lease in _ran_out(case):
        start, end = lease.at - NOTICE_SECONDS, lease.at + HELD_SECONDS
        killed = case.gateway_killed(start, end, lease.gateway) or case.was_killed("-redis-", start, end)
        if not killed and not case.redis_troubled(lease.at, lease.at + NOTICE_SECONDS, GRANT_SECONDS):
            yield f"{lease.execution} never gave {lease.pod} back, and nothing had happened to {lease.gateway}"


def _ran_out(case: Case) -> Iterator[Lease]:
    """A pod that was to retire anyway does not say that its lease expired, but takes as long."""
    for pod, moves in grouped((move.pod, move) for move in case.seen.moves).items():
        for before, after in pairwise(moves):
            if before.lease is None or before.life != after.life or after.state is not PodState.RETIRING:
                continue
            long = after.at - before.at > KEPT_SECONDS and not case.unwatched(before.at, before.at + LATE_SECONDS)
            if long or case.seen.reasons.get(pod) == "LeaseExpired":
                yield before.lease


def pods_that_went_under_a_lease(case: Case) -> Iterator[str]:
    """Which only those may that were hit themselves, and used ones of single use, which end, whose release was lost."""
    hit = case.killed | {fault.target for fault in case.evidence.faults}
    for (pod, *_), moves in grouped(((move.pod, move.watch, move.life), move) for move in case.seen.moves).items():
        for before, after in pairwise(moves):
            if before.lease is None or after.state is not PodState.GONE or pod in hit:
                continue
            gateway = case.gateway_killed(before.at - NOTICE_SECONDS, after.at, before.lease.gateway)
            lost = gateway or case.redis_troubled(before.at, after.at)
            if not (lost and case.seen.most_executions.get(pod) == 1):
                yield f"{pod} went at {after.at:.3f} under {before.lease.execution}, and nothing had happened to it"


def pods_that_served_more_than_they_may(case: Case) -> Iterator[str]:
    for pod, leases in grouped((lease.pod, lease) for lease in case.seen.leases).items():
        most = case.seen.most_executions.get(pod)
        if most is not None and len(leases) > most:
            yield f"{pod} was leased {len(leases)} times and may serve {most}"
        tenants = {lease.tenant for lease in leases}
        if pod in case.seen.per_tenant and len(tenants) > 1:
            yield f"{pod} is one tenant's and was leased by {sorted(tenants)}"


# -- programs, by their own word and that of the tools


def programs_at_once_in_one_pod(case: Case) -> Iterator[str]:
    for user, answers in grouped((answer.user, answer) for answer, _ in case.ran).items():
        for before, after in pairwise(sorted(answers, key=lambda answer: answer.began)):
            if after.began < before.done:
                yield f"user {user}: {after.execution} began before {before.execution} was done"


def programs_that_ran_elsewhere(case: Case) -> Iterator[str]:
    """Than in the pod that was leased for them, or in the order of their fences."""
    for answer, lease in case.ran:
        if lease is None and not case.unwatched(answer.sent, answer.ended):
            yield f"{answer.execution} ran without a lease"
        for pod in case.places(answer, lease):
            if answer.user != user_of(pod):
                yield f"{answer.execution} ran as user {answer.user}, and {pod} is {user_of(pod)}"
    seen = ((answer, lease) for answer, lease in case.ran if lease and answer.user == user_of(lease.pod))
    in_pods = grouped((answer.user, (answer.began, lease.fence)) for answer, lease in seen)
    for user, runs in in_pods.items():
        fences = [fence for _, fence in sorted(runs)]
        if fences != sorted(fences):
            yield f"user {user} ran programs in another order than they were leased in"


def programs_that_ran_twice(case: Case) -> Iterator[str]:
    for execution, calls in case.seen.tool_calls.items():
        if calls > 1:
            yield f"{execution} made its one tool call {calls} times"


def programs_that_ran_and_were_not_answered(case: Case) -> Iterator[str]:
    """Such as one whose caller was told that it may send it again."""
    answered = {answer.execution for answer in case.answers}
    for execution in case.seen.tool_calls:
        leases = case.leases.get(execution)
        if execution in answered or not leases:
            continue
        lease = leases[-1]
        if not case.gateway_killed(lease.at - NOTICE_SECONDS, lease.at + REFUSED_SECONDS, lease.gateway):
            yield f"{execution} ran, nobody was answered, and nothing had happened to {lease.gateway}"


# -- callers


def answers_that_may_not_be(case: Case) -> Iterator[str]:
    for answer in case.answers:
        if answer.kind not in PERMITTED:
            yield f"program {answer.number} ({answer.execution}): {answer.kind}: {answer.detail}"


def answers_lost_without_cause(case: Case) -> Iterator[str]:
    for answer in case.answers:
        start, end = answer.sent - NOTICE_SECONDS, answer.ended
        if answer.kind == "lost" and not case.was_killed("-gateway-", start, end):
            yield f"program {answer.number} was lost, and no gateway was killed: {answer.detail}"
        if answer.kind == "refused" and not case.no_gateway_ready(start - REFUSED_SECONDS, end):
            yield f"program {answer.number} was refused, and no gateway was away: {answer.detail}"


def programs_lost_without_cause(case: Case) -> Iterator[str]:
    for answer in case.answers:
        if answer.kind != "platform_error":
            continue
        pods = [lease.pod for lease in case.leases.get(answer.execution or "", [])]
        if not case.killed.intersection(pods) and not case.unwatched(answer.sent, answer.ended):
            yield f"{answer.execution} was lost on {pods}, which nothing had killed: {answer.detail}"


def tools_that_failed_without_cause(case: Case) -> Iterator[str]:
    for answer in case.answers:
        if answer.kind == "ok" and answer.tool != "ok" and not case.redis_troubled(answer.sent, answer.ended):
            yield f"{answer.execution}: its tool failed: {answer.tool}"


# -- what is kept


def records_that_are_not_as_answered(case: Case) -> Iterator[str]:
    """Missing ones are those that a lost Redis had; or that it did not take, and the gateway that held on to them was
    killed too. A Redis that is killed may lose the last 2 s that it had not written to its file."""
    for answer in case.answers:
        if answer.execution is None:
            continue
        kept = case.evidence.kept.get(answer.execution, [])
        if len(kept) > 1 or (kept and kept[0].status != answer.kind):
            yield f"{answer.execution} ended {answer.kind} and is recorded as {kept}"
        if not kept and not case.record_endangered(answer):
            yield f"{answer.execution} has no record"


def too_many_pods(case: Case) -> Iterator[str]:
    if case.evidence.pods_at_once > case.evidence.most_pods:
        yield f"{case.evidence.pods_at_once} pods at once, where {case.evidence.most_pods} are the most"


RULES: Final[Sequence[Callable[[Case], Iterator[str]]]] = (
    moves_that_may_not_be,
    leases_of_pods_that_a_lost_redis_knew,
    fences_that_do_not_grow,
    leases_that_nobody_gave_back,
    pods_that_went_under_a_lease,
    pods_that_served_more_than_they_may,
    programs_at_once_in_one_pod,
    programs_that_ran_elsewhere,
    programs_that_ran_twice,
    programs_that_ran_and_were_not_answered,
    answers_that_may_not_be,
    answers_lost_without_cause,
    programs_lost_without_cause,
    tools_that_failed_without_cause,
    records_that_are_not_as_answered,
    too_many_pods,
)

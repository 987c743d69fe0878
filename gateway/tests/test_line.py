"""The queue's decisions: tables, and properties over everything that may happen in any order."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from warmpool_gateway.line import EVIDENCE_SECONDS, DrainRate, IdleBelief, Line


def line_of(waiters: str, weights: dict[str, int] | None = None) -> Line[str]:
    """`"a1 a2 b1"`: the letter is the tenant."""
    line: Line[str] = Line()
    for waiter in waiters.split():
        line.join(waiter[0], waiter, (weights or {}).get(waiter[0], 1))
    return line


@pytest.mark.parametrize(
    ("waiters", "weights", "served"),
    [
        ("a1 a2 a3", {}, "a1 a2 a3"),
        ("a1 a2 a3 b1", {}, "a1 b1 a2 a3"),
        ("a1 a2 a3 b1 c1 b2", {}, "a1 b1 c1 a2 b2 a3"),
        ("a1 a2 a3 a4 b1 b2", {"a": 2}, "a1 a2 b1 a3 a4 b2"),
        ("a1 b1 b2 b3 b4 a2", {"b": 3}, "a1 b1 b2 b3 a2 b4"),
    ],
)
def test_tenants_take_turns(waiters, weights, served):
    assert line_of(waiters, weights).drain() == served.split()


def test_a_waiter_that_rejoins_is_next():
    line = line_of("a1 a2 b1 b2")
    first = line.next()
    line.rejoin("a", first, 0)
    assert line.drain() == ["a1", "b1", "a2", "b2"]


@pytest.mark.parametrize("back", ["a1 a2 a3", "a3 a2 a1", "a2 a3 a1"])
def test_waiters_that_rejoin_keep_their_order(back):
    line = line_of("a1 a2 a3 a4 a5")
    tickets = {line.next(): ticket for ticket in range(3)}
    for waiter in back.split():
        line.rejoin("a", waiter, tickets[waiter])
    assert line.drain() == ["a1", "a2", "a3", "a4", "a5"]


def test_whoever_left_is_not_served():
    line = line_of("a1 a2 b1")
    assert line.leave("a", "a1")
    assert not line.leave("a", "a1")
    assert not line.leave("z", "z1")
    assert line.drain() == ["a2", "b1"]


def test_nobody_is_next_in_an_empty_line():
    assert Line().next() is None


def test_tenants_that_are_left_out_keep_their_turn():
    line = line_of("a1 a2 b1 b2 c1")
    assert [line.next({"a"}), line.next({"a", "b"}), line.next({"a", "b"})] == ["b1", "c1", None]
    assert line.drain() == ["a1", "b2", "a2"]


tenants = st.sampled_from("abcd")
joins = st.lists(tenants, max_size=40)
weights = st.fixed_dictionaries({tenant: st.integers(1, 4) for tenant in "abcd"})


@given(joins, weights)
def test_everyone_is_served_once_and_each_tenant_in_order(tenants, weights):
    waiters = [f"{tenant}{number:02}" for number, tenant in enumerate(tenants)]
    line = line_of(" ".join(waiters), weights)
    assert len(line) == len(waiters)
    served = line.drain()
    assert sorted(served) == sorted(waiters)
    for tenant in "abcd":
        assert [w for w in served if w[0] == tenant] == [w for w in waiters if w[0] == tenant]
    assert len(line) == 0


@given(st.lists(tenants, min_size=1, max_size=40), weights, st.data())
def test_while_two_tenants_wait_neither_gets_more_than_its_turns(tenants, weights, data):
    line = line_of(" ".join(f"{tenant}{number:02}" for number, tenant in enumerate(tenants)), weights)
    left = Counter(tenants)
    turns: Counter[str] = Counter()
    while len(left) > 1:
        turns[waiter := line.next()[0]] += 1
        left[waiter] -= 1
        rounds = [turns[tenant] / weights[tenant] for tenant in left]
        assert max(rounds) - min(rounds) <= 1
        left += Counter()  # drops who has no waiter left
        if waiter not in left:
            break


@given(joins, weights, tenants)
def test_the_number_ahead_is_right_for_a_line_whose_round_begins(joined, weights, tenant):
    line = line_of(" ".join(f"{t}{n:02}" for n, t in enumerate(joined)), weights)
    expected = line.ahead_of(tenant, weights[tenant])
    line.join(tenant, "new", weights[tenant])
    really = line.drain().index("new")
    assert really <= expected <= really + sum(weights.values())


class BeliefAgainstWorld(RuleBasedStateMachine):
    """Pods, another gateway, and this one; calls, replies and pushes travel at their own pace."""

    def __init__(self) -> None:
        super().__init__()
        self.belief = IdleBelief()
        self.belief.counted(2)  # though another gateway took them in the meantime
        self.idle = 0
        self.ours = 0
        self.theirs = 0
        self.pushes = 0
        self.releasing: list[int] = []
        self.released: list[tuple[int, bool]] = []
        self.sent: list[int] = []
        self.replies: list[tuple[int, bool]] = []

    def push(self):
        self.pushes += 1
        self.idle += 1

    @rule()
    def a_pod_registers(self):
        self.push()

    @precondition(lambda self: self.idle)
    @rule()
    def another_gateway_acquires(self):
        self.idle -= 1
        self.theirs += 1

    @precondition(lambda self: self.theirs)
    @rule()
    def another_gateway_releases(self):
        self.theirs -= 1
        self.push()

    @precondition(lambda self: self.ours)
    @rule()
    def we_release(self):
        self.ours -= 1
        self.releasing.append(self.belief.releasing(0.0))

    @precondition(lambda self: self.releasing)
    @rule(idle=st.booleans())
    def redis_runs_a_release_of_ours(self, idle):  # before or after acquires that were sent later
        self.released.append((self.releasing.pop(), idle))
        if idle:
            self.push()

    @precondition(lambda self: self.released)
    @rule()
    def the_reply_to_a_release_arrives(self):
        release, idle = self.released.pop(0)
        self.belief.released(release, idle=idle)

    @precondition(lambda self: self.belief.likely > 0)
    @rule()
    def we_ask(self):
        self.sent.append(self.belief.attempt())

    @precondition(lambda self: self.sent)
    @rule()
    def redis_runs_our_oldest_acquire(self):
        token = self.sent.pop(0)
        found = self.idle > 0
        self.idle -= found
        self.replies.append((token, found))

    @precondition(lambda self: self.replies)
    @rule()
    def a_reply_arrives(self):
        token, found = self.replies.pop(0)
        if found:
            self.ours += 1
        else:
            self.belief.refuted(token)

    @precondition(lambda self: self.pushes)
    @rule()
    def a_push_arrives(self):
        self.pushes -= 1
        self.belief.pushed(0.0)

    @invariant()
    def an_idle_pod_is_never_forgotten(self):
        settled = not (self.pushes or self.sent or self.replies or self.releasing or self.released)
        if settled and self.idle:
            assert self.belief.likely > 0
        assert self.belief.likely >= 0


TestBelief = BeliefAgainstWorld.TestCase
TestBelief.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


def test_a_push_between_an_acquire_and_its_reply_still_gives_hope():
    belief = IdleBelief()
    belief.counted(1)
    attempt = belief.attempt()
    belief.pushed(0.0)
    belief.refuted(attempt)
    assert belief.likely == 1


def test_an_acquire_in_vain_takes_every_older_hope():
    belief = IdleBelief()
    belief.counted(5)
    belief.refuted(belief.attempt())
    assert belief.likely == 0


def test_a_release_that_an_acquire_overtook_still_gives_hope():
    belief = IdleBelief()
    release = belief.releasing(0.0)
    belief.refuted(belief.attempt())
    belief.released(release, idle=True)
    assert belief.likely == 1
    assert not belief.pushed(0.0)


def test_an_acquire_in_vain_from_before_a_release_says_nothing_of_its_pod():
    belief = IdleBelief()
    belief.counted(1)
    earlier = belief.attempt()
    release = belief.releasing(0.0)
    belief.attempt()  # takes the released pod
    belief.refuted(earlier)
    belief.released(release, idle=True)
    assert belief.likely == 0


def test_a_release_of_our_own_is_counted_once():
    belief = IdleBelief()
    belief.releasing(1.0)
    assert not belief.pushed(1.01)
    assert belief.likely == 1


def test_a_push_long_after_a_release_is_another_gateways():
    belief = IdleBelief()
    belief.releasing(1.0)
    assert belief.pushed(2.0)
    assert belief.likely == 2


def test_a_count_raises_hope_and_never_lowers_it():
    belief = IdleBelief()
    belief.counted(3)
    belief.counted(1)
    assert belief.likely == 3


def test_no_wait_is_called_long_without_evidence():
    drain = DrainRate()
    assert drain.seconds_for(1000, 0.0) == 0.0
    drain.began(0.0)
    assert drain.seconds_for(1000, EVIDENCE_SECONDS - 0.01) == 0.0


@pytest.mark.parametrize("rate", [0.5, 10.0, 400.0])
def test_a_steady_rate_is_found(rate):
    drain = DrainRate()
    drain.began(0.0)
    for number in range(int(20 * rate)):
        drain.served(number / rate)
    waiters = round(10 * rate)
    assert drain.seconds_for(waiters, 20.0) == pytest.approx(10.0, rel=0.35)


def test_a_line_that_stopped_moving_is_noticed():
    drain = DrainRate()
    drain.began(0.0)
    for number in range(100):
        drain.served(number / 100)
    soon, later = drain.seconds_for(10, 2.0), drain.seconds_for(10, 60.0)
    assert soon < 1 < 30 < later


def test_an_empty_line_forgets():
    drain = DrainRate()
    drain.began(0.0)
    drain.ended()
    assert drain.seconds_for(10, 60.0) == 0.0

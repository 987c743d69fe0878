"""How fast pods are made, and how much slower after failures."""

from warmpool_operator.pace import BACK_OFF_SECONDS, BURST, PER_NODE, PER_SECOND, TRIAL_SECONDS, UNPROVEN, Pace
from warmpool_operator.status import Trouble

QUOTA = Trouble("QuotaExceeded", "exceeded quota")
CRASH = Trouble("PodsCrashing", "Exit1")
NODES = 1000
"""So many that they bound nothing."""


def proven() -> Pace:
    pace = Pace()
    pace.served()
    return pace


def test_of_a_template_that_has_never_served_a_few_pods_are_made_first() -> None:
    pace = Pace()

    assert pace.may_create(0, NODES, now=0.0) == UNPROVEN
    assert pace.may_create(3, NODES, now=0.0) == UNPROVEN - 3
    pace.served()
    assert pace.may_create(3, NODES, now=0.0) == BURST


def test_pods_are_made_at_a_steady_rate_after_a_burst() -> None:
    pace = proven()
    assert pace.may_create(0, NODES, now=10.0) == BURST
    for _ in range(BURST):
        pace.taken(now=10.0)

    assert pace.may_create(0, NODES, now=10.0) == 0
    assert pace.may_create(0, NODES, now=11.0) == PER_SECOND
    assert pace.may_create(0, NODES, now=1000.0) == BURST


def test_no_more_start_at_once_than_their_nodes_can_start() -> None:
    pace = proven()

    assert pace.may_create(0, nodes=1, now=0.0) == PER_NODE
    assert pace.may_create(3, nodes=2, now=0.0) == 2 * PER_NODE - 3
    assert pace.may_create(PER_NODE + 1, nodes=1, now=0.0) == 0


def test_a_pool_that_is_on_no_node_yet_begins_as_if_it_were_on_one() -> None:
    assert proven().may_create(0, nodes=0, now=0.0) == PER_NODE


def test_each_failure_of_one_cause_makes_the_wait_longer() -> None:
    pace, now = proven(), 0.0
    for seconds in (*BACK_OFF_SECONDS, BACK_OFF_SECONDS[-1]):
        pace.refused(QUOTA, now)
        assert pace.may_create(0, NODES, now + seconds - 0.01) == 0
        now += seconds
        assert pace.may_create(0, NODES, now) == 1


def test_causes_have_waits_of_their_own() -> None:
    pace = proven()
    for _ in range(5):
        pace.refused(QUOTA, now=0.0)
    pace.crashed(CRASH, now=100.0)

    assert pace.may_create(0, NODES, now=100.0 + BACK_OFF_SECONDS[0]) == 1


def test_after_a_failure_pods_are_made_one_by_one_until_one_serves() -> None:
    pace = proven()
    pace.crashed(CRASH, now=0.0)

    assert pace.may_create(0, NODES, now=50.0) == 1
    pace.taken(now=50.0)
    assert pace.may_create(1, NODES, now=51.0) == 0
    pace.served()
    assert pace.may_create(1, NODES, now=51.0) >= BURST - 1
    assert pace.trouble is None


def test_a_pod_that_never_comes_up_keeps_no_other_from_being_tried_after_a_failure() -> None:
    pace = proven()
    pace.crashed(CRASH, now=0.0)

    assert pace.may_create(1, NODES, now=BACK_OFF_SECONDS[0]) == 1, "beside the one that was stuck before"
    pace.taken(now=10.0)
    assert pace.may_create(2, NODES, now=9.9 + TRIAL_SECONDS) == 0
    assert pace.may_create(2, NODES, now=10.0 + TRIAL_SECONDS) == 1, "that one is stuck as well"


def test_a_refusal_is_over_once_a_pod_is_taken_and_a_crash_only_once_one_serves() -> None:
    pace = proven()
    pace.refused(QUOTA, now=0.0)
    pace.taken(now=0.0)
    assert pace.may_create(1, NODES, now=0.0) == BURST - 1

    pace.crashed(CRASH, now=0.0)
    pace.taken(now=49.0)
    assert pace.may_create(1, NODES, now=50.0) == 0

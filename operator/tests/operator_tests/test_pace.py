"""How fast pods are made, and how much slower after failures."""

from warmpool_operator.pace import BACK_OFF_SECONDS, BURST, PER_SECOND, UNPROVEN, Pace
from warmpool_operator.status import Trouble

QUOTA = Trouble("QuotaExceeded", "exceeded quota")
CRASH = Trouble("PodsCrashing", "Exit1")


def proven() -> Pace:
    pace = Pace()
    pace.served()
    return pace


def test_of_a_template_that_has_never_served_a_few_pods_are_made_first() -> None:
    pace = Pace()

    assert pace.may_create(0, now=0.0) == UNPROVEN
    assert pace.may_create(3, now=0.0) == UNPROVEN - 3
    pace.served()
    assert pace.may_create(3, now=0.0) == BURST


def test_pods_are_made_at_a_steady_rate_after_a_burst() -> None:
    pace = proven()
    assert pace.may_create(0, now=10.0) == BURST
    for _ in range(BURST):
        pace.taken()

    assert pace.may_create(0, now=10.0) == 0
    assert pace.may_create(0, now=11.0) == PER_SECOND
    assert pace.may_create(0, now=1000.0) == BURST


def test_each_failure_of_one_cause_makes_the_wait_longer() -> None:
    pace, now = proven(), 0.0
    for seconds in (*BACK_OFF_SECONDS, BACK_OFF_SECONDS[-1]):
        pace.refused(QUOTA, now)
        assert pace.may_create(0, now + seconds - 0.01) == 0
        now += seconds
        assert pace.may_create(0, now) == 1


def test_causes_have_waits_of_their_own() -> None:
    pace = proven()
    for _ in range(5):
        pace.refused(QUOTA, now=0.0)
    pace.crashed(CRASH, now=100.0)

    assert pace.may_create(0, now=100.0 + BACK_OFF_SECONDS[0]) == 1


def test_after_a_failure_pods_are_made_one_by_one_until_one_serves() -> None:
    pace = proven()
    pace.crashed(CRASH, now=0.0)

    assert pace.may_create(0, now=50.0) == 1
    assert pace.may_create(1, now=50.0) == 0
    pace.served()
    assert pace.may_create(1, now=50.0) == BURST
    assert pace.trouble is None


def test_a_refusal_is_over_once_a_pod_is_taken_and_a_crash_only_once_one_serves() -> None:
    pace = proven()
    pace.refused(QUOTA, now=0.0)
    pace.taken()
    assert pace.may_create(1, now=0.0) == BURST - 1

    pace.crashed(CRASH, now=0.0)
    pace.taken()
    assert pace.may_create(1, now=50.0) == 0

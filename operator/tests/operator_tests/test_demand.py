"""From what gateways count to the size of a pool."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmpool.registry import Demand
from warmpool_operator.demand import WINDOW_SECONDS, Autoscale, Load, Meter, Size

AUTOSCALE = Autoscale(least=2, most=20, spare=1, cool_down_seconds=60.0)


def test_the_load_is_arrivals_times_hold_of_all_gateways_and_those_that_wait() -> None:
    meter = Meter()
    meter.read({"g1": Demand(), "g2": Demand()}, now=0.0)

    load = meter.read(
        {
            "g1": Demand(arrivals=20, releases=10, held_seconds=5.0, waiting=3),
            "g2": Demand(arrivals=10, releases=10, held_seconds=15.0),
        },
        now=10.0,
    )

    assert load == Load(arrivals_per_second=3.0, hold_seconds=1.0, waiting=3)
    assert load.pods == 6.0


def test_a_gateway_that_is_seen_for_the_first_time_brings_no_past() -> None:
    meter = Meter()
    meter.read({}, now=0.0)

    assert meter.read({"g1": Demand(arrivals=1000)}, now=10.0).arrivals_per_second == 0.0
    assert meter.read({"g1": Demand(arrivals=1010)}, now=10.0).arrivals_per_second == 1.0


def test_a_gateway_that_starts_again_counts_from_nought() -> None:
    meter = Meter()
    meter.read({"g1": Demand(arrivals=1000)}, now=0.0)

    assert meter.read({"g1": Demand(arrivals=5)}, now=10.0).arrivals_per_second == 0.5


def test_a_gateway_that_died_waits_for_nothing() -> None:
    assert Meter().read({"g1": Demand(waiting=9, age_seconds=5.0)}, now=0.0).waiting == 0


def test_what_was_long_ago_is_no_load() -> None:
    meter = Meter()
    meter.read({"g1": Demand()}, now=0.0)
    meter.read({"g1": Demand(arrivals=100, releases=100, held_seconds=100)}, now=5.0)
    meter.read({"g1": Demand(arrivals=100, releases=100, held_seconds=100)}, now=5.0 + WINDOW_SECONDS)

    load = meter.read({"g1": Demand(arrivals=100, releases=100, held_seconds=100)}, now=6.0 + WINDOW_SECONDS)

    assert load.pods == 0.0


@pytest.mark.parametrize(
    ("load", "leased", "size"),
    [
        (Load(), 0, 2),
        (Load(arrivals_per_second=10, hold_seconds=0.55), 0, 7),
        (Load(waiting=4), 6, 11),
        (Load(waiting=400), 6, 20),
    ],
    ids=["none", "arrivals times hold", "leased and waiting", "beyond the maximum"],
)
def test_a_pool_is_as_large_as_its_load_and_the_spare_within_its_bounds(load: Load, leased: int, size: int) -> None:
    assert Size().of(AUTOSCALE, load, leased, now=0.0) == size


def test_a_pool_grows_at_once_and_shrinks_after_the_cool_down() -> None:
    size = Size()

    assert size.of(AUTOSCALE, Load(waiting=9), 0, now=0.0) == 10
    assert size.of(AUTOSCALE, Load(), 0, now=59.0) == 10
    assert size.of(AUTOSCALE, Load(), 0, now=60.0) == 2


def test_an_operator_that_takes_over_keeps_the_size_for_one_cool_down() -> None:
    size = Size.starting_at(12, now=0.0)

    assert size.of(AUTOSCALE, Load(), 0, now=1.0) == 12
    assert size.of(AUTOSCALE, Load(), 0, now=61.0) == 2


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 40)), min_size=1, max_size=40))
def test_the_size_is_the_highest_asked_for_within_the_cool_down(steps: list[tuple[float, int]]) -> None:
    size, now, asked = Size(), 0.0, []
    for seconds, leased in steps:
        now += seconds
        asked.append((now, max(2, min(20, leased + 1))))
        expected = max(one for at, one in asked if at > now - 60.0)
        assert size.of(AUTOSCALE, Load(), leased, now) == expected

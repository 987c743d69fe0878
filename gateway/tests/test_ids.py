import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmpool_gateway.ids import created_at, new_id

moments = st.integers(0, 2**47).map(lambda milliseconds: milliseconds / 1000)


@given(moments, moments)
def test_ids_sort_by_time_and_tell_it(one, other):
    first, second = sorted((one, other))
    assert created_at(new_id(first)) == pytest.approx(first, abs=0.0011)
    if int(first * 1000) != int(second * 1000):
        assert new_id(first) < new_id(second)


def test_ids_of_one_moment_differ():
    assert len({new_id(1.0) for _ in range(1000)}) == 1000


@pytest.mark.parametrize("text", ["", "exe_", "exe_" + "0" * 31, "exe_" + "0" * 33, "exe_" + "G" * 32, "x" * 36])
def test_what_is_no_id_has_no_time(text):
    with pytest.raises(ValueError):
        created_at(text)


def test_a_line_end_is_no_part_of_an_id():
    with pytest.raises(ValueError):
        created_at(new_id() + "\n")

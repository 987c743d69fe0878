"""What a program's value becomes as JSON, row by row of the table in the module's docstring."""

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import io
import json
import math
import pathlib
import typing
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmpool_sandbox import values
from warmpool_sandbox.values import MAX_DEPTH, NotJson, to_json


class Colour(enum.Enum):
    RED = "red"
    BLUE = 4


class Level(enum.IntEnum):
    LOW = 1


class Mode(enum.StrEnum):
    FAST = "fast"


class Size(str, enum.Enum):  # noqa: UP042  as programs wrote it before StrEnum
    LARGE = "large"


class Empty(enum.Enum):
    NOTHING = None


class Point(typing.NamedTuple):
    x: int
    y: float


@dataclasses.dataclass
class Order:
    number: int
    placed: datetime.date
    lines: list[Point]


class Words(str):
    pass


class Count(int):
    pass


class Share(float):
    pass


NOON = datetime.datetime(2026, 3, 1, 12, 30, tzinfo=datetime.UTC)
DAY = datetime.date(2026, 3, 1)
ID = uuid.UUID("12345678-1234-5678-1234-567812345678")
ROW = {"b": 1, "a": 2}

TABLE = [
    # dict with string, number, boolean, None, UUID, path, date or enum keys
    ({"a": 1}, {"a": 1}),
    ({1: "a", 1.5: "b"}, {"1": "a", "1.5": "b"}),
    ({True: 1, None: 2}, {"true": 1, "null": 2}),
    ({DAY: 1, NOON: 2}, {"2026-03-01": 1, "2026-03-01T12:30:00+00:00": 2}),
    ({Colour.RED: 1, Colour.BLUE: 2, Mode.FAST: 3}, {"red": 1, "4": 2, "fast": 3}),
    ({Size.LARGE: 1, Empty.NOTHING: 2}, {"large": 1, "null": 2}),
    ({decimal.Decimal("1.10"): 1, fractions.Fraction(1, 3): 2}, {"1.10": 1, "1/3": 2}),
    ({ID: 1, pathlib.Path("a/b"): 2}, {str(ID): 1, "a/b": 2}),
    (collections.Counter("aab"), {"a": 2, "b": 1}),
    (collections.defaultdict(list, a=[1]), {"a": [1]}),
    (collections.ChainMap({"a": 1}, {"b": 2}), {"a": 1, "b": 2}),
    # list, tuple, set, frozenset, range, dict views, generators
    ([1, [2]], [1, [2]]),
    ((1, 2), [1, 2]),
    ({3, 1, 2}, [1, 2, 3]),
    (frozenset("ba"), ["a", "b"]),
    (range(3), [0, 1, 2]),
    (ROW.keys(), ["b", "a"]),
    (ROW.values(), [1, 2]),
    (ROW.items(), [["b", 1], ["a", 2]]),
    ((n * n for n in range(3)), [0, 1, 4]),
    (map(str, [1, 2]), ["1", "2"]),
    (collections.deque([1, 2]), [1, 2]),
    # str, bool, None, int
    ("é\x00\u2028", "é\x00\u2028"),
    (True, True),
    (None, None),
    (10**40, 10**40),
    (-0, 0),
    (Words("a"), "a"),
    (Count(7), 7),
    # float
    (0.1, 0.1),
    (1e300, 1e300),
    (Share(0.5), 0.5),
    (math.nan, "NaN"),
    (math.inf, "Infinity"),
    (-math.inf, "-Infinity"),
    ({"a": [math.nan]}, {"a": ["NaN"]}),
    # Decimal, Fraction, UUID, Path
    (decimal.Decimal("12.30"), "12.30"),
    (fractions.Fraction(1, 3), "1/3"),
    (ID, "12345678-1234-5678-1234-567812345678"),
    (pathlib.Path("a/b.csv"), "a/b.csv"),
    # datetime, date, time, timedelta
    (NOON, "2026-03-01T12:30:00+00:00"),
    (DAY, "2026-03-01"),
    (datetime.time(12, 30), "12:30:00"),
    (datetime.timedelta(minutes=1.5), 90.0),
    # dataclass, named tuple
    (
        Order(1, DAY, [Point(1, 2.5)]),
        {"number": 1, "placed": "2026-03-01", "lines": [{"x": 1, "y": 2.5}]},
    ),
    (collections.namedtuple("Pair", "a b")(1, 2), {"a": 1, "b": 2}),
    # Enum
    (Colour.RED, "red"),
    (Level.LOW, 1),
    (Mode.FAST, "fast"),
    (Size.LARGE, "large"),
    (Empty.NOTHING, None),
    ([Colour.BLUE], [4]),
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), TABLE, ids=lambda value: repr(value)[:40])
def test_a_value_has_its_json_form(value, expected):
    assert json.loads(to_json(value)) == expected


def test_a_set_that_cannot_be_sorted_is_an_array_all_the_same():
    assert sorted(json.loads(to_json({1, "a", None})), key=str) == [1, None, "a"]


def test_order_and_digits_are_kept():
    assert to_json({"b": 1.0, "a": 123456789012345678901234567890}) == '{"b":1.0,"a":123456789012345678901234567890}'


class Mute:
    pass


@pytest.mark.parametrize(
    ("value", "message", "remedy"),
    [
        (Mute(), "result is of type Mute, which has no JSON form", "strings, numbers, lists and dicts"),
        ({"a": [1, Mute()]}, "result.a[1] is of type Mute", "strings, numbers, lists and dicts"),
        ([{"rows": {"x": b"\x00"}}], "result[0].rows.x is of type bytes", "decode it to a string"),
        (bytearray(b"a"), "result is of type bytearray", "decode it to a string"),
        (memoryview(b"a"), "result is of type memoryview", "strings, numbers"),
        (io.StringIO("a"), "result is of type StringIO", "strings, numbers"),
        (1 + 2j, "result is of type complex", "strings, numbers"),
        (print, "result is of type builtin_function_or_method", "strings, numbers"),
        (Order, "result is of type type", "strings, numbers"),
        (json, "result is of type module", "strings, numbers"),
        ({(1, 2): 3}, "result has a key of type tuple", "make the keys strings"),
        ({"a": {b"k": 1}}, "result.a has a key of type bytes", "make the keys strings"),
        ({1: "a", "1": "b"}, "result has two keys that both become '1' in JSON", "make the keys strings"),
        ({True: 1, "true": 2}, "result has two keys that both become 'true'", "make the keys strings"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_has_no_json_form_is_refused_by_its_place_and_type(value, message, remedy):
    with pytest.raises(NotJson) as refused:
        to_json(value)
    assert message in str(refused.value)
    assert remedy in refused.value.remedy


@pytest.mark.parametrize("in_a_key", [True, False])
def test_an_integer_of_too_many_digits_is_refused(in_a_key):
    number = 10**5000
    with pytest.raises(NotJson, match="has a number that cannot be written"):
        to_json({number: 1} if in_a_key else {1: number})


def test_what_a_generator_raises_is_its_own():
    with pytest.raises(ValueError, match="invalid literal"):
        to_json(int(text) for text in ["1", "a"])


def nested(levels: int) -> list:
    value: list = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_nesting_is_bounded():
    assert to_json(nested(MAX_DEPTH + 1)).count("[") == MAX_DEPTH + 1
    with pytest.raises(NotJson, match="nested deeper than 64 levels, or contains itself"):
        to_json(nested(MAX_DEPTH + 2))


def test_a_value_that_contains_itself_is_refused():
    value: list = []
    value.append(value)
    with pytest.raises(NotJson, match="contains itself"):
        to_json(value)


def test_a_value_that_raises_when_read_raises_its_own_error():
    with pytest.raises(ZeroDivisionError):
        to_json(1 / n for n in (1, 0))


def test_each_row_of_the_docstring_names_types_that_the_table_above_tries():
    rows = [line for line in (values.__doc__ or "").splitlines() if line.startswith("| ")]
    assert len(rows) == 9, "a row was added or removed: mend TABLE and this number"


decimals = st.decimals().filter(lambda number: not number.is_snan())  # a signaling NaN can be in no set
plain = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | decimals | st.fractions()
    | st.dates() | st.datetimes() | st.times() | st.timedeltas() | st.uuids() | st.complex_numbers() | st.binary()
    | st.sampled_from([*Colour, *Level, *Mode, *Size, *Empty])
)  # fmt: skip
keys = plain | st.tuples(st.integers())
anything = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(keys, inner, max_size=4)
        | st.sets(plain, max_size=4)
        | st.builds(Point, inner, inner)
        | st.builds(Order, inner, inner, inner)
        | st.lists(inner, max_size=3).map(iter)
    ),
    max_leaves=20,
)


@given(anything)
def test_any_value_becomes_valid_json_or_is_refused(value):
    try:
        text = to_json(value)
    except NotJson:
        return
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_a_value_of_json_types_is_itself(value):
    assert json.loads(to_json(value)) == value


def test_a_set_whose_members_cannot_be_compared_is_a_list_in_some_order() -> None:
    mixed = {decimal.Decimal("NaN"), decimal.Decimal(1)}

    assert sorted(json.loads(to_json(mixed))) == ["1", "NaN"]

"""Rows keep their line numbers through quoted line ends, and one broken row costs only itself."""

import io
import itertools
from collections.abc import Iterator

import pytest

from servers.catalogue.csv_rows import Cells, CsvRows
from servers.catalogue.rows import BadRow, UnreadableFile


def rows(text: str) -> list[tuple[int, str]]:
    """Line and first cell, or line and reason."""
    read = CsvRows(io.StringIO(text, newline=""), [("A",)])
    return [(row.line, row["A"] if isinstance(row, Cells) else row.reason) for row in read]


def test_a_row_is_known_by_the_line_it_starts_on() -> None:
    assert rows('A,B\n1,"x\ny\nz"\n2,b\n\n"3\n",c\n4,d') == [(2, "1"), (5, "2"), (7, "3\n"), (9, "4")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_end_counts(end: str) -> None:
    assert rows(f"A,B{end}1,x{end}2,y{end}") == [(2, "1"), (3, "2")]


def test_a_quote_that_is_never_closed_costs_its_row_only() -> None:
    assert rows('A,B\n1,x\n2,"open\n3,y\n4,z\n') == [
        (2, "1"),
        (3, "a quoted value that starts on this line is not closed, or is above 128 KiB"),
        (4, "3"),
        (5, "4"),
    ]


def test_a_stray_quote_costs_its_row_only() -> None:
    found = rows('A,B\n1,"a"b\n2,y\n')
    assert found[0][0] == 2
    assert found[0][1].startswith("not CSV: ")
    assert found[1:] == [(3, "2")]


def test_a_value_above_the_limit_costs_its_row_only() -> None:
    found = rows(f'A,B\n1,"{"x" * 200_000}"\n2,y\n')
    assert [line for line, _ in found] == [2, 3]
    assert "above 128 KiB" in found[0][1]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [("a\0b", "b: holds a NUL character"), ("caf\udce9", "b: is not UTF-8; export the file as UTF-8")],
)
def test_what_the_database_cannot_hold_is_told_by_column(cell: str, reason: str) -> None:
    assert rows(f"A,B\n1,{cell}\n2,y\n") == [(2, reason), (3, "2")]


def test_too_many_values_are_told() -> None:
    assert rows("A,B\n1,2,3\n") == [(2, "3 values for 2 columns; is a value with a comma not quoted?")]


def test_missing_values_are_empty() -> None:
    (row,) = CsvRows(io.StringIO("A,B\n1\n"), [("A",)])
    assert isinstance(row, Cells)
    assert (row["B"], row["No such column"]) == ("", "")


def test_columns_are_known_in_any_case_and_by_other_names() -> None:
    (row,) = CsvRows(io.StringIO(" sku ,URL Handle\n1,h\n"), [("SKU",), ("Handle",)], {"url handle": "handle"})
    assert isinstance(row, Cells)
    assert (row["SKU"], row["HANDLE"]) == ("1", "h")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has no column A"),
        ("B,C\n1,2\n", "has no column A"),
        ("A;B\n1;2\n", "separated by semicolons"),
        ('"A\n', "not a CSV header"),
    ],
)
def test_a_header_that_lacks_a_column_is_refused(text: str, reason: str) -> None:
    with pytest.raises(UnreadableFile, match=reason):
        CsvRows(io.StringIO(text), [("A",)])


class Endless(io.StringIO):
    """A file that is longer than any memory, and counts what was read of it."""

    def __init__(self, lines: Iterator[str]) -> None:
        super().__init__()
        self.lines = lines
        self.taken = 0

    def readline(self, size: int | None = -1, /) -> str:
        self.taken += 1
        return next(self.lines, "")


def test_rows_are_read_one_by_one() -> None:
    file = Endless(itertools.chain(["A,B\n"], (f"{n},x\n" for n in itertools.count())))
    read = iter(CsvRows(file, [("A",)]))
    for _ in range(1000):
        next(read)
    assert file.taken < 1010


def test_an_open_quote_does_not_read_the_whole_file() -> None:
    file = Endless(itertools.chain(["A,B\n", '1,"open\n'], (f"{n},{'x' * 100}\n" for n in itertools.count())))
    assert isinstance(next(iter(CsvRows(file, [("A",)]))), BadRow)
    assert file.taken < 2000

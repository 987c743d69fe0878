"""CSV as shops write it, row by row, each with the number of the line where it starts.

Memory stays flat whatever the file holds: a quote that is never closed costs one row, which is
reported; reading goes on with the line after it.
"""

import csv
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TextIO

from servers.catalogue.rows import BadRow, UnreadableFile


class Cells:
    """The cells of one row by column name, without regard to case; a column that is not there is empty."""

    __slots__ = ("_row", "line")

    def __init__(self, line: int, row: Mapping[str, str]) -> None:
        self.line = line
        self._row = row

    def __getitem__(self, column: str) -> str:
        return self._row.get(column.casefold(), "")


class CsvRows:
    """Iterates over `Cells` and `BadRow`. Raises UnreadableFile where the header lacks a required column.

    `required` holds alternatives: of each group one column must be there. `aliases` gives a column's
    other names, in lower case.
    """

    def __init__(
        self, file: TextIO, required: Sequence[Sequence[str]], aliases: Mapping[str, str] | None = None
    ) -> None:
        self._file = file
        self._aliases = aliases or {}
        self._waiting: deque[str] = deque()
        self._taken: list[str] = []
        self._line = 0
        self._reader = csv.reader(self._lines(), strict=True)
        self.columns = self._header(required)

    def __iter__(self) -> Iterator[Cells | BadRow]:
        while True:
            self._taken.clear()
            start = self._line + 1
            try:
                values = next(self._reader)
            except StopIteration:
                return
            except csv.Error as fault:
                yield BadRow(start, self._give_back(fault))
                continue
            if any(values):
                yield self._row(start, values)

    def _lines(self) -> Iterator[str]:
        # csv.reader must be able to go on after an error, so this iterator never ends by an exception.
        while True:
            line = self._waiting.popleft() if self._waiting else self._file.readline()
            if not line:
                return
            self._line += 1
            self._taken.append(line)
            yield line

    def _give_back(self, fault: csv.Error) -> str:
        """Everything after the row's first line is read again, as rows of its own."""
        again = self._taken[1:]
        self._waiting.extendleft(reversed(again))
        self._line -= len(again)
        self._reader = csv.reader(self._lines(), strict=True)
        if "unexpected end" in str(fault) or "field larger" in str(fault):
            return "a quoted value that starts on this line is not closed, or is above 128 KiB"
        return f"not CSV: {fault}; a quote inside a quoted value is written twice"

    def _row(self, start: int, values: list[str]) -> Cells | BadRow:
        if len(values) > len(self.columns):
            return BadRow(
                start, f"{len(values)} values for {len(self.columns)} columns; is a value with a comma not quoted?"
            )
        for column, value in zip(self.columns, values, strict=False):
            if "\0" in value:
                return BadRow(start, f"{column}: holds a NUL character")
            if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
                return BadRow(start, f"{column}: is not UTF-8; export the file as UTF-8")
        return Cells(start, dict(zip(self.columns, values, strict=False)))

    def _header(self, required: Sequence[Sequence[str]]) -> list[str]:
        try:
            names = [name.strip().casefold() for name in next(self._reader, [])]
        except csv.Error as fault:
            raise UnreadableFile(f"the first line is not a CSV header: {fault}") from fault
        columns = [self._aliases.get(name, name) for name in names]
        missing = [" or ".join(group) for group in required if not {name.casefold() for name in group} & set(columns)]
        if missing:
            hint = "; it seems to be separated by semicolons, not commas" if len(names) == 1 and ";" in names[0] else ""
            raise UnreadableFile(f"the header has no column {', '.join(missing)}{hint}")
        return columns

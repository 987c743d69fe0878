"""What a run says of itself while it goes on, and at its end."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from chaos.callers import Callers
from chaos.storm import Storm

LINE_SECONDS: Final = 15.0
"""Between two lines of progress where no terminal shows one that is always up to date."""
LOOK_SECONDS: Final = 0.5
COMPLAINTS_SHOWN: Final = 40


class Teller:
    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False)
        self._began = time.monotonic()

    def say(self, what: str) -> None:
        """One line, with the time since the beginning."""
        seconds = time.monotonic() - self._began
        self._console.print(f"{seconds // 60:3.0f}:{seconds % 60:04.1f}  {what}", soft_wrap=True)

    def begin(self) -> None:
        self._began = time.monotonic()

    async def show(self, callers: Callers, storm: Storm) -> None:
        """The line of progress; until cancelled."""
        if not self._console.is_terminal:
            while True:
                await asyncio.sleep(LINE_SECONDS)
                self.say(_progress(callers, storm))
        with self._console.status("") as status:
            while True:
                status.update(_progress(callers, storm))
                await asyncio.sleep(LOOK_SECONDS)

    def conclude(self, callers: Callers, storm: Storm, wrong: Sequence[str]) -> None:
        faults, ends = Table("fault", "times"), Table("program ended", "times")
        for name, times in sorted(storm.by_kind.items()):
            faults.add_row(name, str(times))
        for kind, times in callers.kinds.most_common():
            ends.add_row(kind, str(times))
        self._console.print(faults, ends)
        for complaint in wrong[:COMPLAINTS_SHOWN]:
            self._console.print(f"WRONG: {complaint}", soft_wrap=True)
        if len(wrong) > COMPLAINTS_SHOWN:
            self._console.print(f"... and {len(wrong) - COMPLAINTS_SHOWN} more")


def _progress(callers: Callers, storm: Storm) -> str:
    ends = ", ".join(f"{times} {kind}" for kind, times in callers.kinds.most_common())
    return f"faults: {storm.by_kind.total()}; programs: {ends}; longest without one: {callers.longest_without_ok:.1f} s"

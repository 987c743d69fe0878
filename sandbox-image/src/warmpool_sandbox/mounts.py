"""What is mounted, as this process sees it."""

from collections.abc import Iterator
from pathlib import Path


def below(folder: Path) -> int:
    """How many mounts there are at `folder` and below it."""
    return sum(1 for point, _ in _mounts() if point.startswith(str(folder)))


def file_system(folder: Path) -> str | None:
    """The type of the file system that is mounted at `folder`; None where none is."""
    found = [kind for point, kind in _mounts() if point == str(folder)]
    return found[-1] if found else None


def _mounts() -> Iterator[tuple[str, str]]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            mount, _, source = line.partition(" - ")
            yield mount.split(" ")[4], source.split(" ")[0]

"""Reads of /proc about single processes and the trees below them. Sums nothing up: meter.py does."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_TICK_SECONDS: Final = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Times:
    """Of one process; a zombie has its last ones."""

    started: int
    """In ticks since boot: with the pid it names a process for good."""
    own_seconds: float
    children_seconds: float
    """Of the children that it waited for."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one process, by kind."""

    anonymous_bytes: int
    other_bytes: int
    """Shared and huge pages, what is swapped out, and the page tables."""


def descendants(pid: int) -> Iterator[int]:
    """Every process below `pid`, parents first; those that end meanwhile are left out."""
    pending = _children(pid)
    while pending:
        child = pending.pop()
        yield child
        pending.extend(_children(child))


def times(pid: int) -> Times:
    """Raises OSError where the process is gone."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    own, children = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
    return Times(int(fields[19]), own * _TICK_SECONDS, children * _TICK_SECONDS)


def memory(pid: int) -> Memory:
    """Raises OSError where the process is gone, KeyError for a zombie."""
    fields = _living_status(pid)
    other = ("RssShmem", "HugetlbPages", "VmSwap", "VmPTE")
    return Memory(_kibibytes(fields["RssAnon"]), sum(_kibibytes(fields[name]) for name in other))


def proportional_bytes(pid: int) -> int:
    """Anonymous pages, each divided by the number of those that share it: exact, and four times as costly to read.

    Raises OSError where the process is gone.
    """
    task = _living_status(pid)["Pid"]
    with open(f"/proc/{pid}/task/{task}/smaps_rollup", encoding="ascii", errors="replace") as file:
        fields = dict(line.rstrip("\n").partition(":")[::2] for line in file)
    return _kibibytes(fields["Pss_Anon"])


def open_files(pid: int) -> Iterator[os.stat_result]:
    """What a process holds open, each of its threads in a table of its own if it likes.

    Those that it closes meanwhile are left out.
    """
    for task in _listed(f"/proc/{pid}/task"):
        for number in _listed(f"/proc/{pid}/task/{task}/fd"):
            try:
                yield os.stat(f"/proc/{pid}/task/{task}/fd/{number}")
            except OSError:
                continue


def anonymous_bytes(pid: int) -> int:
    return _kibibytes(_status(pid)["RssAnon"])


def resident_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/statm", "rb") as file:
        return int(file.read().split()[1]) * _PAGE_BYTES


def tasks_of_user(uid: int) -> int:
    """Tasks of a user in this view of /proc, as RLIMIT_NPROC counts them."""
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}").st_uid == uid or _real_uid(int(name)) == uid:
                    count += int(_status(int(name))["Threads"])
            except (OSError, KeyError):
                continue
    return count


def _real_uid(pid: int) -> int:
    return int(_status(pid)["Uid"].split()[0])


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in _listed(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found.extend(int(child) for child in file.read().split())
        except OSError:
            continue
    return found


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _living_status(pid: int) -> dict[str, str]:
    """That of a thread which lives: once a process's first thread has ended, its own status says nothing more."""
    fields = _status(pid)
    for task in _listed(f"/proc/{pid}/task") if "RssAnon" not in fields else ():
        try:
            fields = _status(pid, task)
        except OSError:
            continue
        if "RssAnon" in fields:
            break
    return fields


def _status(pid: int, task: int | str | None = None) -> dict[str, str]:
    with open(f"/proc/{pid}/task/{task or pid}/status", encoding="utf-8", errors="replace") as file:
        return dict(line.rstrip("\n").partition(":\t")[::2] for line in file)


def _kibibytes(value: str) -> int:
    return int(value.split()[0]) * 1024

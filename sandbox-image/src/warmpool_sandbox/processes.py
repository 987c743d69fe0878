"""Reads of /proc about the processes below a zygote: how many, how much memory and processor time."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_TICK_SECONDS: Final = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Tree:
    """The sum over a process tree at one moment."""

    processes: int
    tasks: int
    memory_bytes: int
    cpu_seconds: float


def descendants(pid: int) -> Iterator[int]:
    """Every process below `pid`, parents first; those that end meanwhile are left out."""
    pending = _children(pid)
    while pending:
        child = pending.pop()
        yield child
        pending.extend(_children(child))


def measure(root: int, shared_bytes: int) -> Tree:
    """The tree below `root`. `shared_bytes` per process are the root's own pages, which forks share until written."""
    processes, tasks, memory, cpu = 0, 0, 0, 0.0
    for pid in descendants(root):
        try:
            fields = _status(pid)
            times = _stat(pid)
        except (OSError, ValueError, IndexError):
            continue
        if "VmRSS" not in fields:  # a zombie
            continue
        processes += 1
        tasks += int(fields["Threads"])
        memory += max(0, _kibibytes(fields["RssAnon"]) - shared_bytes) + _kibibytes(fields["RssShmem"])
        cpu += times
    return Tree(processes, tasks, memory, cpu)


def anonymous_bytes(pid: int) -> int:
    return _kibibytes(_status(pid)["RssAnon"])


def resident_bytes(pid: int) -> int:
    return _kibibytes(_status(pid)["VmRSS"])


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
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found.extend(int(child) for child in file.read().split())
    except OSError:
        return found
    return found


def _status(pid: int) -> dict[str, str]:
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        return dict(line.rstrip("\n").partition(":\t")[::2] for line in file)


def _stat(pid: int) -> float:
    """Seconds of this process and of the children it waited for."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return sum(int(value) for value in fields[11:15]) * _TICK_SECONDS


def _kibibytes(value: str) -> int:
    return int(value.split()[0]) * 1024

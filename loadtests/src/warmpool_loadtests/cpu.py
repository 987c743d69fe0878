"""Processor seconds and memory of processes, from /proc: what a benchmark charges to whom."""

import os
from collections.abc import Iterable
from typing import Final

_TICK_SECONDS: Final = 1 / os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes and of the children that each has waited for."""
    return sum(_times(pid) for pid in pids)


def _times(pid: int) -> float:
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return sum(int(value) for value in fields[11:15]) * _TICK_SECONDS


def family(pid: int) -> list[int]:
    """The process and all below it."""
    found = [pid]
    for parent in found:
        for task in os.listdir(f"/proc/{parent}/task"):
            with open(f"/proc/{parent}/task/{task}/children", "rb") as file:
                found.extend(int(child) for child in file.read().split())
    return found


def memory_bytes(pid: int) -> tuple[int, int]:
    """(RSS, PSS) of one process."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        fields = {line.split(":")[0]: line.split()[1] for line in file if line.endswith("kB\n")}
    return int(fields["Rss"]) * 1024, int(fields["Pss"]) * 1024

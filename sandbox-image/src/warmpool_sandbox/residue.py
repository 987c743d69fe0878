"""Looks for what a program may have left behind, once its processes are gone and its scratch is wiped.

What is found makes the pod dirty: it is retired, never cleaned by hope.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from warmpool_sandbox import mounts, processes
from warmpool_sandbox.scratch import Scratch


@dataclass(frozen=True, slots=True)
class Baseline:
    """How a zygote looks before its first program."""

    zygote: int
    descriptors: int
    mounts: int
    sysv_objects: int


def baseline(zygote: int, scratch: Path) -> Baseline:
    return Baseline(zygote, _descriptors(zygote), mounts.below(scratch), _sysv_objects())


def check(before: Baseline, scratch: Scratch) -> tuple[str, ...]:
    """What is left, in words; empty when clean."""
    found: list[str] = []
    left = sum(1 for _ in processes.descendants(before.zygote))
    if left:
        found.append(f"processes: {left} still run")
    if not scratch.is_empty():
        found.append("files: scratch is not empty")
    if mounts.below(scratch.path) != before.mounts:
        found.append("mounts: below scratch they changed")
    if _sysv_objects() > before.sysv_objects:
        found.append("System V objects: more than before")
    descriptors = _descriptors(before.zygote)
    if descriptors != before.descriptors:
        found.append(f"sockets and files: the zygote holds {descriptors} descriptors, {before.descriptors} before")
    if len(os.listdir(f"/proc/{before.zygote}/task")) != 1:
        found.append("threads: the zygote has more than one")
    return tuple(found)


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _sysv_objects() -> int:
    """System V objects of this user. Absent where the kernel has none."""
    uid, count = str(os.getuid()), 0
    for kind in ("shm", "sem", "msg"):
        try:
            with open(f"/proc/sysvipc/{kind}", encoding="ascii") as file:
                header = file.readline().split()
                column = header.index("uid")
                count += sum(1 for line in file if line.split()[column] == uid)
        except (OSError, ValueError):
            continue
    return count

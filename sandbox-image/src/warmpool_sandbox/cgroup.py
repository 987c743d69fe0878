"""The container's own control group: the limits that the kubelet set, and what counts against them.

A container sees its own group at the root of each hierarchy, in version 1 and in version 2. Elsewhere what stands
there is the machine's, so this is for pods only.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

ROOT: Final = Path("/sys/fs/cgroup")
_NO_LIMIT_BYTES: Final = 1 << 60
"""Version 1 says 2^63 rounded down to a page where there is no limit."""


@dataclass(frozen=True, slots=True)
class Limits:
    """None where there is no limit, or it cannot be read."""

    memory_bytes: int | None
    cpus: float | None

    @classmethod
    def read(cls, root: Path = ROOT) -> Self:
        if (root / "cgroup.controllers").exists():
            quota, _, period = _text(root / "cpu.max").partition(" ")
            return cls(_bytes(_text(root / "memory.max")), _cpus(quota, period))
        cpu = root / "cpu" if (root / "cpu").exists() else root / "cpu,cpuacct"
        quota, period = _text(cpu / "cpu.cfs_quota_us"), _text(cpu / "cpu.cfs_period_us")
        return cls(_bytes(_text(root / "memory" / "memory.limit_in_bytes")), _cpus(quota, period))


class MemoryUse:
    """What is charged to the group.

    It includes what no process's figures have: page tables and kernel stacks, some 14 MB where thirty processes map
    much, and the files of a tmpfs with their inodes.
    """

    def __init__(self, root: Path = ROOT) -> None:
        """Raises OSError where there is no such group."""
        second = (root / "cgroup.controllers").exists()
        folder = root if second else root / "memory"
        usage = "memory.current" if second else "memory.usage_in_bytes"
        prefix = "" if second else "total_"
        self._fields = (f"{prefix}inactive_file".encode(), f"{prefix}active_file".encode())
        self._usage = os.open(folder / usage, os.O_RDONLY | os.O_CLOEXEC)
        self._stat = os.open(folder / "memory.stat", os.O_RDONLY | os.O_CLOEXEC)

    def charged_bytes(self) -> int:
        """All of it; one pread."""
        return int(os.pread(self._usage, 32, 0))

    def held_bytes(self) -> int:
        """Without the pages of files on disks, which the kernel takes back before it ends anything."""
        charged = self.charged_bytes()
        lines = (line.partition(b" ") for line in os.pread(self._stat, 8192, 0).split(b"\n"))
        return charged - sum(int(value) for name, _, value in lines if name in self._fields)


class CpuUse:
    """Processor time that was used in the group, by whatever runs there."""

    def __init__(self, root: Path = ROOT) -> None:
        """Raises OSError where there is no such group."""
        self._is_second = (root / "cgroup.controllers").exists()
        file = root / "cpu.stat" if self._is_second else root / "cpuacct" / "cpuacct.usage"
        self._file = os.open(file, os.O_RDONLY | os.O_CLOEXEC)

    def seconds(self) -> float:
        text = os.pread(self._file, 64, 0)
        return int(text.split(None, 2)[1]) / 1e6 if self._is_second else int(text) / 1e9


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _bytes(text: str) -> int | None:
    return int(text) if text.isdecimal() and int(text) < _NO_LIMIT_BYTES else None


def _cpus(quota: str, period: str) -> float | None:
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None

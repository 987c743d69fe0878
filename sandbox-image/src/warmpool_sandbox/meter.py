"""What the tree of one program holds and has used, look by look.

Counts from the outside what a program could hide: memory in page tables, in the kernel's buffers and in rewritten
pages of the zygote; time of processes that ended and were waited for by nobody; files that are deleted and open.
Decides nothing. What it cannot see is listed in docs/security.md.
"""

import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Final

from warmpool_sandbox import processes
from warmpool_sandbox.connections import Connections

_PIPE_BYTES: Final = 64 * 1024
_UNCOUNTED_ENDS: Final = 64
"""Sockets, and pipes, that a tree may have before each counts as full: how full it is, nobody tells. So many hold
17 MB at the most, and no honest program has them."""


@cache
def _socket_bytes() -> int:
    try:
        with open("/proc/sys/net/core/wmem_default", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):  # a network namespace of an older kernel
        return 212_992


@dataclass(frozen=True, slots=True)
class Tree:
    """The sum over a process tree at one moment."""

    memory_bytes: int
    cpu_seconds: float
    """Never less than at the look before."""
    deleted_bytes: int
    """On disk, of files that have no name any more."""


@dataclass(frozen=True, slots=True)
class _Descriptors:
    deleted_bytes: int
    kernel_bytes: int


class Meter:
    """`root` is the zygote, `shared_bytes` its own anonymous pages, which every process has until it rewrites them.

    Where `is_enough` says so, a look that takes long ends early: the program is going to be ended anyhow. `connections`
    are those of a program that may make some.
    """

    def __init__(
        self,
        root: int,
        shared_bytes: int,
        memory_limit_bytes: int,
        is_enough: Callable[[], bool] = lambda: False,
        connections: Connections | None = None,
    ) -> None:
        self._connections = connections
        self._is_enough = is_enough
        self._root = root
        self._shared_bytes = shared_bytes
        self._memory_limit_bytes = memory_limit_bytes
        self._socket_bytes = _socket_bytes()
        self._own_seconds: dict[tuple[int, int], float] = {}

    def look(self) -> Tree:
        pids = list(processes.descendants(self._root))
        descriptors = self._descriptors(pids)
        memory = self._memory(pids) + descriptors.kernel_bytes
        if self._connections is not None:
            memory += self._connections.held_bytes()
        return Tree(memory, self._cpu_seconds(pids), descriptors.deleted_bytes)

    def _cpu_seconds(self, pids: Iterable[int]) -> float:
        """The larger of two sums, each of which misses something: what those that are here have used with the
        children they waited for, and what each that was ever here had used when it was last seen."""
        here = 0.0
        for pid in pids:
            try:
                times = processes.times(pid)
            except (OSError, ValueError, IndexError):
                continue
            self._own_seconds[pid, times.started] = times.own_seconds
            here += times.own_seconds + times.children_seconds
        return max(here, sum(self._own_seconds.values()))

    def _memory(self, pids: Iterable[int]) -> int:
        """Cheap while even the most that it can be is below the limit, exact above."""
        least, most = 0, 0
        for pid in pids:
            try:
                held = processes.memory(pid)
            except (OSError, ValueError, KeyError):  # gone, or a zombie
                continue
            least += max(0, held.anonymous_bytes - self._shared_bytes) + held.other_bytes
            most += held.anonymous_bytes + held.other_bytes
        if least > self._memory_limit_bytes or most <= self._memory_limit_bytes:
            return least
        exact = 0
        for pid in pids:  # one that maps hundreds of gigabytes takes 10 ms
            exact += _proportional_bytes(pid)
            if exact > self._memory_limit_bytes or self._is_enough():
                break
        return exact

    def _descriptors(self, pids: Iterable[int]) -> _Descriptors:
        deleted: dict[int, int] = {}
        sockets, pipes = set[int](), set[int]()
        for state in (state for pid in pids for state in processes.open_files(pid)):
            if stat.S_ISSOCK(state.st_mode):
                sockets.add(state.st_ino)
            elif stat.S_ISFIFO(state.st_mode):
                pipes.add(state.st_ino)
            elif stat.S_ISREG(state.st_mode) and state.st_nlink == 0:
                deleted[state.st_ino] = state.st_blocks * 512
        kernel = max(0, len(sockets) - _UNCOUNTED_ENDS) * self._socket_bytes
        kernel += max(0, len(pipes) - _UNCOUNTED_ENDS) * _PIPE_BYTES
        return _Descriptors(sum(deleted.values()), kernel)


def _proportional_bytes(pid: int) -> int:
    try:
        return processes.proportional_bytes(pid) + processes.memory(pid).other_bytes
    except (OSError, ValueError, KeyError):
        return 0

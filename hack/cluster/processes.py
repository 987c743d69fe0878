"""The components as processes that outlive the command which started them, and are known again by the next.

A process is its number and its start time, so that a number which the kernel gave away again is never taken for ours.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hack.cluster.instance import Instance
from hack.cluster.shell import ClusterError, run

END_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    started: int
    """Clock ticks since the machine's start, of /proc/<pid>/stat."""

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        """None where there is none, or only what its parent has not yet collected."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]))

    @property
    def alive(self) -> bool:
        return Process.of(self.pid) == self

    def kill(self) -> None:
        if self.alive:
            os.kill(self.pid, signal.SIGKILL)


def start(instance: Instance, name: str, command: Sequence[str]) -> None:
    """Starts a component, its output going to its log, and records it."""
    with (instance.logs / f"{name}.log").open("ab") as log:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={"PATH": os.environ["PATH"], "TMPDIR": str(instance.state)},  # no proxy of ours, no locale
        )  # fmt: skip
    record(instance, name, Process.of(child.pid) or Process(child.pid, -1))  # died at once: nothing matches -1


def recorded(instance: Instance) -> dict[str, Process]:
    """By component, in the order of their start."""
    try:
        known = json.loads(_file(instance).read_text())
    except (OSError, ValueError):
        return {}
    return {name: Process(*pair) for name, pair in known.items()}


def record(instance: Instance, name: str, process: Process) -> None:
    known = {**recorded(instance), name: process}
    partial = _file(instance).with_suffix(".partial")
    partial.write_text(json.dumps({name: (one.pid, one.started) for name, one in known.items()}))
    partial.rename(_file(instance))


def kill_inside(entered: Process) -> None:
    """Kills the component itself: a child of the recorded process, which entered the node for it and ends with it."""
    if entered.alive:
        for child in run("pgrep", "--parent", str(entered.pid), check=False).split():
            os.kill(int(child), signal.SIGKILL)
    wait_gone([entered])


def wait_gone(processes: Iterable[Process]) -> None:
    """Returns once each has really ended, so that no folder is taken from under one."""
    deadline = time.monotonic() + END_SECONDS
    while left := [process.pid for process in processes if process.alive]:
        if time.monotonic() > deadline:
            raise ClusterError(f"processes {left} were killed and are still there after {END_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)


def _file(instance: Instance) -> Path:
    return instance.state / "processes.json"

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

END_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.05


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

    def send(self, number: signal.Signals) -> None:
        if self.alive:
            os.kill(self.pid, number)


def start(instance: Instance, name: str, command: Sequence[str], environment: dict[str, str] | None = None) -> Process:
    """Starts a component, its output going to its log, and records it."""
    with (instance.logs / f"{name}.log").open("ab") as log:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, **(environment or {})}, cwd=instance.state,
        )  # fmt: skip
    process = Process.of(child.pid) or Process(child.pid, -1)  # died at once: nothing matches -1
    record(instance, {**recorded(instance), name: process})
    return process


def recorded(instance: Instance) -> dict[str, Process]:
    try:
        known = json.loads((instance.run / "processes.json").read_text())
    except (OSError, ValueError):
        return {}
    return {name: Process(*pair) for name, pair in known.items()}


def record(instance: Instance, processes: dict[str, Process]) -> None:
    file = instance.run / "processes.json"
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps({name: (process.pid, process.started) for name, process in processes.items()}))
    partial.rename(file)


def end(processes: Iterable[Process]) -> None:
    """Asks, waits, kills; returns once each has really gone, so that no folder is taken from under one."""
    left = [process for process in processes if process.alive]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in left:
            process.send(number)
        deadline = time.monotonic() + END_SECONDS
        while left and time.monotonic() < deadline:
            _collect()
            left = [process for process in left if process.alive]
            time.sleep(POLL_SECONDS)


def _collect() -> None:
    """Takes the exit codes of children that this very command started."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        pass


def with_words(*words: str) -> list[Process]:
    """Every process whose command line holds all the words."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        process = Process.of(int(folder.name)) if all(word in line for word in words) else None
        if process is not None:
            found.append(process)
    return found

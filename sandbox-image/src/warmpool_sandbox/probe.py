"""What this machine really gives: every wall is tried from inside a real child, not read from a version number.

A check that cannot run has failed. Below the floor the supervisor refuses to serve.
"""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from warmpool.protocol import Limits, Status, encode_json
from warmpool_sandbox import cgroup, kernel, landlock
from warmpool_sandbox.slot import Slot
from warmpool_sandbox.zygote_process import ZygoteLost

MIN_LANDLOCK_ABI: Final = 6
"""Linux 6.12: the first that scopes signals, on which ending a whole tree rests."""

_PROGRAM: Final = Path(__file__).with_name("probe_program.py")
_POD_MARGIN_BYTES: Final = 96 * 1024 * 1024
"""Supervisor and zygote hold 32 MB, the kernel for many processes 14, and a tree grows by 25 between two looks."""
_LIMITS: Final = Limits(wall_seconds=5.0, cpu_seconds=5.0, processes=8, memory_bytes=64 * 1024 * 1024)


@dataclass(frozen=True, slots=True)
class Check:
    """One wall: whether it stands, and what was seen."""

    name: str
    holds: bool
    seen: str


@dataclass(frozen=True, slots=True)
class Report:
    kernel: str
    machine: str
    python: str
    landlock_abi: int
    checks: tuple[Check, ...]

    @property
    def meets_floor(self) -> bool:
        return bool(self.checks) and all(check.holds for check in self.checks)

    def to_json(self) -> str:
        return json.dumps({"meets_floor": self.meets_floor, **asdict(self)}, indent=2)

    def to_sentence(self) -> str:
        """For whoever asks why the pod ended: which walls are missing and what was seen instead."""
        failed = "; ".join(f"{check.name}: {check.seen}" for check in self.checks if not check.holds)
        return f"Linux {self.kernel} is below the floor of this pool, so no program runs here. {failed}."

    def to_table(self) -> str:
        width = max(len(check.name) for check in self.checks)
        lines = [f"{'holds' if c.holds else 'FAILS'}  {c.name:<{width}}  {c.seen}" for c in self.checks]
        end = "meets the floor" if self.meets_floor else "BELOW THE FLOOR: the supervisor will not serve here"
        return "\n".join([f"Linux {self.kernel} {self.machine}, Python {self.python}", *lines, end])


async def probe(slot: Slot, min_landlock_abi: int = MIN_LANDLOCK_ABI, container: Sequence[Check] = ()) -> Report:
    """Runs the checks in `slot`, which is started if need be. Never raises for what it finds.

    `container` are the checks of `in_pod`, where this is one.
    """
    abi = landlock.abi()
    checks = [
        Check("Landlock ABI", abi >= min_landlock_abi, f"{abi}, at least {min_landlock_abi} is asked for"),
        Check("unprivileged user", os.getuid() != 0, f"uid {os.getuid()}"),
        Check(
            "supervisor not dumpable", kernel.prctl(kernel.PR_GET_DUMPABLE) == 0, "/proc/<pid> is closed to its user"
        ),
        *container,
        *await _inside(slot),
    ]
    return Report(platform.release(), kernel.MACHINE, platform.python_version(), abi, tuple(checks))


def in_pod(limits: Limits, scratch: Path, tools: Path | None) -> list[Check]:
    """What a pod gives beyond a process: limits that the kubelet set, file systems that cannot be written to."""
    found = cgroup.Limits.read()
    least = limits.memory_bytes + _POD_MARGIN_BYTES
    memory, token = found.memory_bytes, Path("/var/run/secrets/kubernetes.io")
    return [
        Check(
            "pod: memory limit", memory is not None and memory >= least,
            f"{memory} bytes; the program's memory_bytes and the supervisor need {least}",
        ),
        Check("pod: CPU limit", found.cpus is not None, f"{found.cpus} CPUs"),
        Check("pod: no service-account token", not os.path.lexists(token), str(token)),
        Check("pod: root file system is read-only", _is_read_only(Path("/")), "/"),
        *([Check("pod: tools are read-only", _is_read_only(tools), str(tools))] if tools else []),
        Check("pod: scratch is a file system of its own", scratch.is_mount(), str(scratch)),
    ]  # fmt: skip


def _is_read_only(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


async def _inside(slot: Slot) -> list[Check]:
    request = {
        "code": _PROGRAM.read_text(encoding="utf-8"),
        "context": {"supervisor": os.getpid(), "memory_bytes": _LIMITS.memory_bytes, "processes": _LIMITS.processes},
        "validate": False,
    }
    try:
        outcome = await slot.run("probe", encode_json(request), _LIMITS, lambda frame: None)
    except (ZygoteLost, OSError) as fault:
        return [Check("sandbox starts", False, str(fault))]
    if outcome.status is not Status.OK:
        return [Check("sandbox starts", False, outcome.error.message if outcome.error else outcome.status.value)]
    left = ", ".join(outcome.residue) or "no process, file, mount, socket or System V object"
    return [*_kernel_says(slot), *(_check(item) for item in outcome.value), Check("residue", outcome.clean, left)]


def _kernel_says(slot: Slot) -> list[Check]:
    """What the kernel shows of the zygote, which every child inherits."""
    assert slot.zygote_pid is not None
    status = Path(f"/proc/{slot.zygote_pid}/status").read_text(encoding="utf-8")
    fields = dict(line.partition(":\t")[::2] for line in status.splitlines())
    return [
        Check("no_new_privs", fields.get("NoNewPrivs") == "1", f"NoNewPrivs {fields.get('NoNewPrivs')}"),
        Check("system-call filter", fields.get("Seccomp") == "2", f"Seccomp mode {fields.get('Seccomp')}"),
        Check("capabilities", not int(fields.get("CapEff", "1"), 16), f"CapEff {fields.get('CapEff')}"),
    ]


def _check(item: dict[str, Any]) -> Check:
    return Check(str(item["name"]), item["holds"] is True, str(item["seen"]))

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

from warmpool.protocol import TCP_BUFFER_BYTES, Limits, Status, encode_json
from warmpool_sandbox import cgroup, connections, kernel, landlock, mounts
from warmpool_sandbox.slot import Slot
from warmpool_sandbox.zygote_process import ZygoteLost

MIN_LANDLOCK_ABI: Final = 6
"""Linux 6.12: the first that scopes signals, on which ending a whole tree rests."""

_PROGRAM: Final = Path(__file__).with_name("probe_program.py")
_POD_MARGIN_BYTES: Final = 96 * 1024 * 1024
"""Supervisor and zygote hold 32 MB, the kernel for many processes 14, and a tree grows by 25 between two looks."""
_SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io")
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

    def to_paragraph(self) -> str:
        """For whoever asks why the pod ended: which walls are missing, what was seen instead, what to do."""
        failed = [check for check in self.checks if not check.holds]
        remedies = dict.fromkeys(filter(None, (_remedy(check) for check in failed)))
        said = "; ".join(f"{check.name}: {check.seen}" for check in failed)
        return " ".join([f"No program runs here, for the sandbox is below its floor. Failed: {said}.", *remedies])

    def to_table(self) -> str:
        width = max(len(check.name) for check in self.checks)
        lines = [f"{'holds' if c.holds else 'FAILS'}  {c.name:<{width}}  {c.seen}" for c in self.checks]
        end = "meets the floor" if self.meets_floor else "BELOW THE FLOOR: the supervisor will not serve here"
        return "\n".join([f"Linux {self.kernel} {self.machine}, Python {self.python}", *lines, end])


def _remedy(check: Check) -> str | None:
    match check.name:
        case "Landlock ABI":
            return (
                f"The node runs Linux {platform.release()}; Landlock ABI {MIN_LANDLOCK_ABI} needs 6.12 or newer, "
                "with landlock in the boot parameter lsm=."
            )
        case "unprivileged user":
            return "Run as a user other than root."
        case "sandbox starts" | "system-call filter":
            return "The pod's seccomp profile must allow Landlock and seccomp, as RuntimeDefault does."
        case "pod: memory limit" | "pod: memory in use" | "pod: CPU limit":
            return "The container needs limits for memory and CPU, and its control group mounted at /sys/fs/cgroup."
        case name if name.startswith("pod: "):
            return "The pod is not as the operator makes it: something changed it on its way, such as a webhook."
    return None


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


def in_pod(limits: Limits, scratch: Path | None, tools: Path | None, *, network: bool = False) -> list[Check]:
    """What a pod gives beyond a process: limits that the kubelet set, file systems that cannot be written to.

    The limit on a pod's processes cannot be seen from inside its container.
    """
    found = cgroup.Limits.read()
    least = limits.memory_bytes + _POD_MARGIN_BYTES
    memory = found.memory_bytes
    return [
        Check(
            "pod: memory limit", memory is not None and memory >= least,
            f"{memory} bytes; the program's memory_bytes and the supervisor need {least}",
        ),
        _memory_in_use(),
        Check("pod: CPU limit", found.cpus is not None, f"{found.cpus} CPUs"),
        Check("pod: no service-account token", not os.path.lexists(_SERVICE_ACCOUNT), str(_SERVICE_ACCOUNT)),
        Check("pod: root file system is read-only", _is_read_only(Path("/")), "/"),
        *([Check("pod: tools are read-only", _is_read_only(tools), str(tools))] if tools else []),
        _bounded_scratch(scratch, limits.scratch_bytes),
        *([_bounded_connections()] if network else []),
    ]  # fmt: skip


def _memory_in_use() -> Check:
    try:
        seen = cgroup.MemoryUse().held_bytes()
    except (OSError, ValueError) as fault:
        return Check("pod: memory in use", False, str(fault))
    return Check("pod: memory in use", seen > 0, f"{seen} bytes")


def _is_read_only(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _bounded_scratch(scratch: Path | None, most_bytes: int) -> Check:
    """Memory, so that it counts against the pod's limit, and of a size that the kernel holds it to."""
    name = "pod: scratch is bounded"
    kind = scratch and mounts.file_system(scratch)
    if scratch is None or kind is None:
        return Check(name, False, f"{scratch} is no file system of its own")
    state = os.statvfs(scratch)
    size = state.f_blocks * state.f_frsize
    holds = kind == "tmpfs" and 0 < size < most_bytes + state.f_frsize  # the kernel rounds up to a page
    return Check(name, holds, f"{kind} of {size} bytes at {scratch}; a tmpfs of {most_bytes} is the most")


def _bounded_connections() -> Check:
    name, most = "pod: connections are bounded", 2 * TCP_BUFFER_BYTES
    try:
        found = connections.buffer_bytes()
    except OSError as fault:
        return Check(name, False, str(fault))
    return Check(name, found <= most, f"{found} bytes each by net.ipv4.tcp_rmem and tcp_wmem; {most} are the most")


async def _inside(slot: Slot) -> list[Check]:
    request = {
        "code": _PROGRAM.read_text(encoding="utf-8"),
        "context": {"supervisor": os.getpid(), "processes": _LIMITS.processes, "tcp_ports": slot.tcp_ports},
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

"""Puts the walls up, in two steps: what every program needs once in the zygote, the rest in each child.

Fails closed: any step that the kernel refuses raises, and the process does not go on to run anything.
docs/security.md lists which wall holds which attack.
"""

import os
import resource
import signal
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from warmpool.protocol import Limits
from warmpool_sandbox import kernel, landlock, seccomp

_DATA_MARGIN_BYTES: Final = 112 * 1024 * 1024
"""RLIMIT_DATA stands above the memory limit by the interpreter's own heap and a few thread stacks, so that the
poll, which measures what is touched, decides; below the pod's 512 MB all the same."""

_STACK_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Walls:
    """Which walls stand. All of them, except in the tests that show what each one holds."""

    files: bool = True
    """Landlock's rules for files."""
    network: bool = True
    """Landlock's rules for TCP."""
    scope: bool = True
    """Landlock's scopes: signals, tracing and abstract sockets stay inside, of the zygote and of each child."""
    seccomp: bool = True
    rlimits: bool = True


ALL_WALLS: Final = Walls()

PACKAGES: Final = Path("/opt/warmpool/packages")
"""Where an image has what programs may import beyond the standard library; the plain image has none."""

RLimits = tuple[tuple[int, int], ...]
"""(resource.RLIMIT_*, value) pairs."""


def readable_paths(tools: Path | None) -> list[tuple[Path, int]]:
    """What a program may read: the standard library, the shared libraries it loads, time zones and its tools."""
    library = Path(sysconfig.get_path("stdlib"))
    shared = [
        Path(p) for p in ("/lib", "/lib64", "/usr/lib", "/usr/local/lib", "/usr/share/zoneinfo", "/etc/ld.so.cache")
    ]
    own = [Path(__file__).parent, Path(sys.base_prefix, "lib")]
    packages = [PACKAGES] if PACKAGES.is_dir() else []
    readable = [library, *shared, *own, *packages, *([tools] if tools else [])]
    devices = [
        (Path("/dev/null"), landlock.DEVICE),
        (Path("/dev/urandom"), landlock.READ),
    ]
    return [(path, landlock.READ) for path in readable] + devices


def confine_zygote(scratch: Path, tools: Path | None, walls: Walls, tcp_ports: Sequence[int] = ()) -> int | None:
    """Landlock domain and system-call filter of the zygote, inherited by every child.

    `tcp_ports` is the network profile: programs may connect to these. Without any they have no socket at all.
    Returns the descriptor of the scope ruleset that each child adds, made here to save each the cost.
    Raises OSError where the kernel refuses.
    """
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    # By huge pages, which numpy asks for, memory grows several times as fast as the polls are made for.
    kernel.prctl(kernel.PR_SET_THP_DISABLE, 1)
    scope = landlock.create_ruleset((), landlock.only(scopes=True)) if walls.scope else None
    masks = landlock.only(files=walls.files, network=walls.network, scopes=walls.scope)
    if masks != landlock.NOTHING:
        ruleset = landlock.create_ruleset([*readable_paths(tools), (scratch, landlock.SCRATCH)], masks, tcp_ports)
        landlock.restrict(ruleset)
        os.close(ruleset)
    if walls.seccomp:
        seccomp.install(tcp=bool(tcp_ports))
    return scope


def confine_child(scope: int | None, limits: RLimits) -> None:
    """Own session, resource limits, and a domain of its own so that it cannot signal or trace the zygote."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    for which, value in limits:
        resource.setrlimit(which, (value, value))
    if scope is not None:
        landlock.restrict(scope)
        os.close(scope)


def rlimits(limits: Limits, uid_tasks: int) -> RLimits:
    """The kernel's own limits. Made in the zygote, where it touches no page that a child would have to copy.

    `uid_tasks` is how many tasks the platform runs under this user; RLIMIT_NPROC counts them too.
    """
    return (
        # A whole second, and one more: the supervisor's sum over the tree comes first and names the limit.
        (resource.RLIMIT_CPU, int(limits.cpu_seconds) + 2),
        (resource.RLIMIT_DATA, limits.memory_bytes + _DATA_MARGIN_BYTES),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_NPROC, limits.processes + uid_tasks),
        (resource.RLIMIT_STACK, _STACK_BYTES),
        # 1, not 0: only that spares the handler of a node (core_pattern with a pipe), which keeps a program's memory.
        (resource.RLIMIT_CORE, 1),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_SIGPENDING, 128),
    )

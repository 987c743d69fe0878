"""The control group that holds this cluster's pods: one where cgroups are of version 2, else one in each hierarchy."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from hack.cluster.instance import Instance

ROOT: Final = Path("/sys/fs/cgroup")
EMPTY_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.02


def make(instance: Instance) -> None:
    if _unified():
        for controller in (ROOT / "cgroup.controllers").read_text().split():
            with suppress(OSError):  # the kubelet says which one it misses
                (ROOT / "cgroup.subtree_control").write_text(f"+{controller}")
    for folder in folders(instance):
        with suppress(OSError):  # a hierarchy that is read-only
            folder.mkdir(exist_ok=True)
    for inherited in ("cpuset.cpus", "cpuset.mems"):  # of version 1: empty in a new group, which then takes no process
        given = ROOT / "cpuset" / inherited
        if given.exists():
            (given.parent / _name(instance) / inherited).write_text(given.read_text())


def remove(instance: Instance) -> None:
    for folder in folders(instance):
        inner = [path for path in folder.rglob("*") if path.is_dir()]
        for group in sorted([folder, *inner], key=lambda path: -len(path.parts)):
            _remove(group)


def folders(instance: Instance) -> list[Path]:
    """Where the group is, or would be."""
    hierarchies = [ROOT] if _unified() else sorted(path for path in ROOT.iterdir() if not path.is_symlink())
    return [hierarchy / _name(instance) for hierarchy in hierarchies if hierarchy.is_dir()]


def _name(instance: Instance) -> str:
    return instance.cgroup.lstrip("/")


def _unified() -> bool:
    return (ROOT / "cgroup.controllers").exists()


def _remove(group: Path) -> None:
    """A group stays busy for a moment after its last process ended."""
    deadline = time.monotonic() + EMPTY_SECONDS
    while group.exists() and time.monotonic() < deadline:
        try:
            group.rmdir()
        except OSError:
            time.sleep(POLL_SECONDS)

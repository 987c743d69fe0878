"""The control group that holds this cluster's pods, in each hierarchy where cgroups are of version 1."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from hack.cluster.instance import Instance

ROOT: Final = Path("/sys/fs/cgroup")
EMPTY_SECONDS: Final = 5.0


def folders(instance: Instance) -> Iterator[Path]:
    unified = (ROOT / "cgroup.controllers").exists()
    roots = [ROOT] if unified else [folder for folder in ROOT.iterdir() if folder.is_dir() and not folder.is_symlink()]
    return (root / instance.cgroup.lstrip("/") for root in roots)


def make(instance: Instance) -> None:
    for folder in folders(instance):
        with suppress(OSError):  # `unified` beside version 1, or a hierarchy that is read-only
            folder.mkdir(exist_ok=True)
        for inherited in ("cpuset.cpus", "cpuset.mems"):
            if (folder / inherited).exists():
                (folder / inherited).write_text((folder.parent / inherited).read_text())


def remove(instance: Instance) -> None:
    for folder in folders(instance):
        if folder.exists():
            for inner in sorted(
                (path for path in folder.rglob("*") if path.is_dir()), key=lambda path: -len(path.parts)
            ):
                _remove(inner)
            _remove(folder)


def _remove(folder: Path) -> None:
    """A group stays busy for a moment after its last process ended."""
    deadline = time.monotonic() + EMPTY_SECONDS
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return

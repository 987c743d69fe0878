"""Starts the sandbox's processes as a user that is nobody else on this machine.

A sandbox refuses to serve as root, and the limit on processes counts all of a user's. Run as root, each process
gets a user of its own and a copy of the code that this user can read; run as anyone else, it gets that user.
"""

import functools
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import warmpool.protocol
import warmpool_sandbox

AS_ROOT = os.getuid() == 0


@functools.cache
def can_mount() -> bool:
    """Whether a process of ours may have mounts of its own: root may, but not in every container."""
    return AS_ROOT and subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL).returncode == 0


# Two runs of the tests on one machine must not share users.
_uids = itertools.count(100_000 + os.getpid() % 10_000 * 1000)


class Place:
    """A world-readable folder with the code in it, and folders below it for whoever is started."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.code = root / "code"

    def start(self, program: list[str], home: "Home", **options: Any) -> subprocess.Popen[bytes]:
        """Starts the interpreter with these arguments, `warmpool_sandbox` importable, as the home's user."""
        if AS_ROOT:
            options |= {"user": home.uid, "group": home.uid, "extra_groups": []}
        environment = {"PYTHONPATH": str(self.code), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
        interpreter = os.path.realpath(sys.executable)
        return subprocess.Popen([interpreter, "-B", "-W", "error", *program], env=environment, cwd="/", **options)

    def home(self) -> "Home":
        """A folder for one user, made new."""
        uid = next(_uids) if AS_ROOT else os.getuid()
        path = Path(tempfile.mkdtemp(prefix="home-", dir=self.root))
        home = Home(path, uid)
        home.scratch.mkdir()
        home.key_file.write_bytes(home.key)
        for owned in (path, home.scratch, home.key_file):
            os.chown(owned, uid, uid if AS_ROOT else -1)
            owned.chmod(0o700)
        return home


class Home:
    """One user's folder: a scratch folder, and a pool's key."""

    key = b"k" * 32

    def __init__(self, path: Path, uid: int) -> None:
        self.path = path
        self.uid = uid
        self.scratch = path / "scratch"
        self.key_file = path / "key"


@contextmanager
def place() -> Iterator[Place]:
    root = Path(tempfile.mkdtemp(prefix="warmpool-tests-"))
    try:
        root.chmod(0o755)
        made = Place(root)
        _copy_code(made.code)
        yield made
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _copy_code(into: Path) -> None:
    package = Path(warmpool_sandbox.__file__).parent
    shutil.copytree(package, into / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    core = Path(warmpool.protocol.__file__).parent
    (into / "warmpool").mkdir()
    for name in ("__init__.py", "protocol.py"):
        shutil.copy(core / name, into / "warmpool" / name)
    support = Path(__file__).parent
    shutil.copy(support / "driver.py", into / "driver.py")
    for path in (into, *into.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)

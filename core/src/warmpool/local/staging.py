"""Lays out what a sandbox may read, as the sandbox image does, in a folder of the run.

The supervisors of the single-machine mode run as users of their own, which a checkout in somebody's home
folder is closed to; and what is not laid out here, a sandbox cannot import.
"""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import warmpool
import warmpool_sandbox
from servers import definitions
from warmpool.errors import PlatformError
from warmpool.tools import stub_package


@dataclass(frozen=True, slots=True)
class Staged:
    """Where things lie for a supervisor."""

    python: str
    code: Path
    """Holds the packages `warmpool` (its protocol only) and `warmpool_sandbox`."""
    tools: Path
    """Holds the stubs' package `servers`."""

    def command(self, *arguments: str | Path) -> list[str]:
        """`warmpool-sandbox` with these arguments, without site-packages."""
        boot = "import sys; sys.path.insert(0, sys.argv.pop(1)); from warmpool_sandbox.__main__ import main; main()"
        return [self.python, "-I", "-S", "-B", "-c", boot, str(self.code), *map(str, arguments)]


def stage(folder: Path) -> Staged:
    """Fills a new folder. Raises PlatformError where the interpreter is closed to the users that we would run it as."""
    python = Path(sys.executable).resolve()
    closed = next((part for part in (python, *python.parents) if not part.stat().st_mode & 0o001), None)
    if closed is not None and os.geteuid() == 0:
        raise PlatformError(
            f"the interpreter {python} lies below {closed}, which other users may not enter, and sandboxes run as "
            "users of their own: make the environment with a Python such as /usr/bin/python3"
        )
    code, tools = folder / "code", folder / "tools"
    core = Path(warmpool.__file__).parent
    (code / "warmpool").mkdir(parents=True)
    for name in ("__init__.py", "protocol.py"):
        shutil.copyfile(core / name, code / "warmpool" / name)
    shutil.copytree(
        Path(warmpool_sandbox.__file__).parent, code / "warmpool_sandbox", ignore=shutil.ignore_patterns("__pycache__")
    )
    tools.mkdir()
    stub_package(definitions(), tools)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return Staged(str(python), code, tools)

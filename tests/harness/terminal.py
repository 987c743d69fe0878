"""`warmpool` as a user starts it, in a temporary folder of its own, and what it leaves there and in memory."""

import asyncio
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.waiting import until

SUBREAPER: Final = Path(__file__).with_name("subreaper.py")
START_SECONDS: Final = 40.0
END_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    left: list[str]
    """Command lines of processes."""
    files: list[str]
    output: str


class Job:
    """A command under way."""

    def __init__(self, watcher: asyncio.subprocess.Process, pid: int, folder: Path, output: Path) -> None:
        self.pid = pid
        self._watcher = watcher
        self._folder = folder
        self._output = output

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    async def shows(self, pattern: str) -> "re.Match[str]":
        """Waits until the output does."""
        found = await until(lambda: re.search(pattern, self.output) or self._has_ended(), START_SECONDS, pattern)
        assert isinstance(found, re.Match), f"it ended before it showed {pattern!r}:\n{self.output}"
        return found

    async def has_a_folder(self) -> None:
        await until(lambda: any(self._folder.iterdir()) or self._has_ended(), START_SECONDS, "a folder")

    async def ended(self) -> Ended:
        """What is left once it has ended by itself."""
        assert self._watcher.stdout is not None
        async with asyncio.timeout(END_SECONDS):
            told = json.loads(await self._watcher.stdout.readline())
            await self._watcher.wait()
        files = sorted(str(path.relative_to(self._folder)) for path in self._folder.rglob("*"))
        return Ended(told["code"], told["left"], files, self.output)

    def _has_ended(self) -> bool:
        return not Path(f"/proc/{self.pid}").exists()


@asynccontextmanager
async def started(*arguments: str, grace_seconds: float = 0.0) -> AsyncIterator[Job]:
    """`warmpool ARGUMENTS`. Whatever it starts may live for `grace_seconds` after it."""
    scene = Path(tempfile.mkdtemp(prefix="wp-"))
    folder = scene / "t"
    folder.mkdir()
    for path in (scene, folder):
        path.chmod(0o711)  # the users of servers and sandboxes pass through
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WARMPOOL_", "OPENAI_"))}
    with (scene / "output").open("wb") as output:
        watcher = await asyncio.create_subprocess_exec(
            sys.executable, str(SUBREAPER), str(grace_seconds),
            sys.executable, "-c", "from warmpool.cli import main; main()", *arguments,
            env=kept | {"TMPDIR": str(folder), "COLUMNS": "200"},
            stdout=asyncio.subprocess.PIPE, stderr=output,
        )  # fmt: skip
    try:
        assert watcher.stdout is not None
        pid = int(await watcher.stdout.readline())
        yield Job(watcher, pid, folder, scene / "output")
    finally:
        if watcher.returncode is None:
            os.kill(pid, 9)
            await watcher.wait()
        shutil.rmtree(scene, ignore_errors=True)

"""One HTTP service of the single-machine mode, as a process of its own.

It inherits its listening socket, so that a free port cannot be lost between choosing and using it.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from warmpool.errors import PlatformError

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 8.0
_LOOK_SECONDS: Final = 0.05


class Service:
    """`python -m MODULE --fd N`, reachable at `url`, its output in a log file."""

    def __init__(self, module: str, log: Path, environment: Mapping[str, str], *, port: int = 0) -> None:
        """Raises PlatformError where the port is taken."""
        self.module = module
        self._log = log
        self._environment = environment
        try:
            self._socket = socket.create_server(("127.0.0.1", port), backlog=4096)
        except OSError as fault:
            raise PlatformError(f"port {port} cannot be used: {fault.strerror}; choose another with --port") from fault
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        descriptor = self._socket.fileno()
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                "setpriv", "--pdeathsig", "TERM", "--", sys.executable, "-m", self.module, "--fd", str(descriptor),
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                pass_fds=(descriptor,), start_new_session=True,
            )  # fmt: skip

    async def ready(self, path: str = "/readyz") -> None:
        """Waits until it says so. Raises PlatformError with the end of its log where it does not."""
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await asyncio.to_thread(_answers, self.url + path):
                    if self._process is None or self._process.returncode is not None:
                        raise PlatformError(f"{self.module} ended: {await asyncio.to_thread(self.last_words)}")
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            words = await asyncio.to_thread(self.last_words)
            raise PlatformError(f"{self.module} is not ready in {START_SECONDS:g} s: {words}") from None

    async def ended(self) -> None:
        if self._process is not None:
            await self._process.wait()

    def last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-15:]) or "it said nothing"

    async def stop(self) -> None:
        """Asks it to end, waits, then kills it."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        self._socket.close()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310  a loopback address of ours
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False

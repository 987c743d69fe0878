"""One sandbox of the single-machine mode: the image's supervisor as a process, shut in like a pod.

As root it gets a user of its own, and process, mount and IPC namespaces, with scratch on a tmpfs whose size and
inodes are the limits; the kernel ends all of it with its first process. As an ordinary user, or where namespaces
are denied, it runs as that user and scratch is a plain folder under the supervisor's own watch. The walls that the
supervisor raises are the same either way.
"""

import asyncio
import json
import os
import secrets
import shutil
import signal
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from warmpool.errors import PlatformError
from warmpool.local.staging import Staged
from warmpool.protocol import Limits

START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 2.0

# Mounts scratch, then becomes the supervisor under its own user, without any capability. It is bound to its parent's
# life again, because the kernel forgets that with the change of user.
_AS_POD: Final = (
    'uid=$1; mount -t tmpfs -o "size=$2,nr_inodes=$3,mode=0700,uid=$uid,gid=$uid,nosuid,nodev,noexec" tmpfs "$4" '
    '&& shift 4 && exec setpriv --reuid "$uid" --regid "$uid" --clear-groups --bounding-set=-all --inh-caps=-all '
    '--no-new-privs --pdeathsig KILL -- "$@"'
)


@cache
def has_namespaces() -> bool:
    """Whether this user may make the namespaces of a pod."""
    if os.geteuid() != 0:
        return False
    probe = ["unshare", "--mount", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc", "true"]
    return subprocess.run(probe, capture_output=True, timeout=10, check=False).returncode == 0


class LocalPod:
    """A supervisor process. Its folder holds scratch and its copy of the pool's key, and goes with it."""

    def __init__(self, folder: Path, staged: Staged, *, pool: str, key: bytes, limits: Limits, uid: int) -> None:
        self.id = f"pod-{secrets.token_hex(4)}"
        self.address = ""
        self._folder = folder / self.id
        self._staged = staged
        self._pool = pool
        self._key = key
        self._limits = limits
        self.uid = uid
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns once it serves. Raises PlatformError with its own words, for one below the floor."""
        self._prepare()
        with (self._folder / "log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(),
                cwd="/",
                env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await self._process.stdout.readline()
            self.address = json.loads(line)["listening"]
        except (TimeoutError, ValueError, KeyError):
            words = await asyncio.to_thread((self._folder / "log").read_text, errors="replace")
            await self.stop()
            raise PlatformError(f"sandbox {self.id} did not start: {words.strip() or 'it said nothing'}") from None

    def _prepare(self) -> None:
        (self._folder / "scratch").mkdir(parents=True)
        key = self._folder / "pool.key"
        key.touch(mode=0o600)
        key.write_bytes(self._key)
        if os.geteuid() == 0:
            os.chown(key, 0, self.uid)
            key.chmod(0o440)
            os.chown(self._folder / "scratch", self.uid, self.uid)
        (self._folder / "scratch").chmod(0o700)
        self._folder.chmod(0o711)

    def _command(self) -> list[str]:
        scratch = self._folder / "scratch"
        limits = {name: value for name, value in self._limits.as_dict().items() if value != getattr(Limits(), name)}
        serve = self._staged.command(
            "serve", "--pod", self.id, "--pool", self._pool, "--host", "127.0.0.1", "--port", "0",
            "--key-file", self._folder / "pool.key", "--limits", json.dumps(limits),
            "--scratch", scratch, "--tools", self._staged.tools,
        )  # fmt: skip
        dies_with_us = ["setpriv", "--pdeathsig", "KILL"]
        if has_namespaces():
            unshare = ["unshare", "--mount", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
            sizes = [str(self.uid), str(self._limits.scratch_bytes), str(self._limits.scratch_inodes), str(scratch)]
            return [*dies_with_us, "--", *unshare, "sh", "-c", _AS_POD, "sh", *sizes, *serve]
        if os.geteuid() == 0:
            user = ["--reuid", str(self.uid), "--regid", str(self.uid), "--clear-groups", "--bounding-set=-all"]
            return [*dies_with_us, *user, "--no-new-privs", "--", *serve]
        return [*dies_with_us, "--", *serve]

    @property
    def pid(self) -> int:
        """The supervisor's; 0 where it is gone."""
        if self._process is None or self._process.returncode is not None:
            return 0
        if not has_namespaces():
            return self._process.pid
        with suppress(OSError, IndexError):  # the only child of the process that made its namespaces
            outer = self._process.pid
            return int(Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0])
        return 0

    async def ended(self) -> None:
        """Waits until the process is gone."""
        if self._process is not None:
            await self._process.wait()

    def drain(self) -> None:
        """Asks it to end: at once when idle, else after its execution."""
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    async def stop(self) -> None:
        """Ends it now, with all that runs in it, and removes its folder."""
        if self._process is not None and self._process.returncode is None:
            if not has_namespaces():  # it must end its own tree; with namespaces the kernel does
                self.drain()
                with suppress(TimeoutError):
                    async with asyncio.timeout(STOP_SECONDS):
                        await self._process.wait()
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

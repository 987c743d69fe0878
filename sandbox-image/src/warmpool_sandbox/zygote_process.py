"""The supervisor's side of its zygote: start it, talk to it, know at once when it is gone."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from warmpool_sandbox import processes
from warmpool_sandbox.confinement import Walls

_START_SECONDS: Final = 10.0
_CONTROL: Final = 3
"""The zygote's descriptor of its end of our socket."""

_BOOT: Final = (
    "import sys; sys.path[:0] = sys.argv.pop(1).split(':'); from warmpool_sandbox import forks; forks.keep(); "
    "from warmpool_sandbox.zygote import main; main()"
)


class ZygoteLost(Exception):
    """The zygote ended, or never came up."""


class ZygoteProcess:
    """One running zygote. `on_message` gets each of its messages, `on_lost` is called once when it ends."""

    def __init__(self, on_message: Callable[[dict[str, Any]], None], on_lost: Callable[[], None]) -> None:
        self.pid = 0
        self.runs = 0
        self._on_message = on_message
        self._on_lost = on_lost
        self._control: socket.socket | None = None
        self._handle = -1
        self._walls = Walls()

    async def start(self, scratch: Path, tools: Path | None, walls: Walls, tcp_ports: Sequence[int] = ()) -> None:
        """Raises ZygoteLost, with its last words, where it does not become ready."""
        self._walls = walls
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            self.pid = _spawn(theirs, scratch, tools, walls, tcp_ports)
        self._control = ours
        self._handle = os.pidfd_open(self.pid)
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(ours, self._first_message, ready)
        loop.add_reader(self._handle, _fail, ready)
        try:
            await asyncio.wait_for(ready, _START_SECONDS)
        except (TimeoutError, ZygoteLost):
            self.destroy()
            raise ZygoteLost("the zygote did not become ready; its own words are on stderr") from None
        loop.add_reader(ours, self._next_message)
        loop.add_reader(self._handle, self._lost)

    def _first_message(self, ready: "asyncio.Future[None]") -> None:
        assert self._control is not None
        if not self._control.recv(1024):
            _fail(ready)
        elif not ready.done():
            ready.set_result(None)

    def _next_message(self) -> None:
        assert self._control is not None
        try:
            data = self._control.recv(64 * 1024)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._on_message(json.loads(data))
        else:
            self._lost()

    def _lost(self) -> None:
        self.destroy()
        self._on_lost()

    def fork(self, request: dict[str, Any], descriptors: tuple[int, int, int]) -> None:
        """Raises OSError where the zygote is gone."""
        if self._control is None:
            raise BrokenPipeError("no zygote")
        self.runs += 1
        socket.send_fds(self._control, [json.dumps({"fork": request}).encode()], list(descriptors))

    def end_tree(self) -> None:
        """Kills all that is seen of the program, and asks the zygote to kill and reap the rest; `ended` follows.

        The zygote alone would do, but among thirty processes that want its one CPU its turn comes late.
        """
        if self._control is not None:
            if self._walls.scope:  # as in the zygote: without it nothing but the program's first process is ended
                for pid in processes.descendants(self.pid):
                    _kill(pid)
            try:
                self._control.send(b"{}")
            except OSError:
                return

    def destroy(self) -> None:
        """Kills the zygote and every process below it, then those that were orphaned to us. Idempotent."""
        if self._control is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._control)
        loop.remove_reader(self._handle)
        self._control.close()
        self._control = None
        for pid in (self.pid, *processes.descendants(self.pid)):
            _kill(pid)
        os.close(self._handle)
        self._reap_orphans()

    def _reap_orphans(self) -> None:
        """As subreaper this process inherits what the zygote had; killing goes on until no child is left."""
        while True:
            try:
                ended, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if ended == 0:
                for pid in processes.descendants(os.getpid()):
                    _kill(pid)
                os.waitpid(-1, 0)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _fail(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_exception(ZygoteLost())


def _spawn(control: socket.socket, scratch: Path, tools: Path | None, walls: Walls, tcp_ports: Sequence[int]) -> int:
    import warmpool

    roots = sorted({Path(__file__).parents[1], Path(warmpool.__file__).parents[1]})
    environment = {
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "PATH": "",
        "OPENBLAS_NUM_THREADS": "1",  # numpy's pool would take a thread a core, of a program's 32 and its one CPU
        "OMP_NUM_THREADS": "1",
    }
    # -I: no environment, no user site; -S: no site-packages. -B: never tries to write bytecode.
    arguments = [
        sys.executable, "-I", "-S", "-B", "-c", _BOOT, ":".join(map(str, roots)),
        str(scratch), str(tools) if tools else "-", str(os.getpid()), json.dumps(asdict(walls)),
        json.dumps(tcp_ports), str(_CONTROL),
    ]  # fmt: skip
    return os.posix_spawn(
        sys.executable,
        arguments,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, 2, 1),
            (os.POSIX_SPAWN_DUP2, control.fileno(), _CONTROL),
        ],
    )

"""Forks one child per program. Holds no secret, opens no socket, is disposable.

Started by exec with an emptied environment, so that nothing of the supervisor's memory is in it. It loads what
programs import most, freezes that memory, goes behind its walls for good and then only forks, waits and kills.
Because its Landlock domain scopes signals, `kill(-1)` reaches all that descends from it and nothing else: a
whole tree dies in one go, double forks and new sessions included.
"""

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from warmpool.protocol import Limits
from warmpool_sandbox import child, confinement, forks, kernel

PRELOADED: Final = (
    "abc ast base64 bisect calendar collections colorsys concurrent.futures concurrent.futures.thread contextlib copy "
    "csv dataclasses datetime decimal difflib enum fractions functools hashlib heapq html io itertools json keyword "
    "linecache locale math numbers operator os pathlib pprint queue random re secrets shutil socket statistics string "
    "struct tempfile textwrap threading time traceback types typing unicodedata urllib.parse uuid warnings zoneinfo"
).split()
"""Imported once so that no program pays for them; the rest of the standard library loads on demand."""
PRELOADED_FOR_TCP: Final = ("http.client", "ssl", "urllib.request")
"""Where a pool has a network profile: they take 40 ms."""


def main() -> NoReturn:
    """`zygote SCRATCH TOOLS|- SUPERVISOR_PID WALLS_JSON TCP_PORTS_JSON CONTROL`; CONTROL is our socket's descriptor."""
    scratch, tools, supervisor, walls_json, tcp_ports_json, descriptor = sys.argv[1:7]
    # No parent-death signal: it would leave the program's tree behind. At end of file on the control socket, which
    # comes with the supervisor's end, the tree is killed first.
    control = socket.socket(fileno=int(descriptor))
    tools_path = None if tools == "-" else Path(tools)
    walls, tcp_ports = confinement.Walls(**json.loads(walls_json)), json.loads(tcp_ports_json)
    zygote = Zygote(control, Path(scratch), tools_path, int(supervisor), walls, tcp_ports)
    zygote.prepare()
    zygote.serve()


class Zygote:
    """One supervisor's forking server. Messages are JSON, one a packet; descriptors travel beside `fork`."""

    def __init__(
        self,
        control: socket.socket,
        scratch: Path,
        tools: Path | None,
        supervisor: int,
        walls: confinement.Walls,
        tcp_ports: Sequence[int],
    ) -> None:
        self._control = control
        self._scratch = scratch
        self._tools = tools
        self._supervisor = supervisor
        self._walls = walls
        self._tcp_ports = tcp_ports
        self._scope: int | None = None

    def prepare(self) -> None:
        """Preload, freeze, confine, and make sure that the walls stand. Raises OSError where one does not."""
        _offer_to_the_kernel()
        sys.path.append(str(confinement.PACKAGES))
        for name in (*PRELOADED, *(PRELOADED_FOR_TCP if self._tcp_ports else ())):
            importlib.import_module(name)
        self._preload_tools()
        forks.hand_over()
        child.prepare_streams()
        child.rehearse(Limits())
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        os.chdir(self._scratch)
        self._scope = confinement.confine_zygote(self._scratch, self._tools, self._walls, self._tcp_ports)
        if self._walls.scope:
            self._check_that_signals_are_scoped()
        gc.collect()
        gc.freeze()
        self._say({"ready": os.getpid()})

    def _preload_tools(self) -> None:
        if self._tools is None:
            return
        sys.path.insert(0, str(self._tools))
        for package in sorted(self._tools.glob("servers/*/__init__.py")):
            importlib.import_module(f"servers.{package.parent.name}")

    def _check_that_signals_are_scoped(self) -> None:
        """`kill(-1)` without scoping would end the supervisor and all else of this user."""
        try:
            os.kill(self._supervisor, 0)
        except PermissionError:
            return
        raise OSError("Landlock does not scope signals here (ABI 6, Linux 6.12, is needed)")

    def serve(self) -> NoReturn:
        while True:
            data, descriptors, _, _ = socket.recv_fds(self._control, 64 * 1024, 3)
            if not data:
                sys.exit(0)
            request = json.loads(data)
            if "fork" in request:
                self._execute(request["fork"], (descriptors[0], descriptors[1], descriptors[2]))

    def _execute(self, request: dict[str, Any], descriptors: tuple[int, int, int]) -> None:
        limits = Limits(**request["limits"])
        rlimits = confinement.rlimits(limits, request["uid_tasks"]) if self._walls.rlimits else ()
        pid = forks.fork()
        if pid == 0:
            child.live(descriptors, self._scratch, limits, rlimits, self._scope, network=bool(self._tcp_ports))
        for descriptor in descriptors:
            os.close(descriptor)
        self._await_end(pid)
        self._say({"ended": self._end_tree(pid)})

    def _await_end(self, pid: int) -> None:
        """Until the program's first process has ended or the supervisor wants it ended."""
        handle = os.pidfd_open(pid)
        try:
            poller = select.poll()
            poller.register(handle, select.POLLIN)
            poller.register(self._control, select.POLLIN)
            if any(descriptor == self._control.fileno() for descriptor, _ in poller.poll()):
                told_to_end = self._control.recv(1024)
                if not told_to_end:  # the supervisor is gone
                    self._kill_all(pid)
                    os._exit(0)
        finally:
            os.close(handle)

    def _end_tree(self, pid: int) -> dict[str, Any]:
        """Kills and reaps all that descends from here; {status, cpu_seconds, max_rss_bytes, processes}.

        Orphans come back to this process, their subreaper, so that none is left when no child is. A process that
        even SIGKILL does not end makes this wait; the supervisor then gives up on the whole zygote.
        """
        status: int | None = None
        cpu, rss, reaped = 0.0, 0, 0
        while True:
            self._kill_all(pid if status is None else None)
            try:
                ended, wait_status, usage = os.wait4(-1, 0)
            except ChildProcessError:
                return {"status": status, "cpu_seconds": cpu, "max_rss_bytes": rss, "processes": reaped}
            reaped += 1
            cpu += usage.ru_utime + usage.ru_stime
            rss = max(rss, usage.ru_maxrss * 1024)
            if ended == pid:
                status = wait_status

    def _kill_all(self, pid: int | None) -> None:
        """All processes of the domain; only the program's first where no scope holds `kill(-1)` in."""
        target = -1 if self._walls.scope else pid
        if target is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.kill(target, signal.SIGKILL)

    def _say(self, message: dict[str, Any]) -> None:
        self._control.send(json.dumps(message).encode())


def _offer_to_the_kernel() -> None:
    """Where memory runs out and one process has to go, it is to be one of the program's, not the supervisor."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


if __name__ == "__main__":
    main()

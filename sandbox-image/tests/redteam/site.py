"""Where attacks run: slots in processes of their own, and around them what an attack could reach.

Each site has a user of its own, where the tests run as root: what a wall holds is then not held by modes.
"""

import json
import os
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil
from redteam.table import Trial
from support.network import Network
from support.unprivileged import AS_ROOT, Home, Place

from warmpool.protocol import Limits, Outcome
from warmpool_sandbox import kernel, processes, seccomp, syscall_table

ANSWER_SECONDS: Final = 30.0
SECRET: Final = "redteam-supervisor-secret"
_MOUNT: Final = 'mount -t tmpfs -o "$1" redteam "$2" && shift 2 && exec "$@"'


def numbers() -> dict[str, int]:
    """System calls by name, on this machine."""
    column = seccomp.ARCHITECTURES[kernel.MACHINE][0]
    tables = (syscall_table.ALLOWED, syscall_table.CHECKED, syscall_table.DENIED)
    found = {name: row[column] for table in tables for name, row in table.items()}
    return {name: number for name, number in found.items() if number is not None}


class SlotProcess:
    """One driver.py, with one slot."""

    def __init__(
        self,
        place: Place,
        home: Home,
        scratch: Path,
        walls: dict[str, bool],
        *,
        tmpfs: bool = False,
        network: Network | None = None,
        tcp_ports: Sequence[int] = (),
    ) -> None:
        driver = place.code / "redteam_driver.py"
        if not driver.exists():
            shutil.copy(Path(__file__).with_name("driver.py"), driver)
            driver.chmod(0o644)
        environment = {
            "PYTHONPATH": str(place.code),
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "REDTEAM_SECRET": SECRET,
        }
        told = [json.dumps(walls), str(scratch), json.dumps(tcp_ports)]
        command = [os.path.realpath(sys.executable), "-B", str(driver), *told]
        if AS_ROOT:
            user = str(home.uid)
            command = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", *command]
        if tmpfs:
            options = f"size=64m,nr_inodes=4096,mode=0700,uid={home.uid},gid={home.uid}"
            mount = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", _MOUNT, "sh", options, str(scratch)]
            command = [*mount, *command]
        start = partial(
            subprocess.Popen, command, env=environment, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.process: subprocess.Popen[bytes] = network.run(start) if network is not None else start()
        self._buffer = b""

    def send(self, **request: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        deadline = time.monotonic() + ANSWER_SECONDS
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self.process.stdout.fileno(), 1 << 20) if ready else b""
            assert data, "the driver ended" if ready else f"no answer in {ANSWER_SECONDS} s"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def run(self, code: str, *, context: Any, validate: bool, limits: Limits, dumpable: bool) -> tuple[Outcome, int]:
        """The outcome, and how many descriptors the supervisor holds after it."""
        program = {"code": code, "context": context, "validate": validate}
        self.send(program=program, limits=limits.as_dict(), dumpable=dumpable)
        answer = self.receive()
        return Outcome.from_message(answer["outcome"]), answer["descriptors"]

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()


@dataclass(frozen=True, slots=True)
class Seen:
    """What an attack showed, and how the sandbox was afterwards."""

    outcome: Outcome
    evidence: str
    descriptors: int
    """How many the supervisor has more than before its first attack."""
    next_outcome: Outcome
    strays: list[int]
    """Processes that are neither supervisor nor zygote."""


class Site:
    """A slot with some walls down, and its surroundings: files, sockets, a neighbour of the same user.

    With `tcp` all of it is in a network of its own, and a port where somebody listens is on the list.
    """

    def __init__(self, place: Place, down: frozenset[str], *, tmpfs: bool, tcp: bool) -> None:
        self._place = place
        self._down = down
        self._home = place.home()
        self._outside = self._owned(self._home.path / "outside")
        walls = {name: False for name in down if name != "not dumpable"}
        self._neighbour: SlotProcess | None = None
        self._listeners = ExitStack()
        self._network = Network() if tcp else None
        listed = self._tcp() if tcp else None
        self._slot = SlotProcess(
            place,
            self._home,
            self._home.scratch,
            walls,
            tmpfs=tmpfs,
            network=self._network,
            tcp_ports=(listed,) if listed else (),
        )
        self._context = {**self._listen(), "listed": listed}
        _, self._descriptors = self._trivial()

    def _owned(self, folder: Path) -> Path:
        folder.mkdir()
        os.chown(folder, self._home.uid, -1)
        return folder

    def _here(self, make: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Makes something where the slot is."""
        run = self._network.run if self._network is not None else lambda call, *a, **o: call(*a, **o)
        return run(make, *arguments, **options)

    def _tcp(self) -> int:
        """The port of a new listener, which takes up nobody, and so has room for all."""
        made = self._listeners.enter_context(self._here(socket.create_server, ("127.0.0.1", 0), backlog=4096))
        port: int = made.getsockname()[1]
        return port

    def _listen(self) -> dict[str, Any]:
        udp = self._listeners.enter_context(self._here(socket.socket, socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        abstract = f"warmpool-redteam-{os.getpid()}-{self._slot.process.pid}"
        self._listeners.enter_context(self._here(_unix, socket.SOCK_STREAM, "\0" + abstract))
        for kind, name in ((socket.SOCK_STREAM, "stream"), (socket.SOCK_DGRAM, "datagram")):
            self._listeners.enter_context(self._here(_unix, kind, str(self._outside / name)))
            os.chown(self._outside / name, self._home.uid, -1)
        return {
            "numbers": numbers(),
            "outside": str(self._outside),
            "supervisor": self._slot.process.pid,
            "tcp_port": self._tcp(),
            "udp_port": udp.getsockname()[1],
            "abstract": abstract,
        }

    def attack(self, trial: Trial, *, validate: bool) -> Seen:
        self._furnish()
        options = {"validate": validate, "limits": Limits(**trial.limits), "dumpable": "not dumpable" in self._down}
        if trial.first is not None:
            self._slot.run(trial.first, context=self._context, **options)
        context = {**self._context, "beside": self._start_beside(trial.beside)} if trial.beside else self._context
        outcome, _ = self._slot.run(trial.code, context=context, **options)
        seen = evidence(outcome)
        if trial.twice and outcome.status.value == "ok":
            again, _ = self._slot.run(trial.code, context=context, **options)
            seen = "the same" if outcome.value == again.value else "different"
        if trial.beside:
            self._end_beside()
        next_outcome, descriptors = self._trivial()
        return Seen(outcome, seen, descriptors - self._descriptors, next_outcome, self._strays())

    def _trivial(self) -> tuple[Outcome, int]:
        return self._slot.run("1 + 1", context=None, validate=True, limits=Limits(), dumpable=False)

    def _furnish(self) -> None:
        for path in self._outside.iterdir():
            if not path.is_socket():
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for name, text in (("secret", "the secret"), ("victim", "x")):
            path = self._outside / name
            path.write_text(text)
            path.chmod(0o600)
            os.chown(path, self._home.uid, -1)

    def _start_beside(self, code: str) -> Any:
        if self._neighbour is None:
            scratch = self._owned(self._home.path / "scratch-of-the-neighbour")
            self._neighbour = SlotProcess(self._place, self._home, scratch, {})
        program = {"code": code, "context": None, "validate": False}
        self._neighbour.send(program=program, limits=Limits().as_dict(), dumpable=False)
        return self._neighbour.receive()["ready"]

    def _end_beside(self) -> None:
        assert self._neighbour is not None
        self._neighbour.send(cancel=True)
        self._neighbour.receive()

    def _strays(self) -> list[int]:
        supervisors = {slot.process.pid for slot in (self._slot, self._neighbour) if slot is not None}
        below = {process for supervisor in supervisors for process in processes.descendants(supervisor)}
        zygotes = {process for process in below if psutil.Process(process).ppid() in supervisors}
        # As root the user is the site's own, and what it runs is found wherever it hangs.
        everywhere = _processes_of(self._home.uid) if AS_ROOT else set()
        return sorted((below | everywhere) - supervisors - zygotes)

    def close(self) -> None:
        for slot in (self._slot, self._neighbour):
            if slot is not None:
                slot.close()
        self._listeners.close()
        if self._network is not None:
            self._network.close()


def _processes_of(uid: int) -> set[int]:
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(FileNotFoundError, ProcessLookupError):
            if os.stat(f"/proc/{name}").st_uid == uid:
                found.add(int(name))
    return found


def _unix(kind: int, address: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, kind)
    listener.bind(address)
    if kind == socket.SOCK_STREAM:
        listener.listen(128)
    return listener


def evidence(outcome: Outcome) -> str:
    """What an outcome shows: the value, as text, or the status that is not `ok`."""
    if outcome.status.value != "ok":
        return outcome.status.value
    return outcome.value if isinstance(outcome.value, str) else json.dumps(outcome.value)

"""Runs inside a child, as any program would, and tries each wall. Its value is a list of findings."""

import ctypes
import errno
import os
import platform
import resource
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)
context: dict[str, Any] = globals()["context"]
findings: list[dict[str, Any]] = []


def holds(name: str, value: bool, seen: str) -> None:
    findings.append({"name": name, "holds": value, "seen": seen})


def refused(name: str, action: Callable[[], object], *expected: int) -> None:
    """`action` must fail with one of the error numbers."""
    try:
        action()
    except OSError as fault:
        holds(name, fault.errno in expected, errno.errorcode.get(fault.errno or 0, str(fault)))
    else:
        holds(name, False, "it was allowed")


def trace_zygote() -> None:
    seize = 0x4206
    number = 101 if platform.machine() == "x86_64" else 117
    if libc.syscall(number, seize, os.getppid(), 0, 0) == -1:
        raise OSError(ctypes.get_errno(), "ptrace")


def too_much_memory() -> None:
    try:
        bytearray(1 << 31)
    except MemoryError:
        raise OSError(errno.ENOMEM, "bytearray") from None


def too_many_processes() -> None:
    for _ in range(context["processes"] + 1):
        if os.fork() == 0:
            time.sleep(60)


def too_large_file() -> None:
    with open("probe", "wb") as file:
        file.truncate(1 << 40)


def connects_to_its_ports_only(ports: list[int]) -> None:
    """Each of them is tried, and every other. That nobody listens is a connection tried, too."""
    for port in ports:
        with socket.socket() as way:
            way.setblocking(False)
            holds(f"network: TCP to port {port}", way.connect_ex(("127.0.0.1", port)) not in (EACCES, EPERM), "tried")
    with socket.socket() as way:  # what is refused leaves it as it was
        way.setblocking(False)
        others = (port for port in range(1, 1 << 16) if port not in ports)
        let_through = [port for port in others if way.connect_ex(("127.0.0.1", port)) != EACCES]
    holds("network: TCP to any other port", not let_through, f"tried: {let_through[:9]}" if let_through else "EACCES")


EPERM, EACCES = errno.EPERM, errno.EACCES
SHARED_MEMORY = "/dev/shm"  # noqa: S108  the one folder of a pod that is open to all and not read-only
PUBLIC = SHARED_MEMORY if os.path.isdir(SHARED_MEMORY) else "/tmp"  # noqa: S108
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount/token"

refused("files: read outside", lambda: open(os.path.realpath(sys.executable)).close(), EACCES)
refused("files: write outside", lambda: open(f"{PUBLIC}/warmpool-probe", "w").close(), EACCES)
refused("files: /proc", lambda: open("/proc/self/environ").close(), EACCES)
refused("files: service-account token", lambda: open(SERVICE_ACCOUNT).close(), EACCES, errno.ENOENT)
refused("processes: exec", lambda: os.execv("/bin/true", ["true"]), EPERM, EACCES)  # noqa: S606
refused("processes: signal the supervisor", lambda: os.kill(context["supervisor"], 0), EPERM)
refused("processes: signal the zygote", lambda: os.kill(os.getppid(), 0), EPERM)
refused("processes: trace the zygote", trace_zygote, EPERM)
for family, name in ((2, "IPv4"), (10, "IPv6"), (1, "unix"), (16, "netlink"), (38, "AF_ALG"), (40, "vsock")):
    refused(f"network: {name}", partial(socket.socket, family, socket.SOCK_DGRAM), EPERM)
if context["tcp_ports"]:
    connects_to_its_ports_only(context["tcp_ports"])
    refused("network: MPTCP", partial(socket.socket, 2, socket.SOCK_STREAM, 262), EPERM)
    refused("network: listen", lambda: socket.create_server(("127.0.0.1", 0)), EPERM)
else:
    refused("network: TCP", socket.socket, EPERM)
refused("limits: memory", too_much_memory, errno.ENOMEM)
refused("limits: processes", too_many_processes, errno.EAGAIN)
refused("limits: file size", too_large_file, errno.EFBIG)
refused("limits: open files", lambda: [os.dup(0) for _ in range(100_000)], errno.EMFILE)
holds("limits: no core dumps", resource.getrlimit(resource.RLIMIT_CORE) == (1, 1), "RLIMIT_CORE")
holds(
    "environment",
    set(os.environ)
    <= {"HOME", "TMPDIR", "LC_ALL", "LC_CTYPE", "TZ", "PATH", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"},
    " ".join(sorted(os.environ)),
)
findings  # noqa: B018  the program's value

"""`warmpool-sandbox serve`: a sandbox pod's process. `warmpool-sandbox probe`: what this machine gives."""

import _socket
import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

from warmpool.protocol import CLOSED_TCP_PORTS, MOST_TCP_PORTS, READY_PERIOD_SECONDS, Limits
from warmpool_sandbox import boot, cgroup, kernel, probe
from warmpool_sandbox.health import Health
from warmpool_sandbox.looks import Pod
from warmpool_sandbox.slot import Slot
from warmpool_sandbox.supervisor import Supervisor, serve

CANNOT_LISTEN: Final = 1
BELOW_FLOOR: Final = 3

TERMINATION_LOG: Final = Path("/dev/termination-log")
"""Where the kubelet looks for why a container ended; it makes the file. Elsewhere there is none."""
_TERMINATION_LOG_BYTES: Final = 4096
"""What the kubelet keeps."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong with an argument also where the kubelet shows it."""

    def error(self, message: str) -> NoReturn:
        leave_word(f"{self.prog}: {message}")
        super().error(message)


def leave_word(text: str) -> None:
    with suppress(OSError), open(os.open(TERMINATION_LOG, os.O_WRONLY | os.O_TRUNC), "wb") as file:
        file.write(text.encode("ascii", "backslashreplace")[:_TERMINATION_LOG_BYTES])


def main(arguments: Sequence[str] | None = None, bell: _socket.socket | None = None) -> None:
    """`bell` listens on the health port already."""
    parser = Parser(prog="warmpool-sandbox", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="run programs for the gateways of a pool")
    serving.add_argument("--pod", required=True, help="this pod's id in the registry")
    serving.add_argument("--pool", default="default", help="the pool's name (default: %(default)s)")
    serving.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serving.add_argument("--port", type=int, default=8888, help="port; 0 takes a free one (default: %(default)s)")
    serving.add_argument(
        "--key-file", type=_key, required=True, dest="key", help="file with the pool's key, at least 32 bytes"
    )
    serving.add_argument("--single-use", action="store_true", help="end after the first program")
    serving.add_argument("--one-tenant", action="store_true", help="serve the first tenant only")
    serving.add_argument("--health-port", type=int, help="port of /healthz and /readyz for the kubelet; default: none")
    probing = commands.add_parser("probe", help="try every wall and print which hold; exit code 3 below the floor")
    probing.add_argument("--json", action="store_true", help="print JSON instead of a table")
    for command in (serving, probing):
        command.add_argument(
            "--limits", type=_limits, default=Limits(), help="limits lower than the defaults, as a JSON object"
        )
        command.add_argument(
            "--in-pod", action="store_true", help="require what a pod gives: limits, read-only mounts, no token"
        )
        command.add_argument(
            "--scratch",
            type=_folder,
            required=command is serving,
            help="folder that programs may write to; emptied after each. A probe leaves it alone",
        )
        command.add_argument(
            "--tcp-ports",
            type=_tcp_ports,
            default=(),
            help="ports that programs may connect to, as 443,8443; default: none",
        )
        command.add_argument("--tools", type=_folder, help="folder that holds the tool stubs' package `servers`")
        command.add_argument(
            "--min-landlock-abi", type=int, default=probe.MIN_LANDLOCK_ABI, help="the floor (default: %(default)s)"
        )
    options = parser.parse_args(arguments)
    if options.command == "serve":
        _keep_own_ports(parser, options)
    _protect()
    sys.exit(asyncio.run(_serve(options, bell) if options.command == "serve" else _probe(options)))


def _key(path: str) -> bytes:
    try:
        key = Path(path).read_bytes().strip()
    except OSError as fault:
        raise argparse.ArgumentTypeError(str(fault)) from fault
    if len(key) < 32:
        raise argparse.ArgumentTypeError(f"{path} holds {len(key)} bytes, 32 are the least")
    return key


def _folder(path: str) -> Path:
    if not Path(path).is_dir():
        raise argparse.ArgumentTypeError(f"{path} is not a folder")
    return Path(path).absolute()


def _limits(text: str) -> Limits:
    try:
        requested = json.loads(text)
        if not isinstance(requested, dict):
            raise ValueError(f"{text} is not a JSON object")
        return Limits().lowered(requested)
    except ValueError as fault:
        raise argparse.ArgumentTypeError(str(fault)) from fault


def _tcp_ports(text: str) -> tuple[int, ...]:
    words = text.split(",")
    if not all(word.isascii() and word.isdecimal() and 0 < int(word) < 1 << 16 for word in words):
        raise argparse.ArgumentTypeError(f"{text} is not a list of ports, such as 443,8443")
    ports = tuple(sorted(set(map(int, words))))
    if closed := set(ports) & set(CLOSED_TCP_PORTS):
        raise argparse.ArgumentTypeError(f"{min(closed)} is never open: it leads to a name server or the platform")
    if len(ports) > MOST_TCP_PORTS:
        raise argparse.ArgumentTypeError(f"{len(ports)} ports, {MOST_TCP_PORTS} are the most")
    return ports


def _keep_own_ports(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """A program is not to knock at its own supervisor; a port that the kernel chooses might be any."""
    if options.tcp_ports and {0, *options.tcp_ports} & {options.port, options.health_port}:
        parser.error("--port and --health-port must be ports of their own, not 0 and none of --tcp-ports")


def _protect() -> None:
    """Closes this process to its own user, and adopts what a dying zygote leaves."""
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    os.umask(0o077)


def _slot(options: argparse.Namespace, scratch: Path) -> Slot:
    return Slot(scratch, options.tools, pod=_pod() if options.in_pod else None, tcp_ports=options.tcp_ports)


def _pod() -> Pod | None:
    """None where its memory is without limit or cannot be read, which a check of the probe says too."""
    limit = cgroup.Limits.read().memory_bytes
    with suppress(OSError):
        return None if limit is None else Pod(cgroup.MemoryUse(), limit, _cpu_use())
    return None


def _cpu_use() -> cgroup.CpuUse | None:
    with suppress(OSError):
        return cgroup.CpuUse()
    return None


async def _report(slot: Slot, options: argparse.Namespace) -> probe.Report:
    container: list[probe.Check] = []
    if options.in_pod:
        container = probe.in_pod(options.limits, options.scratch, options.tools, network=bool(options.tcp_ports))
    return await probe.probe(slot, options.min_landlock_abi, container)


async def _probe(options: argparse.Namespace) -> int:
    # In a pod nothing else is to be written to, but for scratch, where a program may be at work.
    place = "/dev/shm" if options.in_pod else None  # noqa: S108
    with tempfile.TemporaryDirectory(prefix="warmpool-probe-", dir=place) as folder:
        slot = _slot(options, Path(folder))
        report = await _report(slot, options)
        slot.close()
    sys.stdout.write((report.to_json() if options.json else report.to_table()) + "\n")
    return 0 if report.meets_floor else BELOW_FLOOR


async def _serve(options: argparse.Namespace, bell: _socket.socket | None) -> int:
    boot.end_when_told()
    slot = _slot(options, options.scratch)
    try:
        if bell is None and options.health_port is not None:
            bell = boot.listen(options.host, options.health_port)
    except OSError as fault:
        return _cannot_listen(fault)
    report = await _report(slot, options)
    if not report.meets_floor:
        sys.stderr.write(report.to_table() + "\n")
        leave_word(report.to_paragraph())
        slot.close()
        return BELOW_FLOOR
    if not await slot.rehearse(options.limits):
        leave_word("a harmless program did not end as it should")
        slot.close()
        return BELOW_FLOOR
    supervisor = Supervisor(
        slot, pod=options.pod, pool=options.pool, key=options.key, limits=options.limits,
        single_use=options.single_use, one_tenant=options.one_tenant,
    )  # fmt: skip
    try:
        server = await serve(supervisor, options.host, options.port)
    except OSError as fault:
        slot.close()
        return _cannot_listen(fault)
    health = Health()
    if bell is not None:
        await health.serve(bell)
    told = asyncio.Event()

    def end() -> None:
        told.set()
        supervisor.drain()

    loop = asyncio.get_running_loop()
    for number in boot.STOP:
        loop.add_signal_handler(number, end)
    host, port = server.sockets[0].getsockname()[:2]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    sys.stdout.write(json.dumps({"listening": address, "landlock_abi": report.landlock_abi}) + "\n")
    sys.stdout.flush()
    await supervisor.stopped.wait()
    server.close()
    await supervisor.farewell()
    if bell is not None:
        await _outlive_a_question(health, told)
    return 0


async def _outlive_a_question(health: Health, told: asyncio.Event) -> None:
    """A kubelet learns of an end a second later or two. Until it asks again is time enough for that, and to ask one
    that is gone would cost the API server an event. One that is `told` to end does so at once."""
    health.said_ready.clear()
    waits = [asyncio.ensure_future(event.wait()) for event in (health.said_ready, told)]
    await asyncio.wait(waits, timeout=READY_PERIOD_SECONDS + 1, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


def _cannot_listen(fault: OSError) -> int:
    sys.stderr.write(f"warmpool-sandbox: cannot listen: {fault}\n")
    leave_word(f"cannot listen: {fault}")
    return CANNOT_LISTEN


if __name__ == "__main__":
    main()

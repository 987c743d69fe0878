"""`warmpool-sandbox serve`: a sandbox pod's process. `warmpool-sandbox probe`: what this machine gives."""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from warmpool.protocol import Limits
from warmpool_sandbox import cgroup, kernel, probe
from warmpool_sandbox.execution import Pod
from warmpool_sandbox.health import Health
from warmpool_sandbox.slot import Slot
from warmpool_sandbox.supervisor import Supervisor, serve

BELOW_FLOOR = 3
_TERMINATION_LOG_CHARACTERS = 2048  # the kubelet keeps 4096 bytes


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="warmpool-sandbox", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="run programs for the gateways of a pool")
    serving.add_argument("--pod", required=True, help="this pod's id in the registry")
    serving.add_argument("--pool", default="default", help="the pool's name (default: %(default)s)")
    serving.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serving.add_argument("--port", type=int, default=8888, help="port; 0 takes a free one (default: %(default)s)")
    serving.add_argument(
        "--key-file", type=_key, required=True, dest="key", help="file with the pool's key, at least 32 bytes"
    )
    serving.add_argument("--health-port", type=int, help="port of /healthz and /readyz for the kubelet; default: none")
    serving.add_argument(
        "--termination-log",
        type=Path,
        help="file for the reason of an end below the floor, as the kubelet shows it; default: none",
    )
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
            help="folder that programs may write to; emptied after each",
        )
        command.add_argument("--tools", type=_folder, help="folder that holds the tool stubs' package `servers`")
        command.add_argument(
            "--min-landlock-abi", type=int, default=probe.MIN_LANDLOCK_ABI, help="the floor (default: %(default)s)"
        )
    options = parser.parse_args(arguments)
    _protect()
    sys.exit(asyncio.run(_serve(options) if options.command == "serve" else _probe(options)))


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


def _protect() -> None:
    """Closes this process to its own user, and adopts what a dying zygote leaves."""
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    os.umask(0o077)


def _slot(options: argparse.Namespace, scratch: Path) -> Slot:
    limit = cgroup.Limits.read().memory_bytes if options.in_pod else None
    return Slot(scratch, options.tools, pod=None if limit is None else Pod(cgroup.MemoryUse(), limit))


async def _report(slot: Slot, options: argparse.Namespace, scratch: Path) -> probe.Report:
    container = probe.in_pod(options.limits, scratch, options.tools) if options.in_pod else []
    return await probe.probe(slot, options.min_landlock_abi, container)


async def _probe(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="warmpool-probe-") as folder:
        scratch = options.scratch or Path(folder, "scratch")
        scratch.mkdir(exist_ok=True)
        report = await _report(slot := _slot(options, scratch), options, scratch)
        slot.close()
    sys.stdout.write((report.to_json() if options.json else report.to_table()) + "\n")
    return 0 if report.meets_floor else BELOW_FLOOR


async def _serve(options: argparse.Namespace) -> int:
    slot = _slot(options, options.scratch)
    report = await _report(slot, options, options.scratch)
    if not report.meets_floor:
        sys.stderr.write(report.to_table() + "\n")
        if options.termination_log:
            options.termination_log.write_text(report.to_sentence()[:_TERMINATION_LOG_CHARACTERS], encoding="utf-8")
        slot.close()
        return BELOW_FLOOR
    supervisor = Supervisor(slot, pod=options.pod, pool=options.pool, key=options.key, limits=options.limits)
    server = await serve(supervisor, options.host, options.port)
    if options.health_port is not None:
        await Health(supervisor.unready).serve(options.host, options.health_port)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.drain)
    host, port = server.sockets[0].getsockname()[:2]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    sys.stdout.write(json.dumps({"listening": address, "landlock_abi": report.landlock_abi}) + "\n")
    sys.stdout.flush()
    await supervisor.stopped.wait()
    server.close()
    await supervisor.farewell()
    return 0


if __name__ == "__main__":
    main()

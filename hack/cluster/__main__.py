"""`python -m hack.cluster`: a real Kubernetes of one node on this machine, for development and checks."""

import argparse
import fcntl
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hack.cluster import binaries, boot, images, teardown
from hack.cluster.instance import CHECKOUT, Instance
from hack.cluster.processes import recorded
from hack.cluster.shell import ClusterError

OUT = CHECKOUT / ".cache" / "cluster"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="hack.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="make it, or find it whole; its kubeconfig is .cache/cluster/kubeconfig")
    commands.add_parser("down", help="take it away and leave nothing")
    commands.add_parser("status", help="say whether it is whole; exit code 1 if not")
    loading = commands.add_parser("load", help="import images")
    loading.add_argument("archive", nargs="+", type=Path, help="as `docker save` writes them")
    options = parser.parse_args(arguments)
    instance = Instance()
    try:
        if options.command == "status":
            return _status(instance)
        with _locked(instance):
            match options.command:
                case "up":
                    boot.up(instance)
                    _hand_over(instance)
                case "down":
                    teardown.down(instance)
                case "load":
                    images.load(instance, options.archive)
    except ClusterError as fault:
        sys.stderr.write(f"cluster: {fault}\n")
        return 1
    return 0


def _hand_over(instance: Instance) -> None:
    """Puts the kubeconfig, and the binaries that people want, where this checkout looks for them."""
    tools = OUT / "bin"
    tools.mkdir(parents=True, exist_ok=True)
    for name in ("kubectl", "helm"):
        (tools / name).unlink(missing_ok=True)
        (tools / name).symlink_to(binaries.folder() / name)
    kubeconfig = OUT / "kubeconfig"
    kubeconfig.unlink(missing_ok=True)
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_bytes(instance.admin.read_bytes())
    sys.stdout.write(f"export KUBECONFIG={kubeconfig} PATH={tools}:$PATH\n")


def _status(instance: Instance) -> int:
    wrong = boot.problem(instance, binaries.folder())
    for name, process in recorded(instance).items():
        sys.stdout.write(f"{name:<24} {'runs' if process.alive else 'DEAD'}  pid {process.pid}\n")
    sys.stdout.write(f"{wrong or 'whole: the API server answers and the node is ready'}\n")
    return 0 if wrong is None else 1


@contextmanager
def _locked(instance: Instance) -> Iterator[None]:
    """One at a time; a second waits."""
    handle = os.open(instance.lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m hack.cluster`: a real Kubernetes of one node on this machine, for development and checks."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hack.cluster import binaries, boot, images, node, teardown
from hack.cluster.instance import CHECKOUT, Instance
from hack.cluster.processes import recorded
from hack.cluster.shell import ClusterError, locked

OUT = CHECKOUT / ".cache" / "cluster"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="hack.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="make it, or find it whole; its kubeconfig is .cache/cluster/kubeconfig")
    commands.add_parser("down", help="take it away and leave nothing")
    commands.add_parser("status", help="say whether it is whole; exit code 1 if not")
    restarting = commands.add_parser("restart", help="kill one component, and start it again after a while")
    restarting.add_argument("component", help="as `status` names it")
    restarting.add_argument(
        "--down-seconds", type=float, default=0.0, metavar="SECONDS", help="between both; default: %(default)s"
    )
    loading = commands.add_parser("load", help="import images")
    loading.add_argument("archive", nargs="+", type=Path, help="as `docker save` writes them")
    entering = commands.add_parser("enter", help="run a command on the node, such as `bash` or `nft list ruleset`")
    entering.add_argument("words", nargs=argparse.REMAINDER, metavar="command")
    commands.add_parser("kwok", help="build kwok, which plays nodes for measurements, and print its path")
    options = parser.parse_args(arguments)
    instance = Instance()
    try:
        if options.command == "kwok":
            sys.stdout.write(f"{binaries.KWOK.ensure() / 'kwok'}\n")
            return 0
        if os.geteuid() != 0:
            raise ClusterError("this needs root: it makes namespaces, mounts and cgroups")
        _direct(instance)
        if options.command == "status":
            return _status(instance)
        if options.command == "enter":
            return _enter(instance, options.words)
        with locked(instance.state.parent):
            match options.command:
                case "up":
                    _hand_over(instance, boot.up(instance))
                case "down":
                    teardown.down(instance)
                case "restart":
                    boot.restart(instance, options.component, options.down_seconds)
                case "load":
                    images.load(instance, options.archive)
    except ClusterError as fault:
        sys.stderr.write(f"cluster: {fault}\n")
        return 1
    return 0


def _direct(instance: Instance) -> None:
    """Finds the system's tools where `su` left them out of PATH, and the node without the proxy that Go may need."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    without = os.environ.get("NO_PROXY") or os.environ.get("no_proxy")
    os.environ["NO_PROXY"] = ",".join(filter(None, [without, instance.node_address]))


def _hand_over(instance: Instance, built: Path) -> None:
    """Puts the kubeconfig, and the binaries that people want, where this checkout looks for them."""
    tools = OUT / "bin"
    tools.mkdir(parents=True, exist_ok=True)
    for name in ("kubectl", "helm"):
        (tools / name).unlink(missing_ok=True)
        (tools / name).symlink_to(built / name)
    kubeconfig = OUT / "kubeconfig"
    kubeconfig.unlink(missing_ok=True)
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_bytes(instance.admin.read_bytes())
    sys.stdout.write(f"export KUBECONFIG={kubeconfig} PATH={tools}:$PATH\n")


def _status(instance: Instance) -> int:
    wrong = boot.problem(instance)
    for name, process in recorded(instance).items():
        sys.stdout.write(f"{name:<24} {'runs' if process.alive else 'DEAD'}\n")
    sys.stdout.write(f"{wrong or 'whole: the API server answers and the node is ready'}\n")
    return 0 if wrong is None else 1


def _enter(instance: Instance, words: Sequence[str]) -> int:
    inner = recorded(instance).get("node")
    if inner is None or not inner.alive:
        raise ClusterError("there is no node to enter: run make cluster-up")
    return subprocess.run(node.enter(inner, *words), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

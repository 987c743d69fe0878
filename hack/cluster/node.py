"""The node: one process with a network, mounts and process numbers of its own. Whatever runs in it ends with it.

So nothing that a kubelet, a container or a plugin leaves behind has to be known to be taken away: the kernel does it.
"""

import subprocess
from pathlib import Path
from typing import Final

from hack.cluster import config, processes
from hack.cluster.instance import Instance
from hack.cluster.processes import Process
from hack.cluster.shell import ClusterError, run, succeeds

PRIVATE: Final = ("/run", "/var/lib", "/var/log")
"""Where components write what cannot be moved by a flag: each is empty in the node, and not the machine's."""


def make(instance: Instance, built: Path) -> Process:
    """The node, joined to the machine by a pair of links and with no way out of it; `built` is its `bin` folder."""
    node = _namespaces(instance)
    _mounts(instance, node, built)
    _network(instance, node)
    return node


def enter(node: Process, *command: str | Path) -> list[str]:
    """The command as one that runs in the node."""
    return ["nsenter", f"--target={node.pid}", "--net", "--mount", "--pid", "--", *map(str, command)]


def find(instance: Instance) -> Process | None:
    """The node as it was recorded or, where somebody removed the record, by its command line."""
    node = processes.recorded(instance).get("node")
    if node is None:
        named = run("pgrep", "--full", "--exact", _command(instance), check=False).split()
        node = Process.of(int(named[0])) if named else None
    return node


def unlink(instance: Instance) -> None:
    """Removes the link, and its routes with it. Left alone it would go a moment after the node."""
    succeeds("ip", "link", "delete", instance.host_link)


def traces(instance: Instance) -> list[str]:
    """What is left of it on the machine, in words."""
    routes = [line for line in run("ip", "route").splitlines() if instance.host_link in line.split()]
    links = [instance.host_link] if succeeds("ip", "link", "show", instance.host_link) else []
    return [*(f"route {route}" for route in routes), *(f"link {link}" for link in links)]


def _command(instance: Instance) -> str:
    return f"catatonit -P {instance.name}-node"  # the last word is for `find` and for people; catatonit ignores it


def _namespaces(instance: Instance) -> Process:
    # It waits for a word from here: a node that was not recorded, because `up` was killed, ends by itself.
    shell = f"echo made && read -r recorded && exec {_command(instance)} >&2"
    unshare = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
    with (instance.logs / "node.log").open("ab") as log:
        parent = subprocess.Popen(
            [*unshare, "sh", "-c", shell], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            start_new_session=True, text=True, cwd=instance.state,
        )  # fmt: skip
    assert parent.stdin is not None
    assert parent.stdout is not None
    with parent.stdin, parent.stdout:
        made = parent.stdout.readline()
        node = Process.of(int(run("pgrep", "--parent", str(parent.pid)))) if made else None
        if node is None:
            raise ClusterError(f"no namespaces could be made:\n{(instance.logs / 'node.log').read_text()}")
        processes.record(instance, "node", node)
        parent.stdin.write("recorded\n")
    return node


def _mounts(instance: Instance, node: Process, built: Path) -> None:
    run(*enter(node, "mount", "--bind", built, instance.binaries))
    for folder in PRIVATE:
        run(*enter(node, "mount", "-t", "tmpfs", "tmpfs", folder))


def _network(instance: Instance, node: Process) -> None:
    host, inner = instance.host_link, instance.node_link
    run("ip", "link", "add", host, "type", "veth", "peer", "name", inner, "netns", str(node.pid))
    run("ip", "address", "add", f"{instance.host_address}/30", "dev", host)
    run("ip", "link", "set", host, "up")
    for command in (
        ("ip", "link", "set", "lo", "up"),
        ("ip", "address", "add", f"{instance.node_address}/30", "dev", inner),
        ("ip", "link", "set", inner, "up"),
        ("sysctl", "-q", "-w", "net.ipv4.ip_forward=1"),
        ("ip", "route", "add", "blackhole", "default"),
    ):
        run(*enter(node, *command))
    for subnet in config.host_routes(instance):
        run("ip", "route", "add", subnet, "via", instance.node_address)

"""Taking a cluster away, whatever is left of it: processes, mounts, namespaces, links, routes, cgroups, folders."""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from hack.cluster import cgroups, images, network, processes
from hack.cluster.instance import Instance
from hack.cluster.processes import Process
from hack.cluster.shell import ClusterError, run, succeeds

CNI_RESULTS: Final = Path("/var/lib/cni/results")
CONTAINER_LOGS: Final = Path("/var/log/containers")


def down(instance: Instance) -> None:
    """Harmless where there is none. Raises ClusterError where something would stay."""
    recorded = processes.recorded(instance)
    kubelet = recorded.pop("kubelet", None)
    if kubelet is not None:
        processes.end([kubelet])  # first, or it would start again what is ended next
    _end_containers(instance)
    processes.end([process for name, process in recorded.items() if name != "containerd"])
    processes.end([process for name, process in recorded.items() if name == "containerd"])
    processes.end(_shims(instance))
    for namespace in _pod_namespaces(instance):
        _unmount(namespace)
        namespace.unlink(missing_ok=True)
    for file in _files_outside(instance):
        file.unlink(missing_ok=True)
    for mount in _mounts(instance):
        _unmount(mount)
    network.remove(instance)
    cgroups.remove(instance)
    for folder in (instance.state, instance.run):
        if folder.exists():
            shutil.rmtree(folder)
    left = remains(instance)
    if left:
        raise ClusterError("the cluster is down, but this is left:\n  " + "\n  ".join(left))


def remains(instance: Instance) -> list[str]:
    """What is still there of it, in words."""
    return [
        *(f"process {process.pid}" for process in processes.recorded(instance).values() if process.alive),
        *(f"shim {process.pid}" for process in _shims(instance)),
        *(f"mount {mount}" for mount in _mounts(instance)),
        *(f"namespace {path}" for path in (instance.network_namespace, *_pod_namespaces(instance)) if path.exists()),
        *(f"link {instance.host_link}" for _ in [0] if succeeds("ip", "link", "show", instance.host_link)),
        *(f"route {line}" for line in run("ip", "route").splitlines() if instance.node_address in line),
        *(f"cgroup {folder}" for folder in cgroups.folders(instance) if folder.exists()),
        *(f"folder {folder}" for folder in (instance.state, instance.run) if folder.exists()),
        *(f"file {file}" for file in _files_outside(instance)),
    ]


def _end_containers(instance: Instance) -> None:
    if not instance.containerd_socket.exists():
        return
    with suppress(ClusterError):  # containerd is dead: its shims are found by their socket's path
        for task in images.ctr(instance, "tasks", "list", "--quiet", timeout=10).split():
            images.ctr(instance, "tasks", "kill", "--signal", "SIGKILL", "--all", task, timeout=10, check=False)


def _shims(instance: Instance) -> list[Process]:
    return processes.with_words("containerd-shim", str(instance.containerd_socket))


def _mounts(instance: Instance) -> list[Path]:
    """Below our folders, the innermost first."""
    points = [
        Path(line.split()[4].replace("\\040", " ")) for line in Path("/proc/self/mountinfo").read_text().splitlines()
    ]
    ours = [point for point in points if point.is_relative_to(instance.state) or point.is_relative_to(instance.run)]
    return sorted(ours, key=lambda point: -len(point.parts))


def _pod_namespaces(instance: Instance) -> Iterator[Path]:
    """Network namespaces that containerd made for pods; the CNI library keeps their names with its results."""
    for result in CNI_RESULTS.glob(f"{instance.name}-pods-*"):
        with suppress(OSError, ValueError):
            interfaces = json.loads(result.read_text())["result"].get("interfaces", [])
            yield from {Path("/run/netns", Path(one["sandbox"]).name) for one in interfaces if one.get("sandbox")}


def _files_outside(instance: Instance) -> list[Path]:
    """What the CNI library and the kubelet put in places that cannot be told to them."""
    results = list(CNI_RESULTS.glob(f"{instance.name}-pods-*"))
    containers = {result.name.removeprefix(f"{instance.name}-pods-").rpartition("-")[0] for result in results}
    loopbacks = [CNI_RESULTS / f"cni-loopback-{container}-lo" for container in containers]
    links = [link for link in CONTAINER_LOGS.glob("*.log") if link.readlink().is_relative_to(instance.state)]
    return [file for file in (*results, *loopbacks, *links) if file.exists() or file.is_symlink()]


def _unmount(point: Path) -> None:
    if not succeeds("umount", point):
        succeeds("umount", "--lazy", point)

"""Taking a cluster away, whatever is left of it: processes, mounts, namespaces, links, routes, cgroups, folders."""

import shutil

from hack.cluster import cgroups, node, processes
from hack.cluster.instance import Instance
from hack.cluster.shell import ClusterError


def down(instance: Instance) -> None:
    """Harmless where there is none. Raises ClusterError where something would stay."""
    inner = node.find(instance)
    if inner is not None:
        inner.kill()  # all others end with it, whatever state they are in, and their mounts with them
        processes.wait_gone([inner, *processes.recorded(instance).values()])
    node.unlink(instance)
    cgroups.remove(instance)
    shutil.rmtree(instance.state, ignore_errors=True)
    left = remains(instance)
    if left:
        raise ClusterError("the cluster is down, but this is left:\n  " + "\n  ".join(left))


def remains(instance: Instance) -> list[str]:
    """What is still there of it, in words."""
    return [
        *(f"process {name} ({one.pid})" for name, one in processes.recorded(instance).items() if one.alive),
        *node.traces(instance),
        *(f"cgroup {folder}" for folder in cgroups.folders(instance) if folder.exists()),
        *(f"folder {folder}" for folder in [instance.state] if folder.exists()),
    ]

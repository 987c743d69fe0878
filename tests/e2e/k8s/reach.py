"""What can be reached from inside a pod: a program for its own python3, and the addresses worth trying."""

import json
from dataclasses import dataclass
from typing import Any, Final

from kubernetes.aio import client

from k8s.cluster import Cluster
from k8s.release import Release

TRY: Final = """
import concurrent.futures, json, socket, sys

QUERY = b"\\x12\\x34\\x01\\x00\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00" + b"".join(
    bytes([len(part)]) + part for part in (b"kubernetes", b"default", b"svc", b"cluster", b"local", b"")
) + b"\\x00\\x01\\x00\\x01"

def attempt(target):
    kind, host, port = target
    try:
        if kind == "tcp":
            socket.create_connection((host, port), 2).close()
        else:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
                way.settimeout(2)
                way.sendto(QUERY, (host, port))
                way.recv(512)
    except OSError as fault:
        return type(fault).__name__
    return "reached"

targets = json.loads(sys.argv[1])
with concurrent.futures.ThreadPoolExecutor(32) as several:
    print(json.dumps(dict(zip(targets, several.map(attempt, targets.values())))))
"""

REACHED: Final = "reached"


@dataclass(frozen=True, slots=True)
class Target:
    kind: str
    """`tcp`, or `dns` for a question that a name server would answer."""
    host: str
    port: int

    def to_json(self) -> list[Any]:
        return [self.kind, self.host, self.port]


async def reach(cluster: Cluster, pod: client.V1Pod, tried: dict[str, Target]) -> dict[str, str]:
    """What came of each, tried by a plain python3 in the pod's container."""
    asked = json.dumps({name: target.to_json() for name, target in tried.items()})
    return dict(await cluster.python_in(pod, TRY, asked))


async def targets(cluster: Cluster, release: Release, sandbox: client.V1Pod) -> dict[str, Target]:
    """Everything that a sandbox must have no way to, by address. `sandbox` is another one than the one that tries."""
    found = {}
    for name in ("gateway", "servers", "redis", "postgres"):
        service = await cluster.core.read_namespaced_service(f"{release.name}-{name}", release.namespace)
        found[f"{name} service"] = Target("tcp", service.spec.cluster_ip, service.spec.ports[0].port)
        for pod in (await cluster.ready_pods(release.namespace, component=name))[:1]:
            port = pod.spec.containers[0].ports[0].container_port
            found[f"{name} pod"] = Target("tcp", pod.status.pod_ip, port)
    api = await cluster.core.read_namespaced_service("kubernetes", "default")
    found["API server service"] = Target("tcp", api.spec.cluster_ip, api.spec.ports[0].port)
    (subset,) = (await cluster.core.read_namespaced_endpoints("kubernetes", "default")).subsets
    found["API server"] = Target("tcp", subset.addresses[0].ip, subset.ports[0].port)
    found["node"] = Target("tcp", sandbox.status.host_ip, 10250)  # the kubelet
    for service in (await cluster.core.list_namespaced_service("kube-system", label_selector="k8s-app=kube-dns")).items:
        found["DNS"] = Target("dns", service.spec.cluster_ip, 53)
        found["DNS over TCP"] = Target("tcp", service.spec.cluster_ip, 53)
    found["another sandbox"] = Target("tcp", sandbox.status.pod_ip, 8888)
    return found

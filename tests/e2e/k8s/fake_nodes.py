"""Nodes that kwok plays: pods are bound to them, become ready and end, and nothing runs.

For what thousands of pods cost the operator. kwok is an ordinary process here, and nothing of it is in the cluster but
the nodes; they are tainted, so that no pod lands there which was not made for them.
"""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from harness.waiting import until
from kubernetes.aio import client

from k8s.cluster import Cluster
from k8s.own_operator import operating

LABEL: Final = "warmpool.dev/fake-node"
"""And taint."""
STAGES: Final = Path(__file__).with_name("stages.yaml")
PODS_PER_NODE: Final = 256
CIDR: Final = "198.18.0.0/15"
"""Set apart for measurements by RFC 2544: no pod of a cluster has such an address, and nothing is sent there."""
LEASE_SECONDS: Final = 120
"""kwok renews after a quarter of it; the cluster takes a node for lost after 40 s or more."""

PLACEMENT: Final[dict[str, Any]] = {
    "nodeSelector": {LABEL: "true"},
    "tolerations": [{"key": LABEL, "operator": "Exists"}],
}
"""Of a pod that runs there."""


@asynccontextmanager
async def fake_nodes(cluster: Cluster, kwok: Path, pods: int, log: Path) -> AsyncIterator[None]:
    """As many as so many pods need. Gone at the end, and what an earlier run left goes first."""
    await remove(cluster)
    arguments = {
        "config": STAGES, "manage-nodes-with-label-selector": f"{LABEL}=true", "kubeconfig": os.environ["KUBECONFIG"],
        "cidr": CIDR, "node-lease-duration-seconds": LEASE_SECONDS,
    }  # fmt: skip
    # It ends with this process, however that ends.
    program = ("setpriv", "--pdeathsig", "KILL", str(kwok), *(f"--{name}={value}" for name, value in arguments.items()))
    async with operating(os.environ, log, program):
        try:
            for number in range(-(-pods // PODS_PER_NODE)):
                await cluster.core.create_node(_node(f"fake-{number}"))
            await until(lambda: _are_ready(cluster), 60, "the fake nodes are ready")
            yield
        finally:
            await remove(cluster)


async def remove(cluster: Cluster) -> None:
    await cluster.core.delete_collection_node(label_selector=f"{LABEL}=true")


def version(kwok: Path) -> str:
    said = subprocess.run([kwok, "--version"], capture_output=True, text=True, check=True)
    return said.stdout.split()[2]


def _node(name: str) -> client.V1Node:
    room = {"cpu": "1k", "memory": "1Ti", "ephemeral-storage": "1Ti", "pods": str(PODS_PER_NODE)}
    return client.V1Node(
        metadata=client.V1ObjectMeta(name=name, labels={LABEL: "true"}),
        spec=client.V1NodeSpec(taints=[client.V1Taint(key=LABEL, effect="NoSchedule")]),
        status=client.V1NodeStatus(allocatable=room, capacity=room),
    )


async def _are_ready(cluster: Cluster) -> bool:
    await asyncio.sleep(0.5)
    nodes = await cluster.core.list_node(label_selector=f"{LABEL}=true")
    return all(
        any(one.type == "Ready" and one.status == "True" for one in node.status.conditions or [])
        for node in nodes.items
    )

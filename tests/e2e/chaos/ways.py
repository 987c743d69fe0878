"""Ways from this machine to a release that is being broken, which outlive what they lead to.

By the Services' own addresses, where this machine has a route to them: then no way goes through the API server.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from harness.waiting import until
from k8s.cluster import Cluster
from k8s.forward import Forward, is_reachable
from k8s.release import Release
from k8s.service import moved, read_secret
from kubernetes.aio import client

HERE: Final = "127.0.0.1"
LOOK_SECONDS: Final = 0.2
REACH_SECONDS: Final = 5.0
"""For a NetworkPolicy to be in force."""
STORES: Final = {"redis": 6379, "postgres": 5432}


@dataclass(frozen=True, slots=True)
class Ways:
    gateway: str
    direct: bool
    """Whether each request finds a gateway that is ready; else they all go to one, until it is gone."""
    redis: str
    postgres: str


@asynccontextmanager
async def ways(cluster: Cluster, release: Release) -> AsyncIterator[Ways]:
    """URLs that stay the same until the end."""
    await _open_stores(cluster, release)
    async with (
        _way(cluster, release, "gateway") as gateway,
        _way(cluster, release, "redis") as redis,
        _way(cluster, release, "postgres") as postgres,
    ):
        yield Ways(
            gateway=f"http://{gateway[0]}:{gateway[1]}",
            direct=gateway[0] != HERE,
            redis=moved(await read_secret(cluster, release, "redis", "redis.url"), *redis),
            postgres=moved(await read_secret(cluster, release, "postgres", "postgres.dsn"), *postgres),
        )


async def _open_stores(cluster: Cluster, release: Release) -> None:
    """To anyone; the chart lets only its own in."""
    labels = client.V1LabelSelectorRequirement(key="app.kubernetes.io/component", operator="In", values=sorted(STORES))
    ports = [client.V1NetworkPolicyPort(protocol="TCP", port=port) for port in STORES.values()]
    policy = client.V1NetworkPolicy(
        metadata=client.V1ObjectMeta(name="chaos-stores"),
        spec=client.V1NetworkPolicySpec(
            pod_selector=client.V1LabelSelector(match_expressions=[labels]),
            policy_types=["Ingress"],
            ingress=[client.V1NetworkPolicyIngressRule(ports=ports)],
        ),
    )
    await cluster.networking.create_namespaced_network_policy(release.namespace, policy)


@asynccontextmanager
async def _way(cluster: Cluster, release: Release, component: str) -> AsyncIterator[tuple[str, int]]:
    name = f"{release.name}-{component}"
    service = await cluster.core.read_namespaced_service(name, release.namespace)
    host, port = service.spec.cluster_ip, service.spec.ports[0].port
    if await _reaches(host, port):
        yield host, port
        return
    forward = await asyncio.to_thread(Forward, release.namespace, name, port)
    keeping = asyncio.create_task(_keep(forward, release.namespace, name, port))
    try:
        yield HERE, forward.port
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping


async def _reaches(host: str, port: int) -> bool:
    with suppress(AssertionError):
        return await until(lambda: asyncio.to_thread(is_reachable, host, port), REACH_SECONDS)
    return False


async def _keep(forward: Forward, namespace: str, service: str, port: int) -> None:
    """One after another, from the same port."""
    here = forward.port
    try:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if forward.ended:
                forward.end()
                with suppress(AssertionError):  # nothing is there to forward to
                    forward = await asyncio.to_thread(Forward, namespace, service, port, here)
    finally:
        forward.end()

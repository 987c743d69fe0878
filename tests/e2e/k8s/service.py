"""The running release as its callers and its stores see it."""

import asyncio
import base64
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import aiohttp
from harness.waiting import until
from kubernetes.aio import client

from k8s.cluster import Cluster, connected
from k8s.forward import Forward, is_reachable
from k8s.release import Release

TENANT: Final = "e2e"
TIMEOUT: Final = aiohttp.ClientTimeout(total=60)


ASK: Final = """
import sys, urllib.request
headers = {"Authorization": f"Bearer {sys.argv[1]}"}
urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:8080/v1/executions?limit=1", headers=headers))
"""
"""Fails where the gateway of the container does not take the key."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """How the machine of the tests gets to what the release serves."""

    gateway: str
    redis: str
    postgres: str
    api_key: str


@contextmanager
def addresses(release: Release) -> Iterator[Addresses]:
    """The gateway by its Service, where this machine has a route to it; the stores by forwarded ports."""
    told = asyncio.run(_ask(release))
    with ExitStack() as ways:

        def forward(service: str, port: int) -> int:
            return ways.enter_context(Forward(release.namespace, f"{release.name}-{service}", port)).port

        host, port = told.gateway
        if not is_reachable(host, port):
            host, port = "127.0.0.1", forward("gateway", port)
        yield Addresses(
            gateway=f"http://{host}:{port}",
            redis=moved(told.redis, "127.0.0.1", forward("redis", 6379)),
            postgres=moved(told.postgres, "127.0.0.1", forward("postgres", 5432)),
            api_key=told.api_key,
        )


@dataclass(frozen=True, slots=True)
class _Told:
    gateway: tuple[str, int]
    redis: str
    postgres: str
    api_key: str


async def _ask(release: Release) -> _Told:
    async with connected() as cluster:
        service = await cluster.core.read_namespaced_service(f"{release.name}-gateway", release.namespace)
        return _Told(
            gateway=(service.spec.cluster_ip, service.spec.ports[0].port),
            redis=await read_secret(cluster, release, "redis", "redis.url"),
            postgres=await read_secret(cluster, release, "postgres", "postgres.dsn"),
            api_key=await new_key(cluster, release),
        )


async def read_secret(cluster: Cluster, release: Release, name: str, key: str) -> str:
    secret = await cluster.core.read_namespaced_secret(f"{release.name}-{name}", release.namespace)
    return base64.b64decode(secret.data[key]).decode()


async def new_key(cluster: Cluster, release: Release, tenant: str = TENANT) -> str:
    """An API key that every gateway knows, made as the notes of the chart say."""
    pod = await any_pod(cluster, release, "gateway")
    made = await cluster.run_in(pod, "warmpool", "keys", "create", "--tenant", tenant, "--name", "e2e")
    assert made.code == 0, made
    key = made.output.strip()
    for gateway in await cluster.ready_pods(release.namespace, component="gateway"):
        await until(lambda gateway=gateway: _knows(cluster, gateway, key), 15, "the gateway knows the key")
    return key


async def _knows(cluster: Cluster, gateway: client.V1Pod, key: str) -> bool:
    return (await cluster.run_in(gateway, "python3", "-c", ASK, key)).code == 0


async def any_pod(cluster: Cluster, release: Release, component: str) -> client.V1Pod:
    ready = await cluster.ready_pods(release.namespace, component=component)
    assert ready, f"no pod of {component} is ready"
    return ready[0]


def moved(url: str, host: str, port: int) -> str:
    """The same URL at another address."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}{at}{host}:{port}"))

"""A pool with a network profile, as the chart makes it: its programs reach what was said, and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from harness.caller import Caller
from harness.waiting import until
from k8s.cluster import Cluster, Pools
from k8s.reach import REACHED, Target, reach, targets
from k8s.release import Release, images
from k8s.visitor import visitor
from k8s.wholeness import PODS, POOL, until_whole
from kubernetes.aio import client

from warmpool.registry import Registry

LISTED, OTHER = 9443, 9444
SERVE = f"""
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Hello(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

servers = [ThreadingHTTPServer(("", port), Hello) for port in ({LISTED}, {OTHER})]
for server in servers:
    threading.Thread(target=server.serve_forever).start()
"""

GET = """
import urllib.request
with urllib.request.urlopen(context, timeout=4) as answer:
    return answer.read().decode()
"""
CONNECT = """
import socket
from concurrent.futures import ThreadPoolExecutor

def attempt(target):
    kind, host, port = target
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as way:
            way.settimeout(2)
            way.connect((host, port))
    except OSError as fault:
        return type(fault).__name__
    return "reached"

with ThreadPoolExecutor(16) as several:
    return dict(zip(context, several.map(attempt, context.values())))
"""


@asynccontextmanager
async def profile(
    release: Release, pools: Pools, registry: Registry, caller: Caller, address: str
) -> AsyncIterator[list[client.V1Pod]]:
    """The release with a network profile for this one address: the pods of its pool."""

    async def are_of(network: str) -> bool:
        found = await pools.ready_pods(POOL)
        return [pod.metadata.labels["warmpool.dev/network"] for pod in found] == [network] * PODS

    try:
        await asyncio.to_thread(
            release.apply, pool={"network": {"tcpPorts": [LISTED], "egress": [{"cidr": f"{address}/32"}]}}
        )
        await until(lambda: are_of("tcp"), 90, "the pool has the profile")
        await until_whole(pools, registry)
        await until(caller.is_known, 10, "a gateway answers")
        yield await pools.ready_pods(POOL)
    finally:
        await asyncio.to_thread(release.apply)
        await until(lambda: are_of("none"), 90, "the pool has no profile any more")


@pytest.mark.timeout(400)
async def test_programs_of_a_pool_with_a_network_profile_reach_its_ports_and_addresses_and_nothing_else(
    caller: Caller, cluster: Cluster, release: Release, pools: Pools, registry: Registry, elsewhere: str
):
    """By the program both walls are tried at once; by a plain python3 in the pod, NetworkPolicy alone."""
    image = images()["servers"]
    async with (
        visitor(cluster, elsewhere, image, "meant", SERVE) as meant,
        visitor(cluster, elsewhere, image, "unmeant", SERVE) as unmeant,
        profile(release, pools, registry, caller, meant.status.pod_ip) as pods,
    ):
        allowed = Target("tcp", meant.status.pod_ip, LISTED)

        async def answers() -> bool:
            ran = await caller.run(GET, context=f"http://{allowed.host}:{allowed.port}/")
            return (ran["status"], ran["result"]) == ("ok", "hello")

        await until(answers, 40, "the policy lets programs out")
        refused = {
            "another port there": Target("tcp", meant.status.pod_ip, OTHER),
            "another address": Target("tcp", unmeant.status.pod_ip, LISTED),
            "its own supervisor": Target("tcp", "127.0.0.1", 8888),
            **await targets(cluster, release, pods[1]),
        }
        asked = {name: target.to_json() for name, target in {"meant": allowed, **refused}.items()}
        ran = await caller.run(CONNECT, context=asked, seconds=10)
        found = ran["result"]
        assert found.pop("meant") == REACHED, ran
        assert found.pop("another address") in ("TimeoutError", "ConnectionRefusedError"), (
            "NetworkPolicy holds this one"
        )
        assert set(found.values()) == {"PermissionError"}, found

        del refused["its own supervisor"]
        seen = await reach(cluster, pods[0], {"meant": allowed, **refused})
        assert seen.pop("meant") == REACHED
        assert REACHED not in seen.values(), seen

        confined = await pools.until_condition(POOL, "Confined", "True", 20)
        assert confined["message"].endswith(f"TCP to {LISTED} and no other port")
        assert (await caller.run("return 1"))["result"] == 1


@pytest.mark.timeout(400)
async def test_the_addresses_that_a_network_profile_does_not_name_are_there(
    caller: Caller, cluster: Cluster, elsewhere: str
):
    """From where nothing forbids it both ports are reached: else the test before this one would prove nothing."""
    image = images()["servers"]
    async with visitor(cluster, elsewhere, image, "meant", SERVE) as meant, visitor(cluster, elsewhere, image) as pod:
        ports = {str(port): Target("tcp", meant.status.pod_ip, port) for port in (LISTED, OTHER)}
        assert await reach(cluster, pod, ports) == dict.fromkeys(ports, REACHED)

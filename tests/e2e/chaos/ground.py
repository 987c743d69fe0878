"""What faults act on: the release, its pods as the cluster had them a moment ago, its Redis, its pool."""

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
from k8s.cluster import Cluster, Pools, is_ready
from k8s.release import Release
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException
from redis.asyncio import Redis

from chaos.watch import Watch
from warmpool.registry import PodState

LOOK_SECONDS: Final = 1.0
CALL_SECONDS: Final = 10.0
"""For one call to an API server that may be away."""

AWAY: Final = (ApiException, aiohttp.ClientError, OSError, TimeoutError)
"""What a call to it then raises."""


@dataclass(slots=True, kw_only=True)
class Ground:
    cluster: Cluster
    release: Release
    pools: Pools
    redis: Redis
    watch: Watch
    direct: bool
    """Whether callers reach the gateways by their Service, and not one of them alone."""
    restart_api_server: Sequence[str]
    """A command that stops it for `{seconds}` and returns once it answers again; empty where there is none."""
    sandboxes: list[client.V1Pod] = field(default_factory=list)
    components: list[client.V1Pod] = field(default_factory=list)
    pods_at_once: int = 0
    """The most sandbox pods that were there and had not ended."""

    async def look(self) -> None:
        """Keeps the lists of pods; until cancelled."""
        while True:
            with suppress(*AWAY):
                async with asyncio.timeout(CALL_SECONDS):
                    self.sandboxes = await self.cluster.pods(self.release.sandboxes)
                    self.components = await self.cluster.pods(self.release.namespace)
                alive = [pod for pod in self.sandboxes if pod.status.phase in ("Pending", "Running")]
                self.pods_at_once = max(self.pods_at_once, len(alive))
            await asyncio.sleep(LOOK_SECONDS)

    def in_state(self, state: PodState) -> list[client.V1Pod]:
        """Sandbox pods that stand so in the registry."""
        states = self.watch.seen.states
        return [pod for pod in self.sandboxes if states.get(pod.metadata.name) is state and not _ends(pod)]

    def of(self, component: str) -> list[client.V1Pod]:
        label = "app.kubernetes.io/component"
        return [pod for pod in self.components if pod.metadata.labels.get(label) == component and is_ready(pod)]

    async def leading_operator(self) -> list[client.V1Pod]:
        leases = client.CoordinationV1Api(self.cluster.api)
        holders = {
            lease.spec.holder_identity for lease in (await leases.list_namespaced_lease(self.release.namespace)).items
        }
        return [pod for pod in self.of("operator") if pod.metadata.name in holders]


def _ends(pod: client.V1Pod) -> bool:
    return pod.metadata.deletion_timestamp is not None


def first_process(pod: client.V1Pod) -> int | None:
    """The number that this machine knows it by; None where the pod's node is another machine."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            numbers = next(line for line in (folder / "status").read_text().splitlines() if line.startswith("NSpid:"))
            is_first = len(numbers.split()) > 2 and numbers.split()[-1] == "1"
            if is_first and _is_of(pod, folder) and (folder / "comm").read_text().strip() != "pause":
                return int(folder.name)
    return None


def _is_of(pod: client.V1Pod, process: Path) -> bool:
    return pod.metadata.uid in (process / "cgroup").read_text().replace("_", "-")


def kill_first_process(pod: client.V1Pod) -> None:
    number = first_process(pod)
    if number is not None:
        os.kill(number, signal.SIGKILL)

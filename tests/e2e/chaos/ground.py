"""What faults act on: the release, its pods as the cluster had them a moment ago, its Redis, its pool."""

import asyncio
import os
import re
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
POD: Final = re.compile(r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})")
"""In a path of cgroups, whichever driver made it."""
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
    processes: dict[str, int] = field(default_factory=dict)
    """The first process of each pod's containers, by the pod's uid; of pods on this machine."""
    pods_at_once: int = 0
    """The most sandbox pods that were there and had not ended."""

    async def look(self) -> None:
        """Keeps the lists of pods; until cancelled."""
        while True:
            with suppress(*AWAY):
                async with asyncio.timeout(CALL_SECONDS):
                    self.sandboxes = await self.cluster.pods(self.release.sandboxes)
                    self.components = await self.cluster.pods(self.release.namespace)
                self.pods_at_once = max(self.pods_at_once, sum(not _has_ended(pod) for pod in self.sandboxes))
            self.processes = await asyncio.to_thread(first_processes)
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


def _has_ended(pod: client.V1Pod) -> bool:
    """Its phase says so a second after its containers."""
    containers = pod.status.container_statuses or []
    ended = bool(containers) and all(container.state.terminated for container in containers)
    return ended or pod.status.phase not in ("Pending", "Running")


def first_processes() -> dict[str, int]:
    """By the uid of their pods, the numbers that this machine knows them by."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if uid := _pod_of(folder):
                found[uid] = int(folder.name)
    return found


def _pod_of(process: Path) -> str | None:
    """The uid of the pod that it is the first process of."""
    uid = POD.search((process / "cgroup").read_text())
    if uid is None or (process / "comm").read_text().strip() == "pause":
        return None
    numbers = next(line for line in (process / "status").read_text().splitlines() if line.startswith("NSpid:")).split()
    return uid[1].replace("_", "-") if len(numbers) > 2 and numbers[-1] == "1" else None


def kill(process: int, uid: str) -> None:
    """Kills it, if it is still that pod's."""
    with suppress(OSError):
        if _pod_of(Path(f"/proc/{process}")) == uid:
            os.kill(process, signal.SIGKILL)

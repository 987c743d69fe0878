"""The floor for a pool: a Deployment whose pods are the pool's own, kept by Kubernetes alone."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from bench.ground import FULL_SECONDS, POOL, Ground
from bench.watch import Watched, watching
from harness.waiting import until

NAME: Final = "bare"
LABELS: Final = {"app.kubernetes.io/name": NAME}
KEPT: Final = (
    "automountServiceAccountToken", "containers", "enableServiceLinks", "hostUsers", "hostname", "imagePullSecrets",
    "runtimeClassName", "securityContext", "terminationGracePeriodSeconds", "volumes",
)  # fmt: skip
"""Of a pool pod's spec: what the operator says. The rest is the API server's and the scheduler's, or must differ: a
Deployment restarts its containers."""


@dataclass(frozen=True, slots=True)
class Bare:
    ground: Ground
    pods: Watched

    async def fill(self, size: int) -> float:
        """Seconds until so many are ready. None are there before and after."""
        began = time.monotonic()
        await self._scale(size)
        await until(lambda: len(self.pods.ready) == size, FULL_SECONDS, "the Deployment is full")
        took = time.monotonic() - began
        await self._scale(0)
        await until(lambda: not self.pods.there, FULL_SECONDS, "the Deployment is empty")
        return took

    async def _scale(self, size: int) -> None:
        await self.ground.cluster.apps.patch_namespaced_deployment_scale(
            NAME, self.ground.pools.namespace, {"spec": {"replicas": size}},
            _content_type="application/merge-patch+json",
        )  # fmt: skip


@asynccontextmanager
async def bare_deployment(ground: Ground) -> AsyncIterator[Bare]:
    """Empty at first. The pool must have a pod."""
    namespace, apps = ground.pools.namespace, ground.cluster.apps
    (pod, *_) = await ground.pools.pods(POOL)
    spec = ground.cluster.api.sanitize_for_serialization(pod.spec)
    await apps.create_namespaced_deployment(namespace, _manifest({name: spec[name] for name in KEPT if name in spec}))
    try:
        async with watching(ground.cluster, namespace, f"app.kubernetes.io/name={NAME}") as pods:
            yield Bare(ground, pods)
    finally:
        await apps.delete_namespaced_deployment(NAME, namespace)


def _manifest(spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": LABELS},
            "template": {"metadata": {"labels": LABELS}, "spec": spec},
        },
    }

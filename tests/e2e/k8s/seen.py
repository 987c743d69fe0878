"""The pods of a pool by a watch of the test's own: none that comes and goes between two looks is missed."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from k8s.cluster import Cluster


@dataclass(slots=True)
class Seen:
    """Since the watch began, whatever state they were in."""

    names: set[str] = field(default_factory=set)
    most: int = 0
    """That there were at once."""
    _now: set[str] = field(default_factory=set)

    def take(self, kind: str, uid: str, name: str) -> None:
        if kind == "DELETED":
            self._now.discard(uid)
            return
        self.names.add(name)
        self._now.add(uid)
        self.most = max(self.most, len(self._now))


@asynccontextmanager
async def watching(cluster: Cluster, namespace: str, pool: str) -> AsyncIterator[Seen]:
    """From what there is at entry on. Raises what ended the watch, should anything but the end of the block."""
    selector = f"warmpool.dev/pool={pool}"
    there = await cluster.core.list_namespaced_pod(namespace, label_selector=selector)
    seen = Seen()
    for pod in there.items:
        seen.take("ADDED", pod.metadata.uid, pod.metadata.name)
    following = asyncio.create_task(_follow(cluster, namespace, selector, there.metadata.resource_version, seen))
    try:
        yield seen
        assert not following.done(), following.exception() or "the watch ended"
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following


async def _follow(cluster: Cluster, namespace: str, selector: str, version: str, seen: Seen) -> None:
    answer: Any = await cluster.core.list_namespaced_pod_without_preload_content(
        namespace, label_selector=selector, resource_version=version, watch=True
    )
    async with answer:
        async for line in answer.content:
            event = json.loads(line)
            meta = event["object"]["metadata"]
            seen.take(event["type"], meta["uid"], meta["name"])

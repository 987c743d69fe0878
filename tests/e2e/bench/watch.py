"""Pods as they come and get ready, by a watch, each with the moment at which this process was told."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from k8s.cluster import Cluster

from warmpool_operator.api import Api
from warmpool_operator.informer import Pod

WATCH_SECONDS: Final = 1800


@dataclass(slots=True)
class Watched:
    added: list[float] = field(default_factory=list)
    """Moments of `time.monotonic` at which a pod was there for the first time."""
    ready: set[str] = field(default_factory=set)
    there: set[str] = field(default_factory=set)

    def take(self, event: dict[str, Any]) -> None:
        pod = Pod.from_object(event["object"])
        if event["type"] == "ADDED":
            self.added.append(time.monotonic())
        self.ready.discard(pod.name)
        self.there.discard(pod.name)
        if event["type"] != "DELETED":
            self.there.add(pod.name)
            if pod.ready and not pod.deleting:
                self.ready.add(pod.name)


@asynccontextmanager
async def watching(cluster: Cluster, namespace: str, selector: str) -> AsyncIterator[Watched]:
    """Of pods that come from now on; those that are there are counted as there, not as added."""
    api, path = Api(cluster.api), f"/api/v1/namespaces/{namespace}/pods"
    found = await api.call("GET", path, query={"labelSelector": selector})
    watched = Watched()
    for item in found["items"]:
        watched.take({"type": "LISTED", "object": item})
    query = {
        "labelSelector": selector, "watch": "true", "timeoutSeconds": str(WATCH_SECONDS),
        "resourceVersion": found["metadata"]["resourceVersion"],
    }  # fmt: skip

    async def follow() -> None:
        async for line in api.lines(path, query, WATCH_SECONDS):
            watched.take(json.loads(line))

    following = asyncio.create_task(follow())
    try:
        yield watched
        assert not following.done(), "the watch has ended"
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

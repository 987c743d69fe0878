"""The pods of every pool, kept as a list and a watch see them: a projection of each, never the whole object.

kopf would spend 2 ms on each event of a pod; this spends what parsing its JSON costs.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from warmpool_operator.api import Api, ApiError
from warmpool_operator.pool import MANAGED_BY, MODE_LABEL, POOL_LABEL, TEMPLATE_LABEL

CHUNK: Final = 500
WATCH_SECONDS: Final = 300
SILENCE_SECONDS: Final = 75.0
"""A bookmark comes about once a minute; a watch that says less is dead, though its connection may not know."""
UNSCHEDULABLE: Final = "Unschedulable"
_EXIT: Final = "Exit"
EXIT_0: Final = f"{_EXIT}0"
BACK_OFF_SECONDS: Final = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What the operator needs to know of a pod."""

    name: str
    uid: str
    pool: str
    template: str
    phase: str
    ready: bool
    ip: str
    deleting: bool
    node: str = ""
    """Empty until the scheduler has found one."""
    mode: str = ""
    """Of `recycle.mode`, the one that it was made for."""
    created: str = ""
    """RFC 3339 in UTC: sorts by time."""
    trouble: str | None = None
    """Why it does not come up, or ended, in Kubernetes' own word: `ImagePullBackOff`, `Unschedulable`, `Exit3`."""
    message: str = ""

    @property
    def dead(self) -> bool:
        """Whether its one container has ended, which never starts again. The phase says so a second later."""
        return self.phase in ("Failed", "Succeeded") or (self.trouble or "").startswith(_EXIT)

    @classmethod
    def from_object(cls, pod: Mapping[str, Any]) -> "Pod":
        meta, status = pod["metadata"], pod.get("status", {})
        labels = meta.get("labels", {})
        conditions = {one["type"]: one for one in status.get("conditions", ())}
        trouble, message = _trouble(status, conditions)
        return cls(
            name=meta["name"],
            uid=meta["uid"],
            pool=labels.get(POOL_LABEL, ""),
            template=labels.get(TEMPLATE_LABEL, ""),
            mode=labels.get(MODE_LABEL, ""),
            phase=status.get("phase", "Pending"),
            ready=conditions.get("Ready", {}).get("status") == "True",
            ip=status.get("podIP", ""),
            deleting="deletionTimestamp" in meta,
            node=pod.get("spec", {}).get("nodeName", ""),
            created=meta.get("creationTimestamp", ""),
            trouble=trouble,
            message=message,
        )


def _trouble(status: Mapping[str, Any], conditions: Mapping[str, Any]) -> tuple[str | None, str]:
    for container in status.get("containerStatuses", ()):
        state = container.get("state", {})
        ended, waiting = state.get("terminated"), state.get("waiting")
        if ended is not None:
            return f"{_EXIT}{ended.get('exitCode', '')}", ended.get("message", ended.get("reason", ""))
        if waiting is not None and waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return waiting["reason"], waiting.get("message", "")
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return scheduled.get("reason", UNSCHEDULABLE), scheduled.get("message", "")
    if status.get("phase") == "Failed":
        return status.get("reason", "Failed"), status.get("message", "")
    return None, ""


class Informer:
    """Pods by pool and name; `changed` is called with a pool's name after each change of what is known of its pods."""

    def __init__(self, api: Api, namespace: str, changed: Callable[[str], None]) -> None:
        self._pools: dict[str, dict[str, Pod]] = {}
        self.synced = asyncio.Event()
        self.heard_at = time.monotonic()
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._selector = f"{MANAGED_BY[0]}={MANAGED_BY[1]}"
        self._changed = changed

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            try:
                version = await self._list()
                failures = 0
                while True:
                    version = await self._watch(version)
            except ApiError as fault:
                if fault.status != 410:  # too old a version: list again at once
                    log.warning("watch of pods: %s", fault)
                    wait = BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS) - 1)]
                    failures += 1
                    await asyncio.sleep(wait * random.uniform(0.5, 1.5))  # noqa: S311

    def of_pool(self, pool: str) -> Mapping[str, Pod]:
        """By name. What is under way changes it: take a copy before an await."""
        return self._pools.get(pool, {})

    async def _list(self) -> str:
        found: dict[str, dict[str, Pod]] = {}
        query = {"labelSelector": self._selector, "limit": str(CHUNK)}
        while True:
            page = await self._api.call("GET", self._path, query=query)
            for item in page["items"]:
                pod = Pod.from_object(item)
                found.setdefault(pod.pool, {})[pod.name] = pod
            if not page["metadata"].get("continue"):
                break
            query["continue"] = page["metadata"]["continue"]
        pools = {*self._pools, *found}
        self._pools = found
        self.heard_at = time.monotonic()
        self.synced.set()
        for pool in pools:
            self._changed(pool)
        version: str = page["metadata"]["resourceVersion"]
        return version

    async def _watch(self, version: str) -> str:
        """Follows until the server ends the watch; returns the version to go on from."""
        query = {
            "labelSelector": self._selector, "watch": "true", "allowWatchBookmarks": "true",
            "resourceVersion": version, "timeoutSeconds": str(WATCH_SECONDS),
        }  # fmt: skip
        async for line in self._api.lines(self._path, query, SILENCE_SECONDS):
            self.heard_at = time.monotonic()
            try:
                event = orjson.loads(line)
            except ValueError as fault:
                raise ApiError(0, "Truncated", f"a line of the watch ends early: {line[:80]!r}") from fault
            item = event["object"]
            if event["type"] == "ERROR":
                raise ApiError(item.get("code", 0), item.get("reason", "Error"), item.get("message", ""))
            version = item["metadata"]["resourceVersion"]
            if event["type"] != "BOOKMARK":
                self._take(event["type"], Pod.from_object(item))
        return version

    def _take(self, kind: str, pod: Pod) -> None:
        pods = self._pools.setdefault(pod.pool, {})
        if kind == "DELETED":
            pods.pop(pod.name, None)
        elif pods.get(pod.name) == pod:
            return  # something of it changed that nobody here asks for
        else:
            pods[pod.name] = pod
        self._changed(pod.pool)

"""Says what a pool is: its status, and events where a person should know."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from warmpool_operator.api import MERGE_PATCH, Api, ApiError
from warmpool_operator.pool import GROUP, PLURAL, VERSION, SandboxPool
from warmpool_operator.status import QUIET, Publisher, View, status

EVENT_SECONDS: Final = 60.0
"""Between two events of one reason."""

log = logging.getLogger(__name__)


class Speaker:
    """For one pool."""

    def __init__(self, api: Api, clock: Callable[[], float]) -> None:
        self._api = api
        self._clock = clock
        self._publisher = Publisher()
        self._told: dict[str, float] = {}

    async def say(self, view: View) -> None:
        """Nothing, where nothing is new."""
        if self._publisher.rests(self._clock()):
            return  # with thousands of pods a third of a look is in the making of a status
        said = status(view, _now())
        if not self._publisher.due(said, self._clock()):
            return
        pool = view.pool
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{pool.namespace}/{PLURAL}/{pool.name}/status"
        try:
            await self._api.call("PATCH", path, {"status": said}, patch=MERGE_PATCH)
        except ApiError as fault:
            if fault.status != 404:
                log.warning("status of %s: %s", pool.name, fault)
            return
        self._publisher.done(said, self._clock())
        for condition in said["conditions"]:
            await self._tell(pool, condition)

    async def _tell(self, pool: SandboxPool, condition: dict[str, Any]) -> None:
        """An event, once for each reason and minute."""
        reason, now = condition["reason"], self._clock()
        if reason in QUIET or now - self._told.get(reason, -EVENT_SECONDS) < EVENT_SECONDS:
            return
        self._told[reason] = now
        moment = _now()
        event = {
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"generateName": f"{pool.name}.", "namespace": pool.namespace},
            "involvedObject": pool.reference, "reason": reason, "message": condition["message"],
            "type": "Normal" if reason == "PoolReady" else "Warning",
            "source": {"component": "warmpool-operator"}, "firstTimestamp": moment, "lastTimestamp": moment, "count": 1,
        }  # fmt: skip
        try:
            await self._api.call("POST", f"/api/v1/namespaces/{pool.namespace}/events", event)
        except ApiError as fault:
            log.warning("event %s of %s: %s", reason, pool.name, fault)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

"""Who acts, of several operators: the holder of a Lease of the cluster. Losing it ends the process, at once.

Leasing of pods never waits for this: gateways go on without any operator.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from warmpool.settings import OperatorSettings
from warmpool_operator.api import Api, ApiError

LEASE_SECONDS: Final = 12
RENEW_SECONDS: Final = 3.0
MARGIN_SECONDS: Final = 3.0
"""Before the others may take over nothing more is written: a request may be on its way for that long."""
ANSWER_SECONDS: Final = 3.0
"""For a request about the Lease: after one on a connection that died unseen there is time for another."""
RETRY_SECONDS: Final = 0.5
TRY_SECONDS: Final = 2.0
"""Take-over after a crash takes the lease's rest and one try: at most 14 s."""

log = logging.getLogger(__name__)


class Leader:
    """One candidate. `api` should have no other user: each connection that died unseen costs a request its time."""

    def __init__(
        self, api: Api, settings: OperatorSettings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:  # fmt: skip
        self._api = api
        self._clock = clock
        self._identity = settings.identity
        self._name = settings.lease_name
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{settings.lease_namespace}/leases"
        self._observed: tuple[Any, Any] = (None, None)
        self._observed_at = 0.0
        self._leads_until = -math.inf

    def leads(self) -> bool:
        """Whether nobody else can have taken the lease yet, by this machine's own clock."""
        return self._clock() < self._leads_until

    async def acquire(self) -> None:
        """Returns once this candidate leads."""
        while True:
            try:
                if await self._try():
                    log.warning("%s leads", self._identity)
                    return
            except ApiError as fault:
                log.warning("lease %s: %s", self._name, fault)
            await asyncio.sleep(TRY_SECONDS)

    async def hold(self) -> None:
        """Renews; returns once the lease is lost, or could not be renewed before others may take it."""
        pause = RENEW_SECONDS
        while self.leads():
            await asyncio.sleep(pause)
            try:
                if not await self._try():
                    self._leads_until = -math.inf
                    return
                pause = RENEW_SECONDS
            except ApiError as fault:
                log.warning("lease %s: %s", self._name, fault)
                pause = RETRY_SECONDS

    async def release(self) -> None:
        """Lets the next take over at once, and leaves nothing behind where there is no next."""
        try:
            lease = await self._call("GET", f"{self._path}/{self._name}")
            if lease["spec"].get("holderIdentity") == self._identity:
                unchanged = {"preconditions": {"resourceVersion": lease["metadata"]["resourceVersion"]}}
                await self._call("DELETE", f"{self._path}/{self._name}", unchanged)
        except ApiError as fault:
            log.warning("lease %s: %s", self._name, fault)

    async def _try(self) -> bool:
        """Takes or renews the lease; its resource version lets one writer win."""
        started = self._clock()
        try:
            lease = await self._call("GET", f"{self._path}/{self._name}")
        except ApiError as fault:
            if fault.status != 404:
                raise
            lease = {
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": self._name}, "spec": {},
            }  # fmt: skip
        spec = lease["spec"]
        if spec.get("holderIdentity") not in (self._identity, "", None) and not self._expired(spec):
            return False
        taken = spec.get("holderIdentity") != self._identity
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        lease["spec"] = spec | {
            "holderIdentity": self._identity, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now,
            "acquireTime": now if taken else spec.get("acquireTime", now),
            "leaseTransitions": spec.get("leaseTransitions", 0) + taken,
        }  # fmt: skip
        known = "resourceVersion" in lease["metadata"]
        try:
            await self._call("PUT" if known else "POST", f"{self._path}/{self._name}" if known else self._path, lease)
        except ApiError as fault:
            if fault.status == 409:  # another was first
                return False
            raise
        self._leads_until = started + LEASE_SECONDS - MARGIN_SECONDS
        return True

    async def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        return await self._api.call(method, path, body, timeout_seconds=ANSWER_SECONDS)

    def _expired(self, spec: dict[str, Any]) -> bool:
        """By our own clock since we saw it change: two machines' clocks may differ."""
        seen = spec.get("holderIdentity"), spec.get("renewTime")
        if seen != self._observed:
            self._observed, self._observed_at = seen, self._clock()
            return False
        return self._clock() - self._observed_at > float(spec.get("leaseDurationSeconds", LEASE_SECONDS))

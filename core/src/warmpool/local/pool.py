"""Keeps N local sandboxes in the registry: the operator's work, for one machine and processes instead of pods.

Who is idle or leased is the registry's business; this only starts, watches, and replaces.
"""

import asyncio
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from warmpool.errors import RetryLater, WarmpoolError
from warmpool.local.pod import LocalPod
from warmpool.local.staging import Staged
from warmpool.registry import Registry
from warmpool.settings import PoolSettings

log = logging.getLogger(__name__)

TICK_SECONDS: Final = 0.25
_STARTS_AT_ONCE: Final = 2
"""A start is about 0.3 s of one core; more at once would only take turns."""
_DRAIN_GRACE_SECONDS: Final = 2.0
MAX_AGE: Final = "MaxAge"
_BACK_OFF_SECONDS: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_USERS_BASE: Final = 1_000_000
_USERS_PER_POOL: Final = 1000


class LocalPool:
    """`size` sandboxes, replaced as the registry retires them or as they die."""

    def __init__(
        self, registry: Registry, folder: Path, staged: Staged, *, settings: PoolSettings, key: bytes, size: int
    ) -> None:
        self._registry = registry
        self._folder = folder
        self._staged = staged
        self._settings = settings
        self._key = key
        self._size = size
        self._pods: dict[str, LocalPod] = {}
        self._starts = asyncio.Semaphore(_STARTS_AT_ONCE)
        # One user a slot, apart from those of other pools on this machine; RLIMIT_NPROC counts by user.
        base = _USERS_BASE + (os.getpid() % 4_000_000) * _USERS_PER_POOL
        self._free_uids = [base + index for index in reversed(range(_USERS_PER_POOL))]
        self.ready = asyncio.Event()
        self.last_failure: str | None = None

    @property
    def pods(self) -> list[LocalPod]:
        """Those that serve now."""
        return list(self._pods.values())

    async def run(self) -> None:
        """Until cancelled, or until a fault that nobody foresaw; then no process and no folder of it is left."""
        await self._disown()
        async with asyncio.TaskGroup() as group:
            for _ in range(self._size):
                group.create_task(self._keep_slot())
            while True:
                await self._tick(group)
                await asyncio.sleep(TICK_SECONDS)

    async def _disown(self) -> None:
        """What a Redis that kept its data holds is of a run that was killed, and its pods died with that."""
        for pod in await self._registry.pods():
            await self._registry.remove(pod.id)

    async def _keep_slot(self) -> None:
        """One sandbox after another, for ever."""
        failures = 0
        while True:
            pod = LocalPod(
                self._folder, self._staged, pool=self._settings.name, key=self._key, limits=self._settings.limits,
                uid=self._free_uids.pop(),
            )  # fmt: skip
            try:
                async with self._starts:
                    await pod.start()
                await self._register(pod)
                failures = 0
                await pod.ended()
            except (WarmpoolError, OSError) as fault:
                log.warning("sandbox %s: %s", pod.id, fault)
                self.last_failure = str(fault)
                await asyncio.sleep(_BACK_OFF_SECONDS[min(failures, len(_BACK_OFF_SECONDS) - 1)])
                failures += 1
            finally:
                await asyncio.shield(self._dispose(pod))

    async def _register(self, pod: LocalPod) -> None:
        await self._registry.register(
            pod.id,
            pod.address,
            max_executions=self._settings.max_executions,
            max_age_seconds=self._settings.max_age_seconds,
        )
        self._pods[pod.id] = pod  # not before: a tick would find it unknown to the registry, and end it
        if len(self._pods) >= self._size:
            self.ready.set()

    async def _dispose(self, pod: LocalPod) -> None:
        self._pods.pop(pod.id, None)
        await pod.stop()
        self._free_uids.insert(0, pod.uid)
        with suppress(WarmpoolError):  # reaped by its missing heartbeat where Redis is away
            await self._registry.remove(pod.id)

    async def _tick(self, group: asyncio.TaskGroup) -> None:
        """Heartbeats, reaping, and the end of what the registry retired or no longer knows."""
        try:
            unknown = await self._registry.heartbeat(list(self._pods))
            await self._registry.reap()
            retiring = await self._registry.retiring()
            if not retiring and len(self._pods) == self._size:
                await self._retire_the_oldest()
        except RetryLater as fault:
            log.warning("pool %s: %s", self._settings.name, fault)
            return
        for pod_id in retiring:  # its lease has ended
            self._end(group, pod_id, _DRAIN_GRACE_SECONDS)
        for pod_id in unknown:  # its lease is lost, and a program may run under it
            self._end(group, pod_id, self._settings.limits.wall_seconds + _DRAIN_GRACE_SECONDS)

    async def _retire_the_oldest(self) -> None:
        """If it is of age. One at a time: those of a pool were made together, and would leave nobody to serve."""
        for pod_id in (await self._registry.aged())[:1]:
            await self._registry.retire(pod_id, MAX_AGE)

    def _end(self, group: asyncio.TaskGroup, pod_id: str, seconds: float) -> None:
        """A pod that cannot be proved idle is never handed out again; its keeper starts the next."""
        pod = self._pods.pop(pod_id, None)
        group.create_task(self._forget(pod_id) if pod is None else _drain(pod, seconds))

    async def _forget(self, pod_id: str) -> None:
        with suppress(RetryLater):
            await self._registry.remove(pod_id)


async def _drain(pod: LocalPod, seconds: float) -> None:
    """Lets it end by itself for so long."""
    pod.drain()
    try:
        async with asyncio.timeout(seconds):
            await pod.ended()
    except TimeoutError:
        await pod.stop()

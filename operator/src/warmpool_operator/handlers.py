"""kopf's part: what happens to SandboxPools. It never sees a pod.

`on.event` hands a pool to its keeper; `on.delete` brings the finalizer that holds a deleted pool until it is drained.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import kopf

from warmpool.registry import Registry
from warmpool_operator import metrics
from warmpool_operator.api import Api
from warmpool_operator.informer import Informer
from warmpool_operator.keeper import Keeper
from warmpool_operator.pool import GROUP, PLURAL, VERSION, SandboxPool

DRAIN_POLL_SECONDS: Final = 1.0

log = logging.getLogger(__name__)


class Keepers:
    """One keeper a pool, each in a task of `group`: a fault that nobody foresaw ends the operator; the next leads."""

    def __init__(
        self, group: asyncio.TaskGroup, api: Api, informer: Informer, make_registry: Callable[[str], Registry]
    ) -> None:
        self._group = group
        self._api = api
        self._informer = informer
        self._make_registry = make_registry
        self._keepers: dict[str, Keeper] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def poke(self, pool: str) -> None:
        keeper = self._keepers.get(pool)
        if keeper is not None:
            keeper.poke()

    def update(self, pool: SandboxPool) -> Keeper:
        keeper = self._keepers.get(pool.name)
        if keeper is None or (keeper.pool.uid != pool.uid and keeper.gone.is_set()):
            registry = self._make_registry(pool.name)
            keeper = self._keepers[pool.name] = Keeper(self._api, self._informer, registry, pool)
            self._tasks[pool.name] = self._group.create_task(keeper.run(), name=f"pool {pool.name}")
        else:
            keeper.update(pool)
        return keeper

    def drop(self, pool: str) -> None:
        self._keepers.pop(pool, None)
        task = self._tasks.pop(pool, None)
        if task is not None:
            task.cancel()
        metrics.forget(pool)

    def end(self) -> None:
        for pool in list(self._keepers):
            self.drop(pool)

    def slowest_pass_age(self, now: float) -> float:
        return max(
            (now - keeper.passed_at for keeper in self._keepers.values() if not keeper.gone.is_set()), default=0.0
        )


def registry_of_handlers(keepers: Keepers) -> kopf.OperatorRegistry:
    handlers = kopf.OperatorRegistry()

    @kopf.on.login(registry=handlers)
    def login(**arguments: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=handlers)
    async def changed(event: Mapping[str, Any], body: kopf.Body, **_: Any) -> None:
        pool = SandboxPool.from_body(body)
        if event["type"] == "DELETED":
            keepers.drop(pool.name)
        else:
            keepers.update(pool)

    @kopf.on.delete(GROUP, VERSION, PLURAL, registry=handlers)
    async def drain(body: kopf.Body, **_: Any) -> None:
        keeper = keepers.update(SandboxPool.from_body(body))
        if not keeper.gone.is_set():
            raise kopf.TemporaryError("leased pods end with their executions", delay=DRAIN_POLL_SECONDS)

    return handlers


def settings() -> kopf.OperatorSettings:
    """No peering, no look at other namespaces or definitions, no events for log lines."""
    chosen = kopf.OperatorSettings()
    chosen.scanning.disabled = True
    chosen.posting.enabled = False
    chosen.persistence.finalizer = f"{GROUP}/drain"
    chosen.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    chosen.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP)
    return chosen

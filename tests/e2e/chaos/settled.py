"""Whether a release is whole again once nothing is broken any more, and as it was before."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import psycopg
from harness.waiting import until
from k8s.cluster import is_ready
from k8s.wholeness import POOL, until_whole
from kubernetes.aio import client
from redis.exceptions import RedisError

from chaos.callers import WALL_SECONDS
from chaos.evidence import Fault, Kept
from chaos.ground import AWAY, Ground
from chaos.judge import RECORD_SECONDS
from warmpool.errors import RetryLater
from warmpool.records import STREAM
from warmpool.registry import PodState, Registry
from warmpool_operator.demand import FORGOTTEN_SECONDS

PODS: Final = 4
AS_BEFORE: Final = {"replicas": PODS, "autoscale": None, "recycle": {"mode": "reuse"}}

SETTLE_SECONDS: Final = 15.0 + 10.0 + WALL_SECONDS + 10.0
"""For an operator to act, pods to start, and a killed gateway's leases to run out: a program's wall and a grace."""
BACK_SECONDS: Final = 120.0
"""For components that were killed to be ready again: a kubelet hears late of it where the API server was away."""
LOST_THE_LEASE: Final = 4


async def settle(ground: Ground) -> list[str]:
    """Waits until all is as before; what is not, in words."""
    registry = Registry(ground.redis, POOL)
    checks: Sequence[Callable[[], Awaitable[object]]] = (
        lambda: until(lambda: _restored(ground), BACK_SECONDS, "the pool's spec is as before"),
        lambda: _components(ground),
        lambda: until(lambda: _answers(registry), BACK_SECONDS, "the registry answers"),
        lambda: until_whole(ground.pools, registry, PODS, SETTLE_SECONDS),
        lambda: _keys(ground, registry),
        lambda: _nobody_waits(registry),
        lambda: _no_other_pod(ground),
    )
    wrong = []
    for check in checks:
        try:
            await check()
        except (AssertionError, *AWAY, RedisError, RetryLater) as fault:
            wrong.append(f"not whole again: {str(fault) or type(fault).__name__}")
    return wrong


async def _restored(ground: Ground) -> bool:
    try:
        await ground.pools.merge(POOL, AS_BEFORE)
    except AWAY:
        return False
    return True


async def _answers(registry: Registry) -> bool:
    with suppress(RetryLater):
        await registry.counts()
        return True
    return False


async def _components(ground: Ground) -> None:
    """Both of each are ready, and one operator leads."""

    async def are_back() -> bool:
        names = ("operator", "gateway")
        pods = [await ground.cluster.pods(ground.release.namespace, component=name) for name in names]
        return all(len([pod for pod in some if is_ready(pod)]) == 2 for some in pods)

    await until(are_back, BACK_SECONDS, "two operators and two gateways are ready")
    await until(lambda: _one_leads(ground), BACK_SECONDS, "one operator leads")


async def _one_leads(ground: Ground) -> bool:
    ground.components = await ground.cluster.pods(ground.release.namespace)
    return len(await ground.leading_operator()) == 1


async def _keys(ground: Ground, registry: Registry) -> None:
    """Of no pod that is no more, but for the memory that it is gone; no lease, and no tenant's count."""
    root = f"warmpool:{{{POOL}}}"
    there = {pod.metadata.name for pod in await ground.pools.pods(POOL)}
    for key in [key async for key in ground.redis.scan_iter(match=f"{root}:pod:*", count=1000)]:
        pod, state = key.removeprefix(f"{root}:pod:"), await ground.redis.hget(key, "state")
        forgotten = state == PodState.GONE and await ground.redis.ttl(key) > 0
        assert forgotten or pod in there or not await ground.redis.exists(key), f"{pod} is no more, and {state}"
    assert await ground.redis.hgetall(f"{root}:tenants") == {}, "tenants hold leases"
    for name in ("warming", "leased", "retiring"):
        assert await ground.redis.zcard(f"{root}:{name}") == 0, f"pods are {name}"
    assert set(await ground.redis.zrange(f"{root}:seen", 0, -1)) <= there, "pods that are no more are waited for"
    assert [pod.lease for pod in await registry.pods()] == [None] * PODS


async def _nobody_waits(registry: Registry) -> None:
    """Nor is believed to wait in a gateway that is no more."""

    async def nobody() -> bool:
        return not any(demand.waiting for demand in (await registry.demands(FORGOTTEN_SECONDS)).values())

    await until(nobody, FORGOTTEN_SECONDS + 5, "nobody waits")


async def _no_other_pod(ground: Ground) -> None:
    pods = await ground.cluster.pods(ground.release.sandboxes)
    assert len(pods) == PODS, f"more pods than the pool's: {[pod.metadata.name for pod in pods]}"


def restarts_without_cause(pods: Sequence[client.V1Pod], faults: Sequence[Fault]) -> list[str]:
    """Containers may start again once for each time that they were killed; an operator also when it lost its lease."""
    kills = Counter(pod for fault in faults for pod in fault.killed)
    wrong = []
    for pod in pods:
        name, (container, *_) = pod.metadata.name, pod.status.container_statuses
        ended = container.last_state.terminated
        lost = "-operator-" in name and ended and ended.exit_code == LOST_THE_LEASE
        if container.restart_count > kills[name] and not lost:
            code = ended.exit_code if ended else None
            wrong.append(
                f"{name} started again {container.restart_count} times, was killed {kills[name]} times: {code}"
            )
    return wrong


async def kept(ground: Ground, dsn: str, since: float) -> dict[str, list[Kept]]:
    """The records since then, once the last one has come."""

    async def are_written() -> bool:
        return await ground.redis.xlen(STREAM) == 0

    await until(are_written, RECORD_SECONDS, "all records are in Postgres")
    found: dict[str, list[Kept]] = {}
    asked = "SELECT id, status, pod FROM executions WHERE created_at >= to_timestamp(%s)"
    async with await psycopg.AsyncConnection.connect(dsn, connect_timeout=5) as connection:
        rows: Any = await (await connection.execute(asked, [since])).fetchall()
    for id, status, pod in rows:
        found.setdefault(id, []).append(Kept(status, pod))
    return found

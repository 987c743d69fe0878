"""Pods: how soon one can be leased, a pool is full, a used one is replaced, and what one holds."""

import asyncio
import time
from pathlib import Path
from typing import Any, Final

import aiohttp
from bench.bare import bare_deployment
from bench.ground import FULL_SECONDS, POOL, Ground
from bench.watch import watching
from harness.caller import Caller
from harness.waiting import until
from k8s.service import TIMEOUT

from warmpool_loadtests.cpu import memory_bytes
from warmpool_loadtests.figures import percentile, spread
from warmpool_operator.pool import POOL_LABEL

PODS: Final = 10
LIFE_CYCLES: Final = 20
FULL: Final = 40
"""Pods of the larger pool."""
FILLS: Final = 3
BURSTS: Final = 20
OF_A_BURST: Final = 4

OF_POOL: Final = f"{POOL_LABEL}={POOL}"


async def pod_life(ground: Ground) -> dict[str, Any]:
    """From the moment that a pod is there for all to see to the moment that it can be leased, one pod after another."""
    seconds = []
    await ground.shape(PODS)
    for _ in range(LIFE_CYCLES):
        before = await ground.pools.pods(POOL)
        known = {pod.metadata.name for pod in before}
        await ground.cluster.delete_pod(before[0])
        made = await until(lambda known=known: _new_pod(ground, known), 20, "a pod in its place")
        began = time.monotonic()
        await until(lambda made=made: _is_idle(ground, str(made)), 30, "it is idle")
        seconds.append(time.monotonic() - began)
        await ground.until_idle(PODS)
    return {
        "pods": LIFE_CYCLES,
        "created_to_idle_seconds_p50": round(percentile(seconds, 0.5), 3),
        "created_to_idle_seconds_p99": round(percentile(seconds, 0.99), 3),
        "created_to_idle_seconds": spread(seconds),
    }


async def _new_pod(ground: Ground, known: set[str]) -> str | None:
    return next((pod.metadata.name for pod in await ground.pools.pods(POOL) if pod.metadata.name not in known), None)


async def _is_idle(ground: Ground, name: str) -> bool:
    return any(pod.id == name and pod.state == "idle" for pod in await ground.registry.pods())


async def fill(ground: Ground) -> dict[str, Any]:
    """An empty pool and a bare Deployment of the same pods get to their size, in turn: from the patch to the last pod
    that can be leased, or is ready."""
    await ground.shape(1)
    pool: list[float] = []
    deployment: list[float] = []
    async with bare_deployment(ground) as bare:
        for _ in range(FILLS):
            pool.append(await _fill_pool(ground))
            deployment.append(await bare.fill(FULL))
    return {
        "pods": FULL,
        "rounds": FILLS,
        "pool_seconds": spread(pool),
        "deployment_seconds": spread(deployment),
        "ratio": spread([of_pool / of_bare for of_pool, of_bare in zip(pool, deployment, strict=True)]),
    }


async def _fill_pool(ground: Ground) -> float:
    async with watching(ground.cluster, ground.pools.namespace, OF_POOL) as pods:
        await ground.pools.merge(POOL, {"replicas": 0})
        await until(lambda: not pods.there, FULL_SECONDS, "the pool is empty")
        await ground.until_idle(0)
        began = time.monotonic()
        await ground.pools.merge(POOL, {"replicas": FULL})
        await until(lambda: len(pods.ready) == FULL, FULL_SECONDS, "the pool is full")
        await ground.until_idle(FULL)
        took = time.monotonic() - began
        await ground.pools.merge(POOL, {"replicas": 0})
        await until(lambda: not pods.there, FULL_SECONDS, "the pool is empty")
    return took


async def refill(ground: Ground) -> dict[str, Any]:
    """From the first answer to a burst of single use to the moment at which the first pod in place of one is there for
    all to see. The release comes before the answer, and the pod is there before it is seen."""
    await ground.shape(FULL, "single-use")
    seconds = []
    async with (
        watching(ground.cluster, ground.pools.namespace, OF_POOL) as pods,
        aiohttp.ClientSession(ground.reached.gateway, timeout=TIMEOUT) as session,
    ):
        caller = Caller(session, ground.reached.api_key)
        for _ in range(BURSTS):
            known = len(pods.added)
            answered = min(await asyncio.gather(*(_answered(caller) for _ in range(OF_A_BURST))))
            await until(lambda known=known: len(pods.added) > known, 30, "a pod in place of one")
            seconds.append(pods.added[known] - answered)
            await ground.until_idle(FULL)
    return {
        "bursts": BURSTS,
        "executions_of_a_burst": OF_A_BURST,
        "answer_to_pod_ms_p50": round(percentile(seconds, 0.5) * 1000, 1),
        "answer_to_pod_ms_p99": round(percentile(seconds, 0.99) * 1000, 1),
        "answer_to_pod_ms": spread([second * 1000 for second in seconds]),
    }


async def _answered(caller: Caller) -> float:
    await caller.run("return 1")
    return time.monotonic()


async def idle_pss_mib(ground: Ground) -> float | None:
    """Of all processes of a pod that has served; None where the node is another machine."""
    await ground.shape(PODS)
    await ground.inside("leases", PODS, 10)
    (uid, *_) = [pod.metadata.uid for pod in await ground.pools.pods(POOL)]
    sizes = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            belongs = uid in (process / "cgroup").read_text().replace("_", "-")
            if belongs and b"warmpool" in (process / "cmdline").read_bytes():  # without the pause container
                sizes.append(memory_bytes(int(process.name))[1])
        except OSError:
            continue
    return round(sum(sizes) / 2**20, 1) if sizes else None

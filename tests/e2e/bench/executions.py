"""Programs one by one and ten at once, over the pods' streams and through the gateway's API, and what they cost."""

import time
from typing import Any, Final

from bench import writes
from bench.ground import Ground

from warmpool_loadtests.figures import percentile, spread

PODS: Final = 10
ROUNDS: Final = 5
EXECUTIONS: Final = 1000


async def lone(ground: Ground) -> dict[str, Any]:
    return await _latencies(ground, at_once=1, each=200)


async def ten_at_once(ground: Ground) -> dict[str, Any]:
    return await _latencies(ground, at_once=10, each=40)


async def _latencies(ground: Ground, *, at_once: int, each: int) -> dict[str, Any]:
    """Rounds over the pods' streams and through the gateway's API in turn; Redis's ping is the control."""
    rounds = []
    await ground.shape(PODS)
    await ground.inside("leases", 1, 100)  # warm
    for _ in range(ROUNDS):
        leases = await ground.inside("leases", at_once, each)
        rounds.append(leases | await ground.inside("http", ground.reached.api_key, at_once, each))
    figures: dict[str, Any] = {"pods": PODS, "rounds": ROUNDS, "executions_per_round": at_once * each}
    for name in ("first_instruction_ms", "lease_to_result_ms", "http_ms", "control_redis_ping_ms"):
        for share in (50, 99):
            figures[f"{name}_p{share}"] = spread([percentile(r[name], share / 100) for r in rounds])
    return figures


async def api_server(ground: Ground) -> dict[str, Any]:
    """Writes that the API server counted during 1,000 executions, less those of as long without one."""
    busy, idle, seconds = [], [], []
    await ground.shape(PODS)
    for _ in range(3):
        began = time.monotonic()
        busy.append(await _count(ground, "http", ground.reached.api_key, 10, EXECUTIONS // 10))
        seconds.append(time.monotonic() - began)
        idle.append(await _count(ground, "sleep", seconds[-1]))
    return {
        "executions": EXECUTIONS,
        "seconds": spread(seconds),
        "writes_while_busy": spread(busy),
        "writes_while_idle": spread(idle),
        "writes_of_executions": spread([max(0.0, b - i) for b, i in zip(busy, idle, strict=True)]),
    }


async def _count(ground: Ground, *what: object) -> float:
    return (await writes.during(ground.cluster, lambda: ground.inside(*what))).total()

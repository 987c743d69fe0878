"""The loads that kubernetes-sigs/agent-sandbox was given on such a cluster, through our gateway, in three columns: pods
that serve anyone again, pods of one tenant each, and pods of single use, which is all that the peer has.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from bench import writes
from bench.ground import Ground
from bench.pods import FULL
from k8s.service import new_key

from warmpool_loadtests.figures import percentile, spread

LONE: Final = 40
ROUNDS: Final = 5
LARGE_ROUNDS: Final = 3
THOUSAND: Final = 1000
HUNDRED: Final = 100
"""In place of a thousand for single use: a thousand pods take this node 20 minutes."""
TENANTS: Final = 8
LATE_SECONDS: Final = 5.0
"""After a pool is whole again for the last words of kubelet and scheduler about the pods that went."""

PEER: Final[dict[str, Any]] = {
    "what": "kubernetes-sigs/agent-sandbox 2fd412d5 (v0.5.6+), a pool of 40 warm pods, claim posted to first result",
    "where": "not in this run: measured on 2026-11-23 on the same kind of cluster, which `make cluster-up` boots, with "
    "Kubernetes 1.34.4, one node, 2 cores, 24 GiB; its controller outside of the cluster, its client on the host",
    "flags": "of each figure the better of its default and its tuned ones",
    "ms": {
        "lone_p50": 55.0, "lone_p99": 120.0, "forty_at_once_p50": 2002.0, "forty_at_once_p99": 2851.0,
        "hundred_at_once_p50": 54251.0, "hundred_at_once_p99": 87021.0,
    },
    "ms_with_default_flags": {
        "lone_p50": 85.0, "lone_p99": 234.0, "forty_at_once_p50": 2314.0, "forty_at_once_p99": 2851.0,
        "hundred_at_once_p50": 54251.0, "hundred_at_once_p99": 87021.0,
    },
    "writes_per_execution": {"lone": 35.0, "forty_at_once": 56.0, "hundred_at_once": 52.0},
    "whole_again_seconds": {"forty_at_once": 48.0, "hundred_at_once": 132.0},
}  # fmt: skip


async def recycled(ground: Ground) -> dict[str, Any]:
    await ground.shape(FULL, "reuse")
    return await _of_lasting_pods(ground, [ground.reached.api_key])


async def per_tenant(ground: Ground) -> dict[str, Any]:
    await ground.shape(FULL, "tenant")
    names = [f"tenant-{number}" for number in range(TENANTS)]
    keys = await asyncio.gather(*(new_key(ground.cluster, ground.release, name) for name in names))
    return {"tenants": TENANTS, **await _of_lasting_pods(ground, keys)}


async def single_use(ground: Ground) -> dict[str, Any]:
    await ground.shape(FULL, "single-use")
    idle, key = await writes.when_idle(ground.cluster), ground.reached.api_key
    return _column(
        lone=await _load(ground, idle, 1, LONE, "lone", key, LONE, FULL),
        forty_at_once=await _load(ground, idle, LARGE_ROUNDS, FULL, "burst", key, FULL),
        hundred_at_once=await _load(ground, idle, 1, HUNDRED, "burst", key, HUNDRED),
    )


async def _of_lasting_pods(ground: Ground, keys: Sequence[str]) -> dict[str, Any]:
    joined = ",".join(keys)
    await ground.inside("burst", joined, FULL)  # opens the streams to all pods
    idle = await writes.when_idle(ground.cluster)
    return _column(
        lone=await _load(ground, idle, ROUNDS, LONE, "lone", keys[0], LONE, FULL),
        forty_at_once=await _load(ground, idle, ROUNDS, FULL, "burst", joined, FULL),
        thousand_at_once=await _load(ground, idle, LARGE_ROUNDS, THOUSAND, "burst", joined, THOUSAND),
    )


async def _load(ground: Ground, idle: Counter[str], rounds: int, executions: int, *what: object) -> dict[str, Any]:
    """Rounds of a load, each over when the pool is whole again, and the writes of all of them."""
    answers, whole = [], []

    async def work() -> None:
        for _ in range(rounds):
            answers.append(await ground.inside(*what))
            ended = time.monotonic()
            await ground.until_idle(FULL)
            whole.append(time.monotonic() - ended)
        await asyncio.sleep(LATE_SECONDS)

    began = time.monotonic()
    came = await writes.during(ground.cluster, work)
    seconds = time.monotonic() - began
    took = [answer["http_ms"] for answer in answers]
    errors = [error for answer in answers for error in answer.get("errors", ())]
    return {
        "executions_per_round": executions,
        "rounds": rounds,
        "errors": len(errors),
        **({"first_errors": errors[:3]} if errors else {}),
        "ms_p50": spread([percentile(of_round, 0.50) for of_round in took]),
        "ms_p99": spread([percentile(of_round, 0.99) for of_round in took]),
        "whole_again_seconds": spread(whole),
        "writes_per_execution": writes.per_execution(came, seconds, idle, rounds * executions),
    }


def _column(**loads: dict[str, Any]) -> dict[str, Any]:
    return {**loads, "times_as_fast_as_the_peer": _ratios(loads)}


def _ratios(loads: Mapping[str, dict[str, Any]]) -> dict[str, float]:
    """The peer's constant to our median, of the loads that both were given."""
    figures = ((load, share, PEER["ms"].get(f"{load}_{share}")) for load in loads for share in ("p50", "p99"))
    return {
        f"{load}_{share}": round(peer / loads[load][f"ms_{share}"]["median"], 1)
        for load, share, peer in figures
        if peer is not None
    }

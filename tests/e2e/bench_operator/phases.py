"""What one size of pools costs the operator, from a namespace without a pool to a namespace without a pool."""

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench_operator.counted import Operator, Watch, writes_served
from k8s.cluster import Cluster, Pools, suppress_missing
from k8s.fake_nodes import PLACEMENT
from k8s.own_operator import SECRET
from redis.asyncio import Redis

from warmpool.registry import PodState, Registry
from warmpool_loadtests.cpu import memory_bytes
from warmpool_loadtests.figures import spread

ROUNDS: Final = 3
IDLE_SECONDS: Final = 20.0
EVENTS: Final = 1000
"""Of a round: one pod after another is changed by somebody."""
AT_ONCE: Final = 8
CHURN: Final = 0.1
"""Share of the pods that is deleted each minute."""
SURGE: Final = 5
POLL_SECONDS: Final = 0.25
SAY_SECONDS: Final = 10.0
MERGE_PATCH: Final = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class Size:
    pools: int
    each: int
    """Pods of a pool."""

    @property
    def pods(self) -> int:
        return self.pools * self.each

    @property
    def names(self) -> list[str]:
        return [f"pool-{number}" for number in range(self.pools)]

    def __str__(self) -> str:
        return f"{self.pools} pool{'s' if self.pools > 1 else ''} of {self.each}"


@dataclass(frozen=True, slots=True)
class Spent:
    """What something took."""

    seconds: float
    cpu: float
    """Processor seconds of the operator."""
    watch_cpu: float
    """And of the control."""
    events: int
    """Of pods, as the control counts them."""
    requests: Counter[str]
    """The operator's own count of its writes, as `POST pods`."""
    served: Counter[str]
    """The API server's count of the same, of all that anyone asked it."""


class Bench:
    """One size, from a namespace without pools to a namespace without pools."""

    def __init__(
        self, cluster: Cluster, pools: Pools, size: Size, redis: Redis, operator: Operator, watch: Watch
    ) -> None:
        self._cluster = cluster
        self._size = size
        self._pools = pools
        self._registries = [Registry(redis, name) for name in size.names]
        self._operator = operator
        self._watch = watch
        self._churned = max(1, round(CHURN * size.pods))

    async def measure(self, minutes: int) -> dict[str, Any]:
        size = self._size
        filled = await self._spent(self._fill)
        self._say(f"full: {self._whole(filled)}")
        for name in size.names:
            await self._pools.until_condition(name, "Ready", "True", 60)
        idle = [await self._spent(lambda: asyncio.sleep(IDLE_SECONDS)) for _ in range(ROUNDS)]
        events = await self._events(sum(one.cpu for one in idle) / sum(one.seconds for one in idle))
        self._say(f"events: {events}")
        churn = [await self._spent(lambda minute=minute: self._churn(minute)) for minute in range(1, minutes + 1)]
        self._say(f"churn: {percent(churn)} % of a core")
        await self._until_full()
        steady = memory_bytes(self._operator.pid)[0]
        drained = await self._spent(self._drain)
        most = max((await self._watch.said())["most"].values())
        return {
            "pools": size.pools,
            "pods_of_each": size.each,
            "fill": self._whole(filled),
            "idle_cpu_percent": percent(idle),
            "events": events,
            "churn": {
                "pods_a_minute": self._churned, "events_a_minute": spread([one.events for one in churn]),
                "cpu_percent": percent(churn),
            },
            "drain": self._whole(drained),
            "memory_mib": {"steady": mib(steady), "most": mib(self._operator.most_bytes())},
            "pods_at_most": {
                "of_a_pool": most, "replicas_and_surge": size.each + SURGE, "beyond": max(0, most - size.each - SURGE),
            },
            "writes": self._writes(filled, [*idle, *churn], drained),
        }  # fmt: skip

    async def _fill(self) -> None:
        spec = {
            "replicas": self._size.each, "image": "played-by-kwok", "keySecret": {"name": SECRET},
            "strategy": {"maxSurge": SURGE}, "template": {"spec": PLACEMENT},
        }  # fmt: skip
        for name in self._size.names:
            await self._pools.create(name, spec)
        await self._until_full()

    async def _until_full(self) -> None:
        async def idle() -> int:
            return sum([(await registry.counts()).idle for registry in self._registries])

        await self._reach("pods are idle", idle, self._size.pods)

    async def _events(self, idle: float) -> dict[str, Any]:
        """`idle` is what the operator takes anyway, in processor seconds a second."""
        operator, control, ratio, a_second = [], [], [], []
        for number in range(1, ROUNDS + 1):
            self._say(f"events, round {number} of {ROUNDS}")
            spent = await self._spent(lambda number=number: self._annotate(number))
            operator.append(1000 * (spent.cpu - idle * spent.seconds) / spent.events)
            control.append(1000 * spent.watch_cpu / spent.events)
            ratio.append(operator[-1] / control[-1])
            a_second.append(spent.events / spent.seconds)
        return {
            "operator_ms": spread(operator), "control_ms": spread(control), "ratio": spread(ratio),
            "a_second": spread(a_second),
        }  # fmt: skip

    async def _annotate(self, number: int) -> None:
        """Somebody changes one pod after another."""
        some = await self._some(min(EVENTS, self._size.pods))
        before = (await self._watch.said())["events"]

        async def annotate(names: Sequence[str]) -> None:
            body = {"metadata": {"annotations": {"example.com/round": str(number)}}}
            for name in names:
                await self._cluster.core.patch_namespaced_pod(
                    name, self._pools.namespace, body, _content_type=MERGE_PATCH
                )

        async def seen() -> int:
            return int((await self._watch.said())["events"]) - before

        async with asyncio.TaskGroup() as group:
            for start in range(AT_ONCE):
                group.create_task(annotate(some[start::AT_ONCE]))
        await self._reach("events are seen", seen, len(some))

    async def _churn(self, minute: int) -> None:
        self._say(f"churn, minute {minute}")
        some = await self._some(self._churned)
        began = time.monotonic()
        for number, name in enumerate(some):
            await asyncio.sleep(max(0.0, began + 60 * number / len(some) - time.monotonic()))
            with suppress_missing():  # of the last ones of the minute before
                await self._cluster.core.delete_namespaced_pod(name, self._pools.namespace)
        await asyncio.sleep(max(0.0, began + 60 - time.monotonic()))

    async def _drain(self) -> None:
        for name in self._size.names:
            await self._pools.delete(name)

        async def gone() -> int:
            return self._size.pools - len(await self._pools.names())

        await self._reach("pools are gone", gone, self._size.pools)

    async def _some(self, number: int) -> list[str]:
        """So many idle pods, of all pools alike."""
        names: list[str] = []
        for registry in self._registries:
            standings = await registry.standings()
            names += [name for name, standing in standings.items() if standing.state is PodState.IDLE]
        return random.sample(names, number)

    def _whole(self, spent: Spent) -> dict[str, Any]:
        """Of something that was done to every pod."""
        pods = self._size.pods
        return {
            "seconds": round(spent.seconds, 1), "cpu_ms_of_a_pod": round(1000 * spent.cpu / pods, 3),
            "events_of_a_pod": round(spent.events / pods, 2), "cpu_percent": round(100 * spent.cpu / spent.seconds, 1),
        }  # fmt: skip

    def _writes(self, filled: Spent, between: Sequence[Spent], drained: Spent) -> dict[str, Any]:
        # The first of a span may have been due before it: seconds are between two writes.
        statuses = [
            (one.requests["PATCH sandboxpools"] / self._size.pools - 1) / one.seconds
            for one in (filled, *between, drained)
        ]
        return {
            "of_a_pod": round((filled.requests["POST pods"] + drained.requests["DELETE pods"]) / self._size.pods, 4),
            "status_of_a_pool_a_second": round(max(0.0, *statuses), 3),
            "while_filling": {"by_the_operator": filled.requests, "served_to_anyone": filled.served},
            "while_draining": {"by_the_operator": drained.requests, "served_to_anyone": drained.served},
        }

    async def _spent(self, work: Callable[[], Awaitable[None]]) -> Spent:
        requests, served = await self._operator.writes(), await writes_served(self._cluster)
        watched, at, cpu = await self._watch.said(), time.monotonic(), self._operator.cpu()
        await work()
        seconds, cpu, seen = time.monotonic() - at, self._operator.cpu() - cpu, await self._watch.said()
        return Spent(
            seconds, cpu, seen["cpu_seconds"] - watched["cpu_seconds"], seen["events"] - watched["events"],
            await self._operator.writes() - requests, await writes_served(self._cluster) - served,
        )  # fmt: skip

    async def _reach(self, what: str, count: Callable[[], Awaitable[int]], number: int) -> None:
        """Waits, and says now and then how far it is."""
        began = said = time.monotonic()
        while (there := await count()) < number:
            now = time.monotonic()
            if now - began > 60 + self._size.pods / 5:
                raise AssertionError(f"{self._size}: {there} of {number} {what} after {now - began:.0f} s")
            if now - said > SAY_SECONDS:
                said = now
                self._say(f"{there} of {number} {what} after {now - began:.0f} s")
            await asyncio.sleep(POLL_SECONDS)

    def _say(self, what: str) -> None:
        sys.stderr.write(f"{self._size}: {what}\n")


def percent(spent: Sequence[Spent]) -> dict[str, float]:
    """Of a core."""
    return spread([100 * one.cpu / one.seconds for one in spent])


def mib(size: int) -> float:
    return round(size / 2**20, 1)

"""The operator's own code through thousands of small worlds: whatever goes wrong, in whatever order, no pod is leased
twice, none is deleted under a program, there are never too many, and in the end the pool is whole."""

import asyncio
import logging
import multiprocessing
import os
import random
import traceback
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from typing import Any

import pytest

from operator_tests.virtual_time import run
from operator_tests.world import HOLD_SECONDS, SETTLE_SECONDS, World
from warmpool_operator import act
from warmpool_operator.informer import SILENCE_SECONDS

SEEDS = int(os.environ.get("WARMPOOL_SEEDS", "1000"))
"""Worlds that are tried: 10,000 with every change."""
STORM_SECONDS = 15.0
YOUNG_SECONDS = 5
"""At which pods of some worlds are to be replaced."""
LEASE_SECONDS = 12.0
"""For which an operator that was cut off may go on before another leads."""


class Story:
    """What happens in one world, drawn from its seed."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(f"story {seed}")
        self.replicas = self.dice.randint(1, 4)
        spec: dict[str, Any] = {"replicas": self.replicas, "template": {"metadata": {"labels": {"version": "1"}}}}
        spec["recycle"] = {
            "maxExecutions": self.dice.choice([1, 2, 1000, 1000]),
            "maxAgeSeconds": self.dice.choice([YOUNG_SECONDS, 3600]),
            "mode": self.dice.choice(["reuse", "reuse", "tenant", "single-use"]),
        }
        spec["strategy"] = self.dice.choice([{}, {"maxUnavailable": 0, "maxSurge": 1}, {"maxUnavailable": "50%"}])
        self.world = World(seed, spec)
        self.operators = 0
        self.allow()

    def allow(self) -> None:
        """Beyond the pool's own limit only what operators had under way when they lost the lease."""
        pool = self.world.pool
        limit = pool.replicas + max(1, pool.max_surge(pool.replicas))
        self.world.cluster.limit = max(self.world.cluster.limit, limit + self.operators * pool.replicas)

    async def tell(self) -> None:
        world, dice, faults = self.world, self.dice, self.world.faults
        world.start_operator()
        gateways = [
            asyncio.create_task(world.gateway(dice.choice(["acme", "globex"]))) for _ in range(dice.randint(0, 4))
        ]
        faults.watch_seconds = dice.choice([0.01, 0.2, 2.0])
        faults.start_seconds = dice.choice([4.0, 4.0, 40.0])
        for name in ("api_refuses", "api_loses_answers", "redis_away", "pod_crashes", "gateway_dies", "dirty"):
            if dice.random() < 0.3:
                setattr(faults, name, dice.choice([0.02, 0.2]))
        while world.now < STORM_SECONDS:
            await asyncio.sleep(dice.expovariate(0.7))
            await dice.choice(MISHAPS)(self)
        await self.calm(gateways)

    async def calm(self, gateways: list[asyncio.Task[None]]) -> None:
        world = self.world
        world.faults.end()
        world.change(recycle={**world.pool.spec["recycle"], "maxAgeSeconds": 3600})  # it could not come to rest
        world.cluster.down = False
        for operator in world.operators[:-1]:
            await operator.kill()
        await self.restart()
        await asyncio.sleep(HOLD_SECONDS)
        for gateway in gateways:
            gateway.cancel()
        await asyncio.gather(*gateways, return_exceptions=True)
        until = world.now + SETTLE_SECONDS
        while (wrong := world.whole(world.pool.replicas) or self.ageing()) and world.now < until:
            await self.restart()
            await asyncio.sleep(0.5)
        assert not wrong, wrong
        await asyncio.sleep(2.0)  # the status follows, once a second at most
        writes = world.cluster.writes
        await asyncio.sleep(30.0)
        assert not world.whole(world.pool.replicas)
        assert world.cluster.writes - writes <= 2, "a pool at rest is written about"
        world.delete_pool()
        frozen = max(operator.watch.thaws_at for operator in world.operators) - world.now
        await asyncio.sleep(max(0.0, frozen) + 10.0)
        assert world.cluster.pods == {}
        assert world.redis.model.entries == {}
        for operator in list(world.operators):
            await operator.kill()

    async def restart(self) -> None:
        """Of a process that ended: it was killed, or superseded, which it learns at its next step in Redis."""
        world = self.world
        if world.operators and world.operators[0].task.done():
            await world.operators[0].kill()
        if not world.operators:
            self.operators += 1
            self.allow()
            world.start_operator()

    def ageing(self) -> str:
        """Which pods are still to be replaced for the age that they were given in the storm."""
        young = [id for id, entry in self.world.redis.model.entries.items() if entry.max_age == YOUNG_SECONDS]
        return f"{young} come of age" if young else ""

    # -- what may happen

    async def operator_dies(self) -> None:
        if self.world.operators:
            await self.world.operators[0].kill()
        if self.dice.random() < 0.8 and not self.world.operators:
            await asyncio.sleep(self.dice.uniform(0.0, 3.0))
            self.operators += 1
            self.allow()
            self.world.start_operator()

    async def operator_is_cut_off(self) -> None:
        """It believes to lead for a while, beside its successor."""
        if len(self.world.operators) == 1:
            old = self.world.operators[0]
            self.operators += 1
            self.allow()
            self.world.start_operator()
            await asyncio.sleep(self.dice.uniform(0.0, 1.0))
            old.leads = False

    async def redis_is_emptied(self) -> None:
        self.world.redis.flush()

    async def watch_freezes(self) -> None:
        """For some seconds, or for as long as one may be dead unnoticed."""
        seconds = SILENCE_SECONDS if self.dice.random() < 0.1 else self.dice.uniform(0.5, 8.0)
        for operator in self.world.operators:
            operator.watch.freeze(seconds)

    async def api_server_stops(self) -> None:
        self.world.cluster.down = True
        await asyncio.sleep(self.dice.uniform(0.5, 5.0))
        self.world.cluster.down = False

    async def pod_vanishes(self) -> None:
        if self.world.cluster.pods:
            self.world.cluster.vanish(self.dice.choice(sorted(self.world.cluster.pods)))

    async def pod_crashes(self) -> None:
        if self.world.cluster.pods:
            self.world.cluster.crash(self.dice.choice(sorted(self.world.cluster.pods)))

    async def template_changes(self) -> None:
        self.world.change(template={"metadata": {"labels": {"version": str(self.dice.randint(1, 3))}}})

    async def pool_is_scaled(self) -> None:
        self.world.change(replicas=self.dice.randint(0, 5))
        self.allow()

    async def nothing(self) -> None:
        pass


MISHAPS = [
    Story.operator_dies, Story.operator_is_cut_off, Story.redis_is_emptied, Story.watch_freezes,
    Story.api_server_stops, Story.pod_vanishes, Story.pod_crashes, Story.template_changes, Story.pool_is_scaled,
    Story.nothing,
]  # fmt: skip


def tell_all(seeds: range) -> None:
    """Raises at the first world that goes wrong, with its seed."""
    logging.disable(logging.CRITICAL)
    for seed in seeds:
        names = count()
        act._suffix = lambda names=names: f"{next(names):04}"  # type: ignore[misc]
        try:
            run(Story(seed).tell())
        except BaseException as fault:
            raise AssertionError(f"seed {seed}: {''.join(traceback.format_exception(fault))}") from None


def test_pods_that_start_for_longer_than_one_may_go_unseen_are_waited_for() -> None:
    """Whoever pulls an image, or waits for a node, cannot be seen alive yet."""

    async def tell() -> None:
        world = World(seed=0, spec={"replicas": 3})
        world.cluster.limit, world.faults.start_seconds = 4, 300.0
        operator = world.start_operator()
        await asyncio.sleep(10.0)
        first = set(world.cluster.pods)
        assert len(first) == 3
        await asyncio.sleep(300.0)
        assert not world.whole(3)
        assert set(world.cluster.pods) == first, "they were given up, and others made"
        await operator.kill()

    run(tell())


@pytest.mark.timeout(900)
def test_the_pool_is_kept_through_whatever_happens() -> None:
    workers = os.cpu_count() or 1
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as processes:
        for _ in processes.map(tell_all, [range(start, SEEDS, 10 * workers) for start in range(10 * workers)]):
            pass

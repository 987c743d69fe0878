"""What is broken on purpose, one function each. It chooses whom it hits and says so before it strikes.

A target is chosen by the cluster as it was a moment ago, so now and then there is none, or it is gone already.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from k8s.cluster import Object
from k8s.wholeness import POOL
from kubernetes.aio import client

from chaos.ground import LOOK_SECONDS, Ground, kill
from warmpool.registry import PodState

FEWEST: Final = 3
MOST: Final = 6
"""Pods that the pool is asked for; a surge of a quarter comes on top."""
PAUSE_SECONDS: Final = (0.5, 5.0)
"""That Redis answers nobody: shorter and longer than the 2 s after which a command is given up."""
LEASE_SECONDS: Final = 5.0
"""That a lease is waited for."""
LATER_SECONDS: Final = 0.5
DOWN_SECONDS: Final = (2.0, 10.0)
"""That the API server is down: an operator gives its Lease up after 9 s without an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """A fault that has found its target."""

    target: str
    act: Callable[[], Awaitable[object]]
    killed: tuple[str, ...] = ()
    redis: bool = False
    api_server: bool = False


Aim = Callable[[Ground, random.Random], Awaitable[Strike | None]]
"""None where there is nothing to hit at the moment."""


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    share: int
    """How often it is drawn, of all shares."""
    aim: Aim


# -- pods


def _delete(ground: Ground, pod: client.V1Pod) -> Strike:
    """Nothing of it can say goodbye."""
    name = pod.metadata.name
    return Strike(target=name, killed=(name,), act=lambda: ground.cluster.delete_pod(pod, grace_seconds=0))


def _end(ground: Ground, pod: client.V1Pod) -> Strike:
    """As `kubectl delete` does: what it runs comes to its end."""
    name, grace = pod.metadata.name, pod.spec.termination_grace_period_seconds
    return Strike(target=name, act=lambda: ground.cluster.delete_pod(pod, grace_seconds=grace))


def _kill(ground: Ground, pod: client.V1Pod) -> Strike | None:
    name, uid = pod.metadata.name, pod.metadata.uid
    process = ground.processes.get(uid)
    if process is None:
        return None

    async def act() -> None:
        kill(process, uid)

    return Strike(target=name, killed=(name,), act=act)


Hit = Callable[[Ground, client.V1Pod], Strike | None]


async def _idle(ground: Ground, rng: random.Random, *, hit: Hit) -> Strike | None:
    pods = ground.in_state(PodState.IDLE)
    return hit(ground, rng.choice(pods)) if pods else None


async def _leased(ground: Ground, rng: random.Random, *, hit: Hit) -> Strike | None:
    """A moment after its lease, so that it is hit while it connects, runs, calls or answers."""
    async with asyncio.timeout(LEASE_SECONDS):
        lease = await ground.watch.next_lease()
    strike = next((hit(ground, pod) for pod in ground.sandboxes if pod.metadata.name == lease.pod), None)
    if strike is not None:
        await asyncio.sleep(rng.uniform(0.0, LATER_SECONDS))
    return strike


async def _component(ground: Ground, rng: random.Random, *, name: str, hit: Hit) -> Strike | None:
    pods = ground.of(name)
    if hit is _end and not ground.direct:
        return None  # its callers would be sent to it to its end
    if hit is _kill:  # a kubelet starts a container again at once only the first time
        pods = [pod for pod in pods if pod.status.container_statuses[0].restart_count == 0]
    return hit(ground, rng.choice(pods)) if pods else None


async def _leader(ground: Ground, rng: random.Random) -> Strike | None:
    pods = await ground.leading_operator()
    return _delete(ground, rng.choice(pods)) if pods else None


# -- Redis


def _of_redis(strike: Strike | None) -> Strike | None:
    return strike and Strike(target=strike.target, killed=strike.killed, act=strike.act, redis=True)


def _replace(ground: Ground, pod: client.V1Pod) -> Strike:
    """Deleted, and over once another is ready. Until then, which takes long where the API server was just away, the old
    one may go on for those who are connected while the network leads nobody else to it."""
    strike, uid = _delete(ground, pod), pod.metadata.uid

    async def act() -> None:
        await strike.act()
        while all(other.metadata.uid == uid for other in ground.of("redis")):
            await asyncio.sleep(LOOK_SECONDS)

    return replace(strike, act=act)


async def _redis_pod(ground: Ground, rng: random.Random, *, hit: Hit) -> Strike | None:
    return _of_redis(await _component(ground, rng, name="redis", hit=hit))


async def _flush(ground: Ground, _: random.Random) -> Strike:
    return Strike(target="all data", act=ground.redis.flushall, redis=True)


async def _cut(ground: Ground, _: random.Random) -> Strike:
    """Every connection but those of the witness."""

    async def act() -> None:
        for one in await ground.redis.client_list():
            if one["cmd"] not in ("monitor", "client", "client|list"):
                await ground.redis.client_kill_filter(_id=one["id"])

    return Strike(target="all connections", act=act, redis=True)


async def _pause(ground: Ground, rng: random.Random) -> Strike:
    seconds = rng.uniform(*PAUSE_SECONDS)

    async def act() -> None:
        await ground.redis.client_pause(round(seconds * 1000))
        await asyncio.sleep(seconds)

    return Strike(target=f"for {seconds:.1f} s", act=act, redis=True)


# -- the pool


def _merge(ground: Ground, spec: Object) -> Strike:
    return Strike(target=str(spec), act=lambda: ground.pools.merge(POOL, spec))


async def _scale(ground: Ground, rng: random.Random) -> Strike:
    return _merge(ground, {"autoscale": None, "replicas": rng.randint(FEWEST, MOST)})


async def _autoscale(ground: Ground, _: random.Random) -> Strike:
    return _merge(ground, {"autoscale": {"min": FEWEST, "max": MOST, "spare": 1, "coolDownSeconds": 5}})


async def _roll_out(ground: Ground, rng: random.Random) -> Strike:
    mode = rng.choice(["reuse", "reuse", "tenant", "single-use"])
    stamp = {"metadata": {"annotations": {"chaos": f"{time.time():.0f}"}}}
    return _merge(ground, {"recycle": {"mode": mode}, "template": stamp})


# -- the API server


async def _api_server(ground: Ground, rng: random.Random) -> Strike | None:
    if not ground.restart_api_server:
        return None
    seconds = rng.uniform(*DOWN_SECONDS)
    command = [word.format(seconds=f"{seconds:.1f}") for word in ground.restart_api_server]

    async def act() -> None:
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
        code = await process.wait()
        if code != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {code}")

    return Strike(target=f"for {seconds:.1f} s", act=act, api_server=True)


KINDS: Final[Sequence[Kind]] = (
    Kind("leased pod deleted", 4, partial(_leased, hit=_delete)),
    Kind("idle pod deleted", 2, partial(_idle, hit=_delete)),
    Kind("leased pod's process killed", 4, partial(_leased, hit=_kill)),
    Kind("idle pod's process killed", 2, partial(_idle, hit=_kill)),
    Kind("leased pod ended in order", 2, partial(_leased, hit=_end)),
    Kind("leading operator deleted", 2, _leader),
    Kind("operator's process killed", 1, partial(_component, name="operator", hit=_kill)),
    Kind("gateway deleted", 2, partial(_component, name="gateway", hit=_delete)),
    Kind("gateway's process killed", 2, partial(_component, name="gateway", hit=_kill)),
    Kind("gateway ended in order", 1, partial(_component, name="gateway", hit=_end)),
    Kind("Redis deleted with its data", 1, partial(_redis_pod, hit=_replace)),
    Kind("Redis's process killed", 1, partial(_redis_pod, hit=_kill)),
    Kind("Redis flushed", 1, _flush),
    Kind("Redis's connections cut", 2, _cut),
    Kind("Redis paused", 2, _pause),
    Kind("pool scaled", 2, _scale),
    Kind("pool scales itself", 1, _autoscale),
    Kind("pool rolled out", 2, _roll_out),
    Kind("API server stopped", 1, _api_server),
)


def schedule(rng: random.Random, mean_seconds: float) -> Iterator[tuple[float, Kind]]:
    """Without end: seconds to wait, and what to do then. Every kind comes in its share before one comes once more."""
    while True:
        bag = [kind for kind in KINDS for _ in range(kind.share)]
        rng.shuffle(bag)
        for kind in bag:
            yield min(4 * mean_seconds, rng.expovariate(1 / mean_seconds)), kind

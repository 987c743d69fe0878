"""What acquire and release cost in pools of 10, 1,000 and 10,000 pods, with PING as the control.

Rounds of all sizes alternate, and a PING goes before every pair, so that whatever else the machine does
falls on each alike. Two views: round trips as a gateway sees them, which are mostly the client and the
socket, and the time inside Redis by its own count, where growth with the pool's size could not hide.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median, quantiles
from typing import Final, TypedDict, TypeVar

from redis.asyncio import Redis

from warmpool.registry import Lease, Registry, connect

T = TypeVar("T")

SIZES: Final = (10, 1_000, 10_000)
ROUNDS: Final = 30
PAIRS: Final = 100
WARM_UP_ROUNDS: Final = 2


class Timing(TypedDict):
    """Microseconds of one round trip."""

    p50: float
    p99: float
    mean: float


class Ratio(TypedDict):
    """To the smallest pool in the same round."""

    median: float
    p25: float
    p75: float


class PoolFigures(TypedDict):
    """Of one pool size."""

    pods: int
    acquire: Timing
    release: Timing
    ping: Timing
    redis_micros: float
    """Mean of an acquire or a release inside Redis."""
    round_trip_ratio: Ratio
    redis_ratio: Ratio


class Report(TypedDict):
    """All of it; `bench.GOALS` judges."""

    redis_version: str
    rounds: int
    pairs_a_round: int
    pools: list[PoolFigures]


@dataclass
class Block:
    """One round of one size: microseconds."""

    ping: list[float] = field(default_factory=list)
    acquire: list[float] = field(default_factory=list)
    release: list[float] = field(default_factory=list)
    redis: float = 0.0

    @property
    def pair(self) -> float:
        return median(self.acquire) + median(self.release)


async def measure(redis_url: str, *, sizes: Sequence[int] = SIZES, rounds: int = ROUNDS, pairs: int = PAIRS) -> Report:
    """Runs against that Redis, which should do nothing else meanwhile; leaves nothing behind in it."""
    redis = connect(redis_url, timeout_seconds=10)
    token = secrets.token_hex(4)
    registries = [Registry(redis, f"bench-{token}-{size}", heartbeat_seconds=3600) for size in sizes]
    try:
        for registry, size in zip(registries, sizes, strict=True):
            await _fill(registry, size)
        blocks: list[list[Block]] = [[] for _ in sizes]
        for number in range(WARM_UP_ROUNDS + rounds):
            for index in _turned(len(sizes), number):
                block = await _round(redis, registries[index], pairs)
                if number >= WARM_UP_ROUNDS:
                    blocks[index].append(block)
        version = str((await redis.info("server"))["redis_version"])
        return _report(version, sizes, blocks, pairs)
    finally:
        await _clear(redis, token)
        await redis.aclose()


async def _fill(registry: Registry, pods: int) -> None:
    for start in range(0, pods, 50):
        numbers = range(start, min(start + 50, pods))
        await asyncio.gather(*(_register(registry, number) for number in numbers))


async def _register(registry: Registry, number: int) -> None:
    await registry.register(f"pod-{number:05}", "10.0.0.1:7000", max_executions=10**9, max_age_seconds=10**6)


def _turned(count: int, by: int) -> list[int]:
    """Another size goes first in every round."""
    return [(index + by) % count for index in range(count)]


async def _round(redis: Redis, registry: Registry, pairs: int) -> Block:
    block = Block()
    before = await _script_micros(redis)
    for _ in range(pairs):
        await _timed(redis.ping(), block.ping)
        acquiring = registry.acquire(execution="e", tenant="t", gateway="g", hold_seconds=3600, quota=10**6)
        lease = await _timed(acquiring, block.acquire)
        if not isinstance(lease, Lease):
            raise RuntimeError("the pool is empty: something else uses it")
        await _timed(registry.release(lease, clean=True), block.release)
    block.redis = (await _script_micros(redis) - before) / (2 * pairs)
    return block


async def _timed(call: Awaitable[T], into: list[float]) -> T:
    start = time.perf_counter_ns()
    result = await call
    into.append((time.perf_counter_ns() - start) / 1000)
    return result


async def _script_micros(redis: Redis) -> float:
    stats = await redis.info("commandstats")
    return float(stats["cmdstat_evalsha"]["usec"])


def _report(version: str, sizes: Sequence[int], blocks: Sequence[Sequence[Block]], pairs: int) -> Report:
    smallest = blocks[0]
    pools = [_figures(size, own, smallest) for size, own in zip(sizes, blocks, strict=True)]
    return Report(redis_version=version, rounds=len(smallest), pairs_a_round=pairs, pools=pools)


def _figures(size: int, blocks: Sequence[Block], smallest: Sequence[Block]) -> PoolFigures:
    both = list(zip(blocks, smallest, strict=True))
    return PoolFigures(
        pods=size,
        acquire=_timing([micros for block in blocks for micros in block.acquire]),
        release=_timing([micros for block in blocks for micros in block.release]),
        ping=_timing([micros for block in blocks for micros in block.ping]),
        redis_micros=round(fmean(block.redis for block in blocks), 2),
        round_trip_ratio=_ratio([own.pair / base.pair for own, base in both]),
        redis_ratio=_ratio([own.redis / base.redis for own, base in both]),
    )


def _timing(micros: Sequence[float]) -> Timing:
    cuts = quantiles(micros, n=100, method="inclusive")
    return Timing(p50=round(cuts[49], 1), p99=round(cuts[98], 1), mean=round(fmean(micros), 1))


def _ratio(values: Sequence[float]) -> Ratio:
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return Ratio(median=round(middle, 3), p25=round(low, 3), p75=round(high, 3))


async def _clear(redis: Redis, token: str) -> None:
    keys = [key async for key in redis.scan_iter(f"warmpool:{{bench-{token}-*", count=1000)]
    for start in range(0, len(keys), 1000):
        await redis.unlink(*keys[start : start + 1000])

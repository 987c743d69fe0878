"""Runs in a gateway's container, by its python3. Prints milliseconds by name as JSON.

    leases AT_ONCE EACH         the gateway's own code: acquire in Redis, the stream to the pod, release
    http KEY AT_ONCE EACH       through the gateway itself
    lone KEY COUNT PODS         the same, one after another, each once so many pods are idle and their node at rest
    burst KEY[,KEY ...] COUNT   the same, all sent at one moment over as many connections, from each key in turn
    sleep SECONDS

On the gateway's kind of event loop.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import aiohttp
import uvloop

from warmpool.registry import Lease, Registry, connect
from warmpool.settings import Settings
from warmpool_gateway.pod_stream import Program
from warmpool_gateway.pods import PodConnections

PROGRAM = "import time\nreturn time.time_ns()"
GATEWAY = "http://127.0.0.1:8080"
TIMEOUT = aiohttp.ClientTimeout(total=300)
LOOK_SECONDS = 0.05
REST_SECONDS = 2.0
"""In which a node cleans up after a pod that is gone and takes in the one in its place. Beside that no program is alone
on it: one that takes 7.6 ms takes 12.7."""

Figures = dict[str, Any]


async def leases(at_once: int, each: int) -> Figures:
    settings = Settings.of_environment()
    redis = connect(settings.redis.url)
    registry = Registry(redis, settings.pool.name, heartbeat_seconds=settings.pool.heartbeat_seconds)
    pods = PodConnections(key=settings.secrets.read("pool"), pool=settings.pool.name)
    figures: Figures = {"first_instruction_ms": [], "lease_to_result_ms": [], "control_redis_ping_ms": []}

    async def work() -> None:
        for _ in range(each):
            execution = f"exe_{uuid4().hex}"
            began = time.time_ns()
            asked = {"execution": execution, "tenant": "bench", "gateway": "bench", "hold_seconds": 30, "quota": 1000}
            while not isinstance(lease := await registry.acquire(**asked), Lease):
                await asyncio.sleep(0.001)
            outcome = await pods.run(lease, Program(code=PROGRAM), no_tools, asyncio.get_running_loop().create_future())
            ended = time.time_ns()
            await registry.release(lease, clean=outcome.clean)
            figures["first_instruction_ms"].append((outcome.value - began) / 1e6)
            figures["lease_to_result_ms"].append((ended - began) / 1e6)
            began = time.time_ns()
            await redis.ping()
            figures["control_redis_ping_ms"].append((time.time_ns() - began) / 1e6)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(work())
    finally:
        await pods.aclose()
        await redis.aclose()
    return figures


async def no_tools(tool: str, arguments: dict[str, Any]) -> bytes:
    raise AssertionError(f"the program calls no tool, and called {tool}")


async def http(key: str, at_once: int, each: int) -> Figures:
    took: list[float] = []

    async def work(session: aiohttp.ClientSession) -> None:
        for _ in range(each):
            began = time.perf_counter()
            await run(session, key)
            took.append((time.perf_counter() - began) * 1000)

    async with to_gateway() as session, asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work(session))
    return {"http_ms": took}


async def lone(key: str, count: int, pods: int) -> Figures:
    settings = Settings.of_environment()
    redis = connect(settings.redis.url)
    registry = Registry(redis, settings.pool.name)
    took: list[float] = []
    try:
        async with to_gateway() as session:
            for number in range(count + 1):
                if not await is_whole(registry, pods):
                    while not await is_whole(registry, pods):
                        await asyncio.sleep(LOOK_SECONDS)
                    await asyncio.sleep(REST_SECONDS)
                began = time.perf_counter()
                await run(session, key)
                if number:  # the first opens the connection
                    took.append((time.perf_counter() - began) * 1000)
    finally:
        await redis.aclose()
    return {"http_ms": took}


async def is_whole(registry: Registry, pods: int) -> bool:
    counts = await registry.counts()
    return counts.idle >= pods and not counts.warming and not counts.retiring


async def burst(keys: Sequence[str], count: int) -> Figures:
    """Milliseconds of each from the moment at which all were sent. An error is one in whatever form."""
    took: list[float] = []
    errors: list[str] = []

    async def one(session: aiohttp.ClientSession, key: str) -> None:
        try:
            await run(session, key)
        except (aiohttp.ClientError, TimeoutError, AssertionError) as fault:
            errors.append(f"{type(fault).__name__}: {fault}")
        else:
            took.append((time.perf_counter() - began) * 1000)

    async with to_gateway() as session, asyncio.TaskGroup() as group:
        began = time.perf_counter()
        for number in range(count):
            group.create_task(one(session, keys[number % len(keys)]))
    return {"http_ms": took, "errors": errors}


def to_gateway() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(GATEWAY, connector=aiohttp.TCPConnector(limit=0), timeout=TIMEOUT)


async def run(session: aiohttp.ClientSession, key: str) -> None:
    """Raises AssertionError with what came in place of a good end."""
    headers = {"Authorization": f"Bearer {key}"}
    async with session.post("/v1/executions", json={"code": PROGRAM}, headers=headers) as response:
        answer = await response.json(content_type=None)
    assert answer["status"] == "ok", answer


async def main() -> Figures:
    match sys.argv[1:]:
        case ["leases", at_once, each]:
            return await leases(int(at_once), int(each))
        case ["http", key, at_once, each]:
            return await http(key, int(at_once), int(each))
        case ["lone", key, count, pods]:
            return await lone(key, int(count), int(pods))
        case ["burst", keys, count]:
            return await burst(keys.split(","), int(count))
        case ["sleep", seconds]:
            await asyncio.sleep(float(seconds))
            return {}
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(uvloop.run(main())))

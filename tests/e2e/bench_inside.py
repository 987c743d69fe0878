"""Runs in a gateway's container, by its python3: `API_KEY leases|http AT_ONCE EACH`, or `API_KEY sleep SECONDS`.

Prints milliseconds by name as JSON. On the gateway's kind of event loop, `leases` goes its way to a pod with its own
code: acquire in Redis, the stream to the pod, release. `http` goes through the gateway itself.
"""

import asyncio
import json
import sys
import time
from typing import Any
from uuid import uuid4

import aiohttp
import uvloop

from warmpool.registry import Lease, Registry, connect
from warmpool.settings import Settings
from warmpool_gateway.pods import PodConnections, Program

PROGRAM = "import time\nreturn time.time_ns()"
GATEWAY = "http://127.0.0.1:8080"

Figures = dict[str, list[float]]


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
            async with session.post("/v1/executions", json={"code": PROGRAM}) as response:
                answer = await response.json()
            assert answer["status"] == "ok", answer
            took.append((time.perf_counter() - began) * 1000)

    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(GATEWAY, headers=headers) as session, asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work(session))
    return {"http_ms": took}


async def main() -> Figures:
    match sys.argv[1:]:
        case [_, "leases", at_once, each]:
            return await leases(int(at_once), int(each))
        case [key, "http", at_once, each]:
            return await http(key, int(at_once), int(each))
        case [_, "sleep", seconds]:
            await asyncio.sleep(float(seconds))
            return {}
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(uvloop.run(main())))

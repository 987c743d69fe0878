"""A thousand requests sent at once through the whole service, and what each part of it paid for one.

The load generator runs on the same machine and is charged like the rest. A null server that answers at once is
the control: what the generator alone needs for the same burst.
"""

import asyncio
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from aiohttp import web

from warmpool.local import stack
from warmpool_loadtests.cpu import cpu_seconds, family
from warmpool_loadtests.figures import percentile, spread

REQUESTS: Final = 1000
ROUNDS: Final = 5
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30)


@dataclass(frozen=True, slots=True)
class Burst:
    """One burst: seconds of each request from the moment all were sent, and those that failed."""

    seconds: list[float]
    failures: list[str]
    elapsed: float
    client_cpu: float


async def measure(requests: int = REQUESTS, rounds: int = ROUNDS) -> dict[str, Any]:
    """Starts the service, warms it up, and sends `rounds` bursts, each beside a burst to the null server."""
    _raise_open_files(4 * requests)
    plan = stack.Plan(products=0)
    async with stack.running(plan) as running:
        headers = {"Authorization": f"Bearer {running.api_key}"}
        async with _null_server() as null_url:
            await burst(running.url, headers, 100)
            parts, bursts, controls = [], [], []
            for _ in range(rounds):
                controls.append(await burst(null_url, headers, requests))
                before = _cpu(running)
                bursts.append(await burst(running.url, headers, requests))
                after = _cpu(running)
                parts.append({name: (after[name] - before[name]) / requests * 1000 for name in after})
    return _figures(requests, plan.pods, parts, bursts, controls)


def _figures(
    requests: int, pods: int, parts: list[dict[str, float]], bursts: list[Burst], controls: list[Burst]
) -> dict[str, Any]:
    cpu = {name: spread([part[name] for part in parts]) for name in parts[0]}
    cpu["load generator"] = spread([b.client_cpu / requests * 1000 for b in bursts])
    return {
        "requests_at_once": requests,
        "rounds": len(bursts),
        "pods": pods,
        "errors": sum(len(b.failures) for b in bursts),
        "seconds_p50": spread([percentile(b.seconds, 0.50) for b in bursts]),
        "seconds_p99": spread([percentile(b.seconds, 0.99) for b in bursts]),
        "seconds_all": spread([b.elapsed for b in bursts]),
        "per_second": spread([requests / b.elapsed for b in bursts]),
        "control_null_server_p99": spread([percentile(b.seconds, 0.99) for b in controls]),
        "control_null_server_client_cpu_ms": spread([b.client_cpu / requests * 1000 for b in controls]),
        "cpu_ms_per_request": cpu,
        "cpu_ms_per_request_in_all": round(sum(item["median"] for item in cpu.values()), 3),
    }


async def burst(url: str, headers: dict[str, str], requests: int) -> Burst:
    """All requests are sent at once, over as many connections."""
    failures: list[str] = []
    seconds: list[float] = []
    connector = aiohttp.TCPConnector(limit=0, force_close=False)
    async with aiohttp.ClientSession(url, headers=headers, connector=connector, timeout=_TIMEOUT) as session:
        own, began = time.process_time(), time.perf_counter()

        async def one(number: int) -> None:
            try:
                async with session.post("/v1/executions", json={"code": f"return sum(range({number}))"}) as response:
                    answer = await response.json(content_type=None)
            except (aiohttp.ClientError, TimeoutError) as fault:
                failures.append(f"{type(fault).__name__}: {fault}")
                return
            seconds.append(time.perf_counter() - began)
            if response.status != 200 or answer.get("status") != "ok":
                failures.append(f"{response.status}: {answer}")

        await asyncio.gather(*(one(number) for number in range(requests)))
        elapsed, cpu = time.perf_counter() - began, time.process_time() - own
    return Burst(seconds or [elapsed], failures, elapsed, cpu)


def _cpu(running: stack.Stack) -> dict[str, float]:
    redis, postgres = running.redis.pid, running.postgres.pid
    assert redis is not None
    assert postgres is not None
    replaced = resource.getrusage(resource.RUSAGE_CHILDREN)  # sandboxes that served their number, as a burst goes on
    return {
        "gateway": cpu_seconds([running.gateway.pid]),
        "sandboxes": sum(cpu_seconds(family(pod.pid)) for pod in running.pool.pods if pod.pid)
        + replaced.ru_utime
        + replaced.ru_stime,
        "redis": cpu_seconds([redis]),
        "postgres": cpu_seconds(family(postgres)),
    }


@asynccontextmanager
async def _null_server() -> AsyncIterator[str]:
    """Answers every execution at once, in this process, so that its cost is in the control's."""

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.json_response({"status": "ok", "result": 0})

    app = web.Application()
    app.router.add_post("/v1/executions", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _raise_open_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))

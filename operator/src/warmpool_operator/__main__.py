"""`warmpool-operator`: keeps the pools of its namespace. `warmpool-operator drain`: takes every pool away."""

import argparse
import asyncio
import logging
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Final

import kopf
from aiohttp import web
from prometheus_client import generate_latest
from redis.asyncio import Redis

from warmpool.errors import Superseded, WarmpoolError
from warmpool.registry import Registry, connect
from warmpool.settings import Settings
from warmpool_operator import metrics
from warmpool_operator.api import Api, ApiError
from warmpool_operator.handlers import Keepers, registry_of_handlers, settings
from warmpool_operator.informer import SILENCE_SECONDS, Informer
from warmpool_operator.leader import Leader
from warmpool_operator.pool import GROUP, PLURAL, VERSION

STUCK_SECONDS: Final = 120.0
"""A look at a pool takes milliseconds, and some seconds where each call of it runs into its timeout."""
DRAIN_SECONDS: Final = 150.0
DRAIN_POLL_SECONDS: Final = 0.5
LOST_THE_LEASE: Final = 4
MOST_POOLS: Final = 1000
"""Each listens to its registry on a connection of its own. Beyond them commands would wait for one that never comes."""

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="warmpool-operator", description=__doc__)
    parser.add_argument("command", nargs="?", choices=["run", "drain"], default="run", help="default: %(default)s")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    work: Callable[[Settings], Coroutine[None, None, int]] = run if options.command == "run" else drain
    try:
        code = asyncio.run(work(Settings.of_environment()))
    except (WarmpoolError, ApiError) as fault:
        sys.exit(f"warmpool-operator: {fault}")
    sys.exit(code)


async def run(chosen: Settings) -> int:
    """Waits until it leads, then acts until SIGTERM or until it leads no more."""
    api, lease_api = await Api.connect(), await Api.connect()
    redis = connect(chosen.redis.url, timeout_seconds=chosen.redis.timeout_seconds, subscriptions=MOST_POOLS)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    leader = Leader(lease_api, chosen.operator)
    health = Health()
    runner = await health.serve(chosen.operator.port)
    try:
        if not await _unless(stop, leader.acquire()):
            return 0
        metrics.leads.set(1)
        code = await _act(chosen, api, redis, leader, health, stop)
        metrics.leads.set(0)
        if code == 0:
            await leader.release()
        return code
    finally:
        await runner.cleanup()
        await redis.aclose()
        await lease_api.close()
        await api.close()


async def _act(chosen: Settings, api: Api, redis: Redis, leader: Leader, health: "Health", stop: asyncio.Event) -> int:
    lost = False

    def make_registry(pool: str) -> Registry:
        return Registry(redis, pool, heartbeat_seconds=chosen.pool.heartbeat_seconds)

    async def until_lost() -> None:
        nonlocal lost
        await leader.hold()
        lost = True
        stop.set()

    try:
        async with asyncio.TaskGroup() as group:
            fenced = api.fenced(leader.leads)
            informer = Informer(api, chosen.operator.namespace, lambda pool: keepers.poke(pool))
            keepers = Keepers(group, fenced, informer, make_registry)
            health.watch(informer, keepers)
            tasks = [
                group.create_task(until_lost(), name="lease"),
                group.create_task(informer.run(), name="informer"),
                group.create_task(_kopf(chosen.operator.namespace, keepers, stop), name="kopf"),
            ]
            await stop.wait()
            for task in tasks:
                task.cancel()
            keepers.end()
    except* asyncio.CancelledError:
        pass
    except* Superseded:
        lost = True
    if lost:
        log.error("the lease is lost: another operator may act")
        return LOST_THE_LEASE
    return 0


async def _kopf(namespace: str, keepers: Keepers, stop: asyncio.Event) -> None:
    """kopf takes SIGTERM for itself, and ends: so do we then."""
    await kopf.operator(
        registry=registry_of_handlers(keepers),
        settings=settings(),
        namespaces=[namespace],
        standalone=True,
        identity="warmpool",  # type: ignore[arg-type]  # else it asks for the name of a user who has none here
    )
    stop.set()


async def _unless(stop: asyncio.Event, work: Awaitable[None]) -> bool:
    """True once `work` is done; False, with it cancelled, where `stop` came first."""
    doing, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    done, pending = await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    return doing in done


class Health:
    """`/healthz` for the kubelet and `/metrics` for Prometheus. A stand-by is healthy."""

    def __init__(self) -> None:
        self._informer: Informer | None = None
        self._keepers: Keepers | None = None

    def watch(self, informer: Informer, keepers: Keepers) -> None:
        self._informer, self._keepers = informer, keepers

    async def serve(self, port: int) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, None, port).start()
        return runner

    async def _healthz(self, _: web.Request) -> web.Response:
        now = time.monotonic()
        if self._informer is not None and now - self._informer.heard_at > 2 * SILENCE_SECONDS:
            return web.Response(status=503, text="the watch of pods is silent")
        if self._keepers is not None and self._keepers.slowest_pass_age(now) > STUCK_SECONDS:
            return web.Response(status=503, text="a pool was not looked at for too long")
        return web.Response(text="ok")

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), content_type="text/plain")


async def drain(chosen: Settings) -> int:
    """Deletes every pool of the namespace; the operator, which still runs, drains them."""
    api = await Api.connect()
    path = f"/apis/{GROUP}/{VERSION}/namespaces/{chosen.operator.namespace}/{PLURAL}"
    try:
        deadline = time.monotonic() + DRAIN_SECONDS
        while True:
            try:
                left = (await api.call("GET", path))["items"]
            except ApiError as fault:
                if fault.status == 404:  # the definition itself is gone
                    return 0
                raise
            if not left:
                return 0
            for pool in left:
                if "deletionTimestamp" not in pool["metadata"]:
                    with suppress(ApiError):
                        await api.call("DELETE", f"{path}/{pool['metadata']['name']}")
            if time.monotonic() > deadline:
                names = ", ".join(pool["metadata"]["name"] for pool in left)
                sys.stderr.write(f"warmpool-operator: {names} not drained in {DRAIN_SECONDS:.0f} s\n")
                return 1
            await asyncio.sleep(DRAIN_POLL_SECONDS)
    finally:
        await api.close()


if __name__ == "__main__":
    main()

"""A whole gateway over HTTP on a real Redis and Postgres, and stand-ins for what is behind it.

The supervisor follows a script (`scripted.py`). The tool server is a real HTTP server that answers as it is told.
"""

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest
import uvicorn
from aiohttp import web
from aiohttp.test_utils import TestServer
from fastapi import FastAPI

from gateway.tests.scripted import KEY, POOL, Script, ScriptedSupervisor, Talk, echo
from warmpool.registry import PodState, Registry
from warmpool.settings import Settings
from warmpool_gateway.app import create_app
from warmpool_gateway.gateway import Gateway
from warmpool_gateway.keys import create_key
from warmpool_gateway.pods import PodConnections
from warmpool_gateway.redis_link import PipelinedRedis

Supervise = Callable[..., Awaitable[ScriptedSupervisor]]


@pytest.fixture
async def supervise() -> AsyncIterator[Supervise]:
    """Starts scripted supervisors, which end with the test."""
    started: list[ScriptedSupervisor] = []

    async def start(*args: Any, **options: Any) -> ScriptedSupervisor:
        supervisor = ScriptedSupervisor(*args, **options)
        started.append(supervisor)
        return await supervisor.start()

    yield start
    for supervisor in started:
        await supervisor.stop()


@pytest.fixture
async def supervisor(supervise: Supervise) -> ScriptedSupervisor:
    return await supervise()


@pytest.fixture
async def connections() -> AsyncIterator[PodConnections]:
    """Of a gateway that has no other part."""
    made = PodConnections(key=KEY, pool=POOL)
    yield made
    await made.aclose()


PEPPER = b"p" * 32


class Tools:
    """What the tool server says next, and what it was asked."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, bytes]] = []
        self.say: Any = {"value": [{"title": "Red shoe"}]}
        self.ready = True

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/readyz":
            return web.Response(status=200 if self.ready else 503)
        self.requests.append((request.path, request.headers.get("Authorization", ""), await request.read()))
        return await self.say(request) if callable(self.say) else web.json_response(self.say)


class House:
    """A gateway that serves HTTP, its pods, and a caller with a key."""

    def __init__(self, app: FastAPI, redis: PipelinedRedis, tools: Tools, database: str) -> None:
        self.app = app
        self.database = database
        self.registry = Registry(redis, POOL)
        self.tools = tools
        self.pods: list[ScriptedSupervisor] = []
        self.key = ""
        self.key_id = ""
        self.url = ""
        self.http = aiohttp.ClientSession()
        self._server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5))
        self._serving: asyncio.Task[None] | None = None

    @property
    def gateway(self) -> Gateway:
        return self.app.state.gateway

    async def start(self) -> None:
        self.key, self.key_id = await self.new_key("acme")
        listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._serving = asyncio.create_task(self._server.serve([listener]))
        await until(lambda: self._server.started and self.gateway.keys.loaded and self.gateway.queue.counts)

    async def stop(self) -> None:
        await self.http.close()
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
        for pod in self.pods:
            await pod.stop()

    async def new_key(self, tenant: str) -> tuple[str, str]:
        async with await psycopg.AsyncConnection.connect(self.database, autocommit=True) as connection:
            key, text = await create_key(connection, PEPPER, tenant=tenant, name="test")
        return text, key.id

    async def add_pod(self, name: str = "pod-1", script: Script = echo) -> ScriptedSupervisor:
        pod = await ScriptedSupervisor(name, script=script).start()
        self.pods.append(pod)
        await self.registry.register(name, pod.address, max_executions=100_000, max_age_seconds=3600)
        return pod

    def request(self, method: str, path: str, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {options.pop('key', self.key)}"} | options.pop("headers", {})
        return self.http.request(method, self.url + path, headers=headers, **options)

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        async with self.request(method, path, **options) as response:
            return response.status, await response.json(content_type=None)

    async def run(self, code: str = "return 1", **members: Any) -> tuple[int, Any]:
        return await self.ask("POST", "/v1/executions", json={"code": code, **members})

    async def states(self) -> dict[str, PodState]:
        return {pod.id: pod.state for pod in await self.registry.pods()}

    async def until_states(self, **expected: PodState) -> None:
        async with asyncio.timeout(5):
            while await self.states() != {name.replace("_", "-"): state for name, state in expected.items()}:
                await asyncio.sleep(0.001)


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Waits for a condition that announces itself nowhere."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture
def secrets_folder(tmp_path: Path) -> Path:
    for name, key in {"pool": KEY, "grant": b"g" * 32, "pepper": PEPPER}.items():
        (tmp_path / f"{name}.key").write_bytes(key)
    return tmp_path


@pytest.fixture
def changes() -> dict[str, Any]:
    """Override to change settings: group -> field -> value."""
    return {}


@pytest.fixture
def tools() -> Tools:
    return Tools()


@pytest.fixture
async def tool_server(tools: Tools) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", tools.handle)
    async with TestServer(app) as server:
        yield str(server.make_url(""))


@pytest.fixture
def settings(secrets_folder: Path, redis_url: str, database: str, changes: dict[str, Any]) -> dict[str, Any]:
    groups: dict[str, Any] = {
        "redis": {"url": redis_url},
        "postgres": {"dsn": database, "timeout_seconds": 2.0},
        "secrets": {"path": secrets_folder},
        "audit": {"linger_seconds": 0.01},
        "model": {"base_url": "http://127.0.0.1:9/v1", "max_retries": 0},  # nothing listens: no test asks a real one
    }
    return {name: groups.get(name, {}) | changes.get(name, {}) for name in {*groups, *changes, "tools"}}


@pytest.fixture
async def link(redis: Any, redis_url: str) -> AsyncIterator[PipelinedRedis]:
    """A client like the gateway's, on an empty database."""
    client = PipelinedRedis.connect(redis_url, timeout_seconds=2.0)
    yield client
    await client.aclose()


@pytest.fixture
async def house(
    settings: dict[str, Any], link: PipelinedRedis, tools: Tools, tool_server: str, database: str
) -> AsyncIterator[House]:
    """A gateway without pods."""
    settings["tools"] = {"url": tool_server} | settings["tools"]
    app = await asyncio.to_thread(create_app, Settings(**settings))  # it reads the secrets from disk
    made = House(app, link, tools, database)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


@pytest.fixture
async def pod(house: House) -> ScriptedSupervisor:
    """The only pod of the house."""
    return await house.add_pod()


class GatewayProcess:
    """`python -m warmpool_gateway`, a caller of it, and its pods."""

    def __init__(self, process: asyncio.subprocess.Process, http: aiohttp.ClientSession, registry: Registry) -> None:
        self.registry = registry
        self.may_end = asyncio.Event()
        """Programs run until it is set."""
        self.pods: list[ScriptedSupervisor] = []
        self._key = "wp_"
        self._process = process
        self._http = http

    @property
    def runs(self) -> Counter[str]:
        """How often each execution was sent to a pod."""
        return Counter(run["execution"] for pod in self.pods for run in pod.runs)

    async def add_pods(self, number: int) -> None:
        for index in range(number):
            pod = await ScriptedSupervisor(f"pod-{index}", script=self._until_it_may_end).start()
            self.pods.append(pod)
            await self.registry.register(pod.pod, pod.address, max_executions=1000, max_age_seconds=3600)

    async def make_key(self, database: str) -> None:
        """For `run`."""
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
            _, self._key = await create_key(connection, PEPPER, tenant="acme", name="test")

    async def run(self) -> tuple[int, str | None, Any]:
        return await self.post("/v1/executions", {"code": "return 1"})

    async def post(self, path: str, body: dict[str, Any]) -> tuple[int, str | None, Any]:
        """Status, Connection and body of the answer."""
        headers = {"Authorization": f"Bearer {self._key}"}
        async with self._http.post(path, json=body, headers=headers) as response:
            return response.status, response.headers.get("Connection"), await response.json(content_type=None)

    async def until_ready(self, status: int, seconds: float = 20.0) -> Any:
        """Waits until /readyz answers this; returns its body."""
        async with asyncio.timeout(seconds):
            while True:
                with contextlib.suppress(aiohttp.ClientConnectionError):
                    async with self._http.get("/readyz") as response:
                        if response.status == status:
                            return await response.json(content_type=None)
                await asyncio.sleep(0.02)

    def stop(self) -> None:
        self._process.terminate()

    async def ended(self, seconds: float) -> int:
        """Its exit code, within so long."""
        async with asyncio.timeout(seconds):
            return await self._process.wait()

    async def end(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        for pod in self.pods:
            await pod.stop()

    async def _until_it_may_end(self, talk: Talk, run: dict[str, Any]) -> None:
        await self.may_end.wait()
        talk.result(run["execution"], value=1)


Launch = Callable[..., contextlib.AbstractAsyncContextManager[GatewayProcess]]


@pytest.fixture
def launch(settings: dict[str, Any], link: PipelinedRedis, tool_server: str) -> Launch:
    """Starts a gateway process without pods; it ends with the context."""
    groups = settings | {"tools": {"url": tool_server}}
    environment = {f"WARMPOOL_{group}__{name}".upper(): str(v) for group in groups for name, v in groups[group].items()}

    @contextlib.asynccontextmanager
    async def launched(**process: Any) -> AsyncIterator[GatewayProcess]:
        with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:  # the process's alone, once it has begun
            descriptor = listener.fileno()
            command = [sys.executable, "-m", "warmpool_gateway", "--fd", str(descriptor)]
            started = await asyncio.create_subprocess_exec(
                *command, env=environment, pass_fds=[descriptor], stdin=subprocess.DEVNULL, **process
            )
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with aiohttp.ClientSession(url) as http:
            gateway = GatewayProcess(started, http, Registry(link, POOL))
            yield gateway
            await gateway.end()

    return launched


@pytest.fixture
async def gateway(launch: Launch, database: str) -> AsyncIterator[GatewayProcess]:
    """A process of its own, which knows its caller."""
    async with launch() as gateway:
        await gateway.make_key(database)
        yield gateway

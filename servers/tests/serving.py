"""A tool server on a loopback port, in the test's own event loop, so that a blocking call in it fails the test."""

import asyncio
import io
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn

from servers.server import create_app
from warmpool.grants import Grant, sign
from warmpool.settings import PostgresSettings, RedisSettings, SecretSettings, Settings, ToolSettings

KEY = b"grant-key-of-the-tests-32-bytes!!"
DEADLINE_SECONDS = 20


def grant(**changes: Any) -> Grant:
    whole = Grant(
        tenant="acme",
        execution="e1",
        tools=("search.*",),
        expires_at=time.time() + 60,
        max_calls=100,
        max_bytes=1_000_000,
    )
    return replace(whole, **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: Any

    @property
    def error(self) -> dict[str, Any]:
        return dict(self.body["error"])


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolClient:
    session: aiohttp.ClientSession
    url: str

    async def get(self, path: str) -> Answer:
        async with self.session.get(self.url + path) as response:
            return await self._answer(response)

    async def call(self, tool: str, arguments: Any = None, grant: Grant | None = None, key: bytes = KEY) -> Answer:
        token = sign(grant, key) if grant else ""
        return await self.post(tool, arguments, {"Authorization": f"Bearer {token}"} if grant else {})

    async def post(self, tool: str, body: Any, headers: dict[str, str]) -> Answer:
        sent = {"data": io.BytesIO(body)} if isinstance(body, bytes) else {"json": body or {}}
        async with self.session.post(f"{self.url}/v1/tools/{tool}", headers=headers, **sent) as response:
            return await self._answer(response)

    async def _answer(self, response: aiohttp.ClientResponse) -> Answer:
        as_json = response.content_type == "application/json"
        body = await response.json() if as_json else await response.text()
        return Answer(status=response.status, headers=dict(response.headers), body=body)


def settings(redis_url: str, dsn: str, folder: Path, **tools: Any) -> Settings:
    (folder / "grant.key").write_bytes(KEY)
    return Settings(
        redis=RedisSettings(url=redis_url, timeout_seconds=1),
        postgres=PostgresSettings(dsn=dsn, timeout_seconds=1),
        secrets=SecretSettings(path=folder),
        tools=ToolSettings(**tools),
    )


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[ToolClient]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        app = await asyncio.to_thread(create_app, settings)  # reads the key's file
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await until(lambda: _true(server.started or task.done()))
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE_SECONDS)) as session:
                yield ToolClient(session=session, url=f"http://127.0.0.1:{listener.getsockname()[1]}")
        finally:
            server.should_exit = True
            await task


async def _true(value: bool) -> bool:
    return value


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Looks again and again until it is so."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not await condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.01)

"""A caller of the HTTP API, who takes the time of each answer."""

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from io import BytesIO
from textwrap import dedent
from typing import Any, Final, TypeAlias

import aiohttp

PROBLEM: Final = "application/problem+json"
SLACK_SECONDS: Final = 1.0
"""How much later than its deadline an answer may come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    media_type: str
    retry_after: str | None
    body: Any
    seconds: float

    @property
    def problem(self) -> str:
        """The last word of a problem document's type."""
        assert self.media_type == PROBLEM, self
        assert self.body["status"] == self.status
        return str(self.body["type"]).rpartition(":")[2]


class Caller:
    """One API key's owner."""

    def __init__(self, session: aiohttp.ClientSession, key: str, tenant: str = "") -> None:
        self.tenant = tenant
        self._session = session
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    @property
    def key_id(self) -> str:
        return self._headers["Authorization"].split("_")[1]

    async def is_known(self) -> bool:
        """Whether the gateway takes the key."""
        return (await self.get("/v1/executions", limit=1)).status == 200

    async def ask(self, method: str, path: str, **how: Any) -> Answer:
        began = time.monotonic()
        async with self._session.request(method, path, headers=self._headers, **how) as response:
            return Answer(
                status=response.status,
                media_type=response.content_type,
                retry_after=response.headers.get("Retry-After"),
                body=await response.json(content_type=None),
                seconds=time.monotonic() - began,
            )

    async def get(self, path: str, **query: Any) -> Answer:
        return await self.ask("GET", path, params=query)

    async def post(self, path: str, body: Any) -> Answer:
        return await self.send(json.dumps(body).encode(), path)

    async def send(self, body: bytes, path: str = "/v1/executions") -> Answer:
        """These very bytes."""
        return await self.ask("POST", path, data=BytesIO(body))  # of a file, as aiohttp warns of many bytes at once

    async def run(self, code: str, *, seconds: float = 5.0, **more: Any) -> dict[str, Any]:
        """Runs a program that may take `seconds`: how it ended, which must be known a second after that at most."""
        answer = await self.post("/v1/executions", {"code": dedent(code), "timeout_seconds": seconds, **more})
        assert answer.status == 200, answer
        assert answer.seconds < seconds + SLACK_SECONDS, answer
        execution: dict[str, Any] = answer.body
        return execution


NewTenant: TypeAlias = Callable[[], Awaitable[Caller]]
"""A caller of a tenant that nobody else uses."""

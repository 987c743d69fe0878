"""Calls the tool server on behalf of a program, with a grant that the program never sees.

A call that was sent is never repeated: it may have written something. Every way in which it can fail is a ToolFailed
that the program gets as an exception.
"""

import asyncio
import logging
import re
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakValueDictionary

import aiohttp
import orjson

from warmpool import http_service
from warmpool.errors import ToolFailed
from warmpool.settings import ToolSettings
from warmpool_gateway.encoding import json_bytes

MAX_RESPONSE_BYTES: Final = 1024 * 1024  # half of a frame
MAX_ARGUMENT_BYTES: Final = 1024 * 1024
CONNECT_SECONDS: Final = 2.0
RECONNECT_SECONDS: Final = 2.0
"""For which a call tries to connect again: a tool server is restarted, or the network has not let a new gateway through
yet. Only the first call does: where the server is known to be away, programs are told at once."""
RECONNECT_PAUSE_SECONDS: Final = 0.1
KEEP_ALIVE_SECONDS: Final = http_service.KEEP_ALIVE_SECONDS - 15
"""Less than the tool server's: a call on a connection that it has closed is lost. Long all the same: the network may
let a gateway that ends make no new connections, and it still serves those who came before."""
CONNECTIONS: Final = 256  # of a gateway, a call each: what one process of the tool server should have before it
CONNECTIONS_OF_A_TENANT: Final = 64
"""Eight programs' worth, at the eight calls that a sandbox may have open. A tenant's further calls wait their turn
within their own timeout; three such tenants still leave room for a fourth."""
HEALTH_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}(\.[a-z][a-z0-9_]{0,63}){1,4}")
_VALUE: Final = b'{"value":'


@dataclass(frozen=True, slots=True)
class ToolValue:
    """What a tool returned, as JSON, and what the call weighed."""

    json: bytes
    request_bytes: int
    response_bytes: int


class ToolServer:
    """The tool server, over connections that are kept. Make it inside the running loop."""

    def __init__(self, settings: ToolSettings) -> None:
        self.reached = False
        """Whether it has ever answered when it was asked for its health, whatever it said."""
        self._timeout = settings.timeout_seconds
        self._session = aiohttp.ClientSession(
            base_url=settings.url.rstrip("/") + "/",
            connector=aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=KEEP_ALIVE_SECONDS),
            timeout=aiohttp.ClientTimeout(total=settings.timeout_seconds, sock_connect=CONNECT_SECONDS),
            raise_for_status=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._away = False
        self._tenants: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def call(self, tenant: str, tool: str, arguments: dict[str, Any], grant: str) -> ToolValue:
        """Raises ToolFailed."""
        if not _NAME.fullmatch(tool):  # it becomes a path, and the program chose it
            raise ToolFailed(f"There is no tool {tool[:200]!r}.", code="unknown_tool")
        body = json_bytes(arguments)
        if len(body) > MAX_ARGUMENT_BYTES:
            message = f"Arguments of {len(body)} bytes are over the {MAX_ARGUMENT_BYTES} allowed."
            raise ToolFailed(message, code="arguments_too_large", tool=tool)
        headers = {"Authorization": f"Bearer {grant}", "Content-Type": "application/json"}
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._turn(tenant),
                await self._post(tool, body, headers) as response,
            ):
                self._away = False
                answer = await self._read(response, tool)
                status = response.status
        except TimeoutError as fault:
            raise ToolFailed(f"{tool} did not answer within {self._timeout:g} s.", code="timeout", tool=tool) from fault
        except aiohttp.ClientError as fault:
            self._lost(fault)
            raise ToolFailed("The tool server is away.", code="unavailable", tool=tool) from fault
        if status != 200:
            raise _failure(tool, status, answer)
        return ToolValue(_value(tool, answer), len(body), len(answer))

    async def _post(self, tool: str, body: bytes, headers: dict[str, str]) -> aiohttp.ClientResponse:
        loop = asyncio.get_running_loop()
        until = loop.time() + min(RECONNECT_SECONDS, self._timeout / 2)
        while True:
            try:
                return await self._session.post(f"v1/tools/{tool}", data=body, headers=headers)
            except aiohttp.ClientConnectorError:  # nothing was sent
                if self._away or loop.time() > until:
                    raise
            await asyncio.sleep(RECONNECT_PAUSE_SECONDS)

    async def healthy(self) -> bool:
        """Whether it says that it is ready."""
        timeout = aiohttp.ClientTimeout(total=HEALTH_SECONDS)
        try:
            async with self._session.get("readyz", timeout=timeout) as response:
                self.reached = True
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def aclose(self) -> None:
        await self._session.close()
        await asyncio.sleep(0)  # the transports close in the loop's next turn

    def _lost(self, fault: aiohttp.ClientError) -> None:
        """Its address is for the log and not for the program, and for that once: a program may call in a loop."""
        if not self._away:
            logger.warning("the tool server is away: %s", fault)
        self._away = True

    def _turn(self, tenant: str) -> asyncio.Semaphore:
        """The tenant's, which is known for as long as any of its calls holds it."""
        turn = self._tenants.get(tenant)
        if turn is None:
            turn = self._tenants[tenant] = asyncio.Semaphore(CONNECTIONS_OF_A_TENANT)
        return turn

    async def _read(self, response: aiohttp.ClientResponse, tool: str) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > MAX_RESPONSE_BYTES:
                response.close()
                message = f"The result of {tool} is over {MAX_RESPONSE_BYTES} bytes; ask for less."
                raise ToolFailed(message, code="result_too_large", tool=tool)
            parts.append(part)
        return b"".join(parts)


def _value(tool: str, answer: bytes) -> bytes:
    """The value's JSON, cut out as it is: parsing and writing it again could change its numbers."""
    text = answer.strip()
    value = text[len(_VALUE) : -1]
    try:
        if not text.startswith(_VALUE):
            raise ValueError("no value")
        orjson.loads(value)
    except ValueError as fault:
        raise ToolFailed(f"The answer of {tool} is not of its form.", code="malformed_answer", tool=tool) from fault
    return value


def _failure(tool: str, status: int, answer: bytes) -> ToolFailed:
    """What the tool server said, where it said it in its form."""
    try:
        error = orjson.loads(answer)["error"]
        failure = ToolFailed(str(error["message"]), code=str(error["code"]))
        failure.fields = dict(error.get("fields") or {})
    except (ValueError, LookupError, TypeError):
        return ToolFailed(f"The tool server answered {status}.", code="tool_server", tool=tool, status=status)
    return failure

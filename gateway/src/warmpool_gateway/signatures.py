"""The tools' signature lines for the prompt, from the tool server and kept for a while.

While the tool server is away the last known lines stay: its tools change with a release, not by the minute.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import Final

import aiohttp

from warmpool.errors import Unavailable
from warmpool.settings import ToolSettings
from warmpool.tools import ToolDefinition, signature_lines

FRESH_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 5.0
"""After a failure; until then the old lines are used without a look."""
LISTING_SECONDS: Final = 2.0
MAX_LISTING_BYTES: Final = 4 * 1024 * 1024
"""Some 2,000 tools with their schemas."""

logger = logging.getLogger(__name__)


class ToolSignatures:
    """Make it inside the running loop."""

    def __init__(self, settings: ToolSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = settings.url.rstrip("/") + "/v1/tools"
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=LISTING_SECONDS), cookie_jar=aiohttp.DummyCookieJar()
        )
        self._clock = clock
        self._lines: str | None = None
        self._next_look = 0.0
        self._looking = asyncio.Lock()

    async def signatures(self) -> str:
        """Raises Unavailable where they have never been had."""
        if self._clock() >= self._next_look:
            async with self._looking:
                if self._clock() >= self._next_look:
                    await self._look()
        if self._lines is None:
            raise Unavailable("The tool server is away, and with it the tools.", retry_after=RETRY_SECONDS)
        return self._lines

    async def aclose(self) -> None:
        await self._session.close()
        await asyncio.sleep(0)  # the transports close in the loop's next turn

    async def _look(self) -> None:
        try:
            self._lines = signature_lines(await self._listed(), "signatures")
            self._next_look = self._clock() + FRESH_SECONDS
        except (aiohttp.ClientError, TimeoutError, ValueError, LookupError, TypeError) as fault:
            logger.warning("tools not listed", extra={"fault": str(fault)})
            self._next_look = self._clock() + RETRY_SECONDS

    async def _listed(self) -> list[ToolDefinition]:
        async with self._session.get(self._url) as response:
            response.raise_for_status()
            body = bytearray()
            async for part in response.content.iter_any():
                body += part
                if len(body) > MAX_LISTING_BYTES:
                    raise ValueError(f"the list of tools is over {MAX_LISTING_BYTES} bytes")
        return [ToolDefinition.from_json(tool) for tool in json.loads(body)["tools"]]

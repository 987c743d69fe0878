"""The prompt's tools, from a real HTTP server that comes and goes."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from servers.search import TOOLS
from warmpool.errors import Unavailable
from warmpool.settings import ToolSettings
from warmpool_gateway import signatures
from warmpool_gateway.signatures import ToolSignatures

LISTING = {"hash": "x", "tools": [tool.definition.to_json() for tool in TOOLS]}


class Listing:
    def __init__(self) -> None:
        self.say: Any = LISTING
        self.asked = 0
        self.now = 1000.0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        await asyncio.sleep(0)
        return web.json_response(self.say) if self.say else web.Response(status=503)


@pytest.fixture
def listing() -> Listing:
    return Listing()


@pytest.fixture
async def tools(listing: Listing) -> AsyncIterator[ToolSignatures]:
    app = web.Application()
    app.router.add_get("/v1/tools", listing.handle)
    async with TestServer(app) as server:
        made = ToolSignatures(ToolSettings(url=str(server.make_url(""))), clock=lambda: listing.now)
        yield made
        await made.aclose()


async def test_signatures_come_from_the_tool_server_once_for_all(tools: ToolSignatures, listing: Listing) -> None:
    texts = await asyncio.gather(*(tools.signatures() for _ in range(20)))
    assert set(texts) == {await tools.signatures()}
    assert "search_products(query: str" in texts[0]
    assert listing.asked == 1


async def test_they_are_looked_at_again_after_a_while(tools: ToolSignatures, listing: Listing) -> None:
    await tools.signatures()
    listing.say = {"tools": []}
    listing.now += signatures.FRESH_SECONDS - 1
    assert await tools.signatures() != ""
    listing.now += 1
    assert await tools.signatures() == ""


@pytest.mark.parametrize("say", [None, [], {}, {"tools": [1]}, {"tools": [{"name": "x"}]}, {"tools": "x"}])
async def test_the_last_known_stay_while_the_tool_server_is_away(
    tools: ToolSignatures, listing: Listing, say: Any, caplog: pytest.LogCaptureFixture
) -> None:
    known = await tools.signatures()
    listing.say = say
    listing.now += signatures.FRESH_SECONDS
    with caplog.at_level(logging.WARNING):
        assert [await tools.signatures() for _ in range(3)] == [known] * 3
    assert listing.asked == 2
    assert "tools not listed" in caplog.text
    listing.say, listing.now = LISTING, listing.now + signatures.RETRY_SECONDS
    assert await tools.signatures() == known
    assert listing.asked == 3


async def test_without_any_there_is_nothing_to_ask_with(tools: ToolSignatures, listing: Listing) -> None:
    listing.say = None
    for _ in range(3):
        with pytest.raises(Unavailable, match="tool server is away"):
            await tools.signatures()
    assert listing.asked == 1


async def test_a_list_without_an_end_is_refused(
    tools: ToolSignatures, listing: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signatures, "MAX_LISTING_BYTES", 100)
    with pytest.raises(Unavailable):
        await tools.signatures()

"""Questions through the whole service: stand-in, gateway, sandbox, tool server and an imported catalogue.

What the answers should be is computed from Postgres, past everything that is tested.
"""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import aiohttp
import psycopg
import pytest

from warmpool.local import stack

LAMPS = """
SELECT title, price_minor, stock, in_stock FROM products
WHERE (' ' || title || ' ' || array_to_string(categories, ' ')) ILIKE '%% lamp%%' AND visible
"""


@pytest.fixture
def no_blocking_calls() -> None:
    """The single-machine mode starts servers in this loop and waits for them; the services run in processes."""


@pytest.fixture
async def running() -> AsyncIterator[stack.Stack]:
    async with stack.running(stack.Plan(pods=2, products=150, seed=7)) as running:
        yield running


async def ask(running: stack.Stack, message: str) -> Any:
    headers = {"Authorization": f"Bearer {running.api_key}"}
    async with (
        aiohttp.ClientSession(running.url, headers=headers) as session,
        session.post("/v1/chat", json={"message": message}) as response,
    ):
        assert response.status == 200
        return await response.json()


async def test_answers_are_those_of_the_catalogue(running: stack.Stack) -> None:
    async with await psycopg.AsyncConnection.connect(running.settings.postgres.dsn) as connection:
        lamps = await (await connection.execute(LAMPS)).fetchall()
    count = sum(in_stock for *_, in_stock in lamps)
    assert count > 0

    counted = await ask(running, "How many lamps are in stock?")
    assert counted["execution"]["result"] == {"found": count, "complete": True}
    assert counted["answer"].startswith(f"I found {count} lamps in stock.")
    assert counted["usage"]["total"] < 2000

    cheapest = await ask(running, "Which is the cheapest lamp?")
    prices = [price for _, price, *_ in lamps if price is not None]
    assert Decimal(cheapest["execution"]["result"]["products"][0]["price"].split()[0]) * 100 == min(prices)

    repaired = await ask(running, "What is our stock of lamps worth?")
    worth = sum(price * stock for _, price, stock, _ in lamps if price is not None and stock is not None)
    assert [turn["status"] for turn in repaired["turns"]] == ["user_error", "ok", None]
    assert repaired["execution"]["result"]["worth"] == f"{Decimal(worth) / 100:.2f} EUR"
    assert repaired["usage"]["total"] <= 2000

    refused = await ask(running, "Tell me about SKU NO-SUCH-1")
    assert [turn["status"] for turn in refused["turns"]] == ["user_error", "ok", None]
    assert refused["answer"].startswith("I could not work that out; a plain search for NO-SUCH-1 finds")

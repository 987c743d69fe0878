"""A question asked over HTTP is answered from the tenant's own catalogue, by a program that ran in a sandbox."""

import asyncio
import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from harness.caller import Caller, NewTenant
from harness.running import RunningStack
from harness.waiting import until
from harness.wholeness import is_running

from servers.catalogue.importer import import_catalogue
from servers.embedding import embedder
from warmpool.local.stack import TENANT

CHEAPEST = "What is the cheapest lamp in stock?"


def lamp(id: str, title: str, price: str, stock: int = 5) -> dict[str, Any]:
    return {"id": id, "title": title, "categories": ["Home > Lamps"], "price": price, "stock": stock}


NORTH = [
    lamp("a", "Aurora Desk Lamp", "59.00"),
    lamp("b", "Birch Floor Lamp", "24.50"),
    lamp("c", "Candle Table Lamp", "9.90", stock=0),
]
SOUTH = [lamp("d", "Dune Reading Lamp", "31.00"), lamp("e", "Echo Wall Lamp", "47.25")]


async def fill(running: RunningStack, tenant: str, products: list[dict[str, Any]], folder: Path) -> None:
    file = folder / f"{tenant}.jsonl"
    file.write_text("\n".join(map(json.dumps, products)))
    settings = running.parts.settings
    await asyncio.to_thread(
        import_catalogue,
        file,
        format="jsonl",
        tenant=tenant,
        dsn=settings.postgres.dsn,
        embedder=embedder(settings.embedding),
    )


async def ask(caller: Caller, question: str) -> dict[str, Any]:
    answer = await caller.post("/v1/chat", {"message": question})
    assert answer.status == 200, answer
    chat: dict[str, Any] = answer.body
    return chat


async def test_a_question_is_answered_from_the_catalogue_by_a_program(caller: Caller, running: RunningStack):
    chat = await ask(caller, CHEAPEST)
    title, minor = await cheapest_lamp(running)
    assert chat["outcome"] == "answered"
    assert title in chat["answer"]
    assert f"{minor // 100}.{minor % 100:02}" in chat["answer"]
    assert [turn["kind"] for turn in chat["turns"]] == ["program", "answer"]
    assert "search_products" in chat["execution"]["program"]
    assert chat["usage"]["total"] == chat["usage"]["prompt"] + chat["usage"]["completion"] > 0


async def cheapest_lamp(running: RunningStack) -> tuple[str, int]:
    """By a query of its own."""
    query = """
        SELECT title, price_minor FROM products
        WHERE tenant = %s AND in_stock AND visible AND price_minor IS NOT NULL
            AND (title ~* '\\mlamp' OR categories::text ~* '\\mlamp')
        ORDER BY price_minor, id LIMIT 1
    """
    async with await psycopg.AsyncConnection.connect(running.parts.settings.postgres.dsn) as connection:
        row = await (await connection.execute(query, [TENANT])).fetchone()
    assert row is not None
    return row


async def test_the_program_of_an_answer_is_an_execution_on_record(caller: Caller):
    execution = (await ask(caller, CHEAPEST))["execution"]
    recorded = await caller.get(f"/v1/executions/{execution['id']}")
    assert (recorded.status, recorded.body["status"]) == (200, "ok")
    assert recorded.body["result"] == execution["result"]
    assert recorded.body["code"].strip() == execution["program"].strip()
    assert [call["tool"] for call in recorded.body["tool_calls"]] == ["search.search_products"]


async def test_another_catalogue_gives_another_answer(new_tenant: NewTenant, running: RunningStack, tmp_path: Path):
    north, south = await new_tenant(), await new_tenant()
    await fill(running, north.tenant, NORTH, tmp_path)
    await fill(running, south.tenant, SOUTH, tmp_path)
    of_north, of_south = await ask(north, CHEAPEST), await ask(south, CHEAPEST)
    assert "Birch Floor Lamp" in of_north["answer"]
    assert "24.50" in of_north["answer"]
    assert "Candle" not in of_north["answer"]
    assert "Dune Reading Lamp" in of_south["answer"]
    assert "31.00" in of_south["answer"]


async def test_a_changed_catalogue_changes_the_answer(new_tenant: NewTenant, running: RunningStack, tmp_path: Path):
    shop = await new_tenant()
    await fill(running, shop.tenant, NORTH, tmp_path)
    assert "Birch Floor Lamp" in (await ask(shop, CHEAPEST))["answer"]
    await fill(running, shop.tenant, [*NORTH, lamp("f", "Fern Clip Lamp", "12.00")], tmp_path)
    answer = (await ask(shop, CHEAPEST))["answer"]
    assert "Fern Clip Lamp" in answer
    assert "12.00" in answer


async def test_a_shop_without_a_catalogue_has_nothing_to_answer_from(new_tenant: NewTenant):
    chat = await ask(await new_tenant(), CHEAPEST)
    assert "lamp" in chat["answer"].lower()
    assert "EUR" not in chat["answer"]


@pytest.mark.parametrize("body", [{}, {"message": ""}, {"message": 7}, {"message": "hi", "model": "x"}])
async def test_a_chat_that_is_not_of_its_form_is_refused(caller: Caller, body: dict[str, Any]):
    answer = await caller.post("/v1/chat", body)
    assert (answer.status, answer.problem) == (422, "invalid_request")


async def test_many_chats_at_once_are_all_answered(caller: Caller):
    chats = await asyncio.gather(*(ask(caller, CHEAPEST) for _ in range(12)))
    assert len({chat["answer"] for chat in chats}) == 1


async def test_a_client_that_hangs_up_during_a_chat_leaves_nothing_running(caller: Caller, running: RunningStack):
    for pause in (0.0, 0.01, 0.03, 0.06, 0.1):
        asking = asyncio.create_task(ask(caller, CHEAPEST))
        await asyncio.sleep(pause)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    await until(lambda: not is_running(running), 3)

"""Tools that fail, and a tool server that does: the program gets an exception with fields, and can go on."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from harness.caller import Caller
from harness.running import RunningStack
from harness.waiting import until
from harness.wholeness import is_running

from warmpool.local.service import Service

CATCH = """
from servers.search import {tool}
from servers import ToolError
try:
    {call}
except ToolError as fault:
    return {{"code": fault.code, "message": str(fault), "fields": fault.fields}}
return "no error"
"""

SEARCH = "from servers.search import search_products\nreturn len(search_products('lamp', limit=3))"


async def caught(caller: Caller, call: str, **more: Any) -> dict[str, Any]:
    """What a program saw of the failure that it caught."""
    code = CATCH.format(tool=call.partition("(")[0], call=call)
    ran = await caller.run(code, **more)
    assert ran["status"] == "ok", ran
    error: dict[str, Any] = ran["result"]
    return error


async def test_an_unknown_product_raises_with_its_fields(caller: Caller):
    error = await caught(caller, "get_product_details('no-such-thing')")
    assert (error["code"], error["fields"]) == ("not_found", {"product_id": "no-such-thing"})
    assert "search_products" in error["message"]


@pytest.mark.parametrize(
    ("call", "named"),
    [
        ("search_products('lamp', limit=0)", "limit"),
        ("search_products(7)", "query"),
        ("search_products('a\\0b')", "query"),
    ],
)
async def test_a_bad_argument_raises_and_names_the_argument(caller: Caller, call: str, named: str):
    error = await caught(caller, call)
    assert error["code"] == "invalid_arguments"
    assert named in error["message"]


async def test_a_failure_that_nobody_catches_is_the_users_and_keeps_its_fields(caller: Caller):
    ran = await caller.run("from servers.search import get_product_details\nreturn get_product_details('nothing')")
    assert (ran["status"], ran["error"]["type"], ran["error"]["line"]) == ("user_error", "ToolError", 2)
    assert ran["error"]["fields"] == {"code": "not_found", "product_id": "nothing"}
    assert [call["error"] for call in ran["tool_calls"]] == ["not_found"]


async def test_a_tool_that_is_not_granted_raises(caller: Caller):
    error = await caught(caller, "search_products('lamp')", grants=["search.get_product_details"])
    assert error["code"] == "forbidden"


async def test_a_tool_that_does_not_exist_raises(caller: Caller):
    ran = await caller.run("import servers.search\nreturn servers.search._call('search.buy_everything', {})")
    assert (ran["status"], ran["error"]["fields"]["code"]) == ("user_error", "unknown_tool"), ran


async def test_a_call_budget_that_is_used_up_raises_and_the_program_goes_on(caller: Caller):
    code = """
        from servers.search import search_products
        done = 0
        try:
            while True:
                search_products("lamp", limit=1)
                done += 1
        except Exception as fault:
            return [done, fault.code]
    """
    ran = await caller.run(code, seconds=10, limits={"tool_calls": 5})
    assert ran["result"] == [5, "too_many_calls"], ran


@pytest.fixture
async def stopped_tools(caller: Caller, running: RunningStack) -> AsyncIterator[int]:
    """The process of a tool server that answers nothing; another serves when the test is over."""
    tools = running.parts.tools
    os.kill(tools.pid, signal.SIGSTOP)
    yield tools.pid
    with suppress(ProcessLookupError):
        os.kill(tools.pid, signal.SIGKILL)
    await running.do(_start_again(tools))
    assert (await caller.run(SEARCH))["result"] == 3


async def _start_again(service: Service) -> None:
    await service.ended()
    await service.start()
    await service.ready()


async def test_the_tool_server_killed_during_a_call_raises(caller: Caller, running: RunningStack, stopped_tools: int):
    call = asyncio.create_task(caught(caller, "search_products('lamp')"))
    await until(lambda: is_running(running), 5)
    os.kill(stopped_tools, signal.SIGKILL)
    assert (await call)["code"] in ("unavailable", "timeout")


@pytest.mark.usefixtures("stopped_tools")
async def test_a_tool_server_that_hangs_raises_after_its_timeout_and_the_gateway_runs_on(caller: Caller):
    error, other = await asyncio.gather(caught(caller, "search_products('lamp')"), caller.run("return 1"))
    assert (error["code"], other["result"]) == ("timeout", 1)

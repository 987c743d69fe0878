"""What a caller may count on: hanging up ends the program, records are found, and nobody sees another's."""

import asyncio
import time
from typing import Any

import aiohttp
import pytest
from harness.caller import Caller, NewTenant
from harness.keys import end_key, new_key
from harness.running import RunningStack
from harness.waiting import until
from harness.wholeness import is_running

from warmpool.registry import Registry

SLEEP = "import time\ntime.sleep(30)"


async def hang_up_mid_run(caller: Caller, running: RunningStack, code: str) -> None:
    """Sends a program and closes the connection once it runs."""
    asking = asyncio.create_task(caller.post("/v1/executions", {"code": code}))
    await until(lambda: is_running(running), 5, "the program runs")
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


async def record_of(caller: Caller, code: str) -> dict[str, Any]:
    """The record of an execution whose answer nobody got, once it is there."""

    async def newest() -> dict[str, Any] | None:
        page = await caller.get("/v1/executions", limit=20)
        for summary in page.body["executions"]:
            recorded: dict[str, Any] = (await caller.get(f"/v1/executions/{summary['id']}")).body
            if recorded["code"] == code:
                return recorded
        return None

    found = await until(newest, 5, "the record")
    assert found is not None
    return found


async def test_a_client_that_hangs_up_ends_its_program(caller: Caller, running: RunningStack, registry: Registry):
    code = f"{SLEEP}\nreturn {time.time_ns()}"
    await hang_up_mid_run(caller, running, code)
    hung_up = time.monotonic()

    async def is_idle() -> bool:
        return not is_running(running) and (await registry.counts()).idle == running.pods

    await until(is_idle, 2, "the pod is idle again")
    assert time.monotonic() - hung_up < 2
    recorded = await record_of(caller, code)
    assert (recorded["status"], recorded["result"]) == ("cancelled", None)
    assert recorded["usage"]["wall_seconds"] < 10


async def test_a_client_that_hangs_up_during_a_tool_call_ends_its_program(caller: Caller, running: RunningStack):
    code = f"from servers.search import search_products\nwhile True:\n    search_products('lamp')\n# {time.time_ns()}"
    await hang_up_mid_run(caller, running, code)
    await until(lambda: not is_running(running), 2)
    assert (await record_of(caller, code))["status"] == "cancelled"


async def test_a_client_that_hangs_up_in_the_queue_takes_no_pod(caller: Caller, running: RunningStack):
    """Its place in the line is all it had: the others get their turn as if it had never been there."""
    busy = [asyncio.create_task(caller.run("import time\ntime.sleep(0.7)\nreturn 1")) for _ in range(running.pods)]
    await until(lambda: is_running(running), 5)
    gone = [asyncio.create_task(caller.post("/v1/executions", {"code": SLEEP})) for _ in range(10)]
    await asyncio.sleep(0.1)  # for them to be in the line; in a pod already they would be ended as well
    for task in gone:
        task.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    assert (await caller.run("return 2"))["result"] == 2
    assert [ran["result"] for ran in await asyncio.gather(*busy)] == [1] * running.pods


async def test_many_clients_that_hang_up_at_once_leave_the_pool_whole(caller: Caller, running: RunningStack):
    for pause in (0.0, 0.005, 0.02, 0.05):
        asking = [asyncio.create_task(caller.post("/v1/executions", {"code": SLEEP})) for _ in range(20)]
        await asyncio.sleep(pause)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    await until(lambda: not is_running(running), 3)


async def test_an_execution_is_found_right_after_its_answer(caller: Caller):
    for number in range(5):
        ran = await caller.run(f"print('hello')\nreturn {number}")
        recorded = await caller.get(f"/v1/executions/{ran['id']}")
        assert recorded.status == 200
        assert {name: recorded.body[name] for name in ran} == ran
        assert recorded.body["code"] == f"print('hello')\nreturn {number}"
        assert recorded.seconds < 2.5


async def test_an_execution_that_never_was_is_not_found(caller: Caller):
    answer = await caller.get("/v1/executions/exe_" + "0" * 32)
    assert (answer.status, answer.problem) == (404, "not_found")


async def pages(caller: Caller, **query: Any) -> list[str]:
    """The ids of every page, from the newest on."""
    ids: list[str] = []
    while True:
        page = (await caller.get("/v1/executions", **query)).body
        ids += [execution["id"] for execution in page["executions"]]
        if page["next_cursor"] is None:
            return ids
        query["cursor"] = page["next_cursor"]


async def test_pages_show_each_execution_once_while_more_arrive(new_tenant: NewTenant):
    caller = await new_tenant()
    ran = await asyncio.gather(*(caller.run(f"return {number}") for number in range(45)))
    ids = sorted((execution["id"] for execution in ran), reverse=True)
    await until_all_are_recorded(caller, len(ids))
    first = (await caller.get("/v1/executions", limit=7)).body
    await caller.run("return 'late'")
    rest = await pages(caller, limit=7, cursor=first["next_cursor"])
    assert [execution["id"] for execution in first["executions"]] + rest == ids


async def test_pages_can_be_narrowed_to_a_status(new_tenant: NewTenant):
    caller = await new_tenant()
    for number in range(6):
        await caller.run("return 1" if number % 2 else "raise ValueError")
    await until_all_are_recorded(caller, 6)
    assert len(await pages(caller, limit=2, status="user_error")) == 3
    assert len(await pages(caller, limit=2, status="timeout")) == 0


async def until_all_are_recorded(caller: Caller, number: int) -> None:
    async def count() -> bool:
        return len(await pages(caller, limit=200)) >= number

    await until(count, 5, f"{number} records")


@pytest.mark.parametrize("query", [{"cursor": "x"}, {"limit": 0}, {"limit": 201}, {"status": "fine"}, {"page": 2}])
async def test_a_page_that_cannot_be_is_refused(caller: Caller, query: dict[str, Any]):
    answer = await caller.get("/v1/executions", **query)
    assert (answer.status, answer.problem) == (422, "invalid_request")


async def test_two_tenants_see_their_own_executions_only(new_tenant: NewTenant):
    ours, theirs = await new_tenant(), await new_tenant()
    mine = await ours.run("return 'mine'")
    yours = await theirs.run("return 'yours'")
    for caller, own, other in ((ours, mine, yours), (theirs, yours, mine)):
        assert (await caller.get(f"/v1/executions/{own['id']}")).status == 200
        assert (await caller.get(f"/v1/executions/{other['id']}")).problem == "not_found"
        listed = await pages(caller, limit=200)
        assert own["id"] in listed
        assert other["id"] not in listed


async def test_two_tenants_search_their_own_catalogue_only(caller: Caller, new_tenant: NewTenant):
    other = await new_tenant()
    code = "from servers.search import search_products\nreturn len(search_products('lamp'))"
    assert (await caller.run(code))["result"] > 0
    assert (await other.run(code))["result"] == 0


async def test_a_revoked_key_stops_working_and_another_of_its_tenant_goes_on(
    new_tenant: NewTenant, running: RunningStack, session: aiohttp.ClientSession
):
    revoked = await new_tenant()
    other = Caller(session, await new_key(running.parts.settings, revoked.tenant))
    await until(other.is_known, 4)
    await end_key(running.parts.settings, revoked.key_id)

    async def is_refused() -> bool:
        return (await revoked.get("/v1/executions")).status == 401

    await until(is_refused, 4, "the key is refused")
    answer = await revoked.post("/v1/executions", {"code": "return 1"})
    assert (answer.status, answer.problem) == (401, "unauthenticated")
    assert (await other.run("return 1"))["result"] == 1


@pytest.mark.parametrize("key", ["", "wp_000000000000_" + "0" * 48, "x" * 10_000, "wp_é"])
async def test_a_key_that_nobody_made_is_refused(caller: Caller, session: aiohttp.ClientSession, key: str):
    answer = await Caller(session, key).post("/v1/executions", {"code": "return 1"})
    assert (answer.status, answer.problem) == (401, "unauthenticated")

"""One execution through the whole gateway, over HTTP, and every way in which it may go wrong."""

import asyncio
import json

import jwt
import pytest

from warmpool.protocol import Message, ProgramError, Refusal, Status, Stream, Usage
from warmpool.registry import PodState
from warmpool_gateway.admission import ExecutionRequest

IDLE, RETIRING = PodState.IDLE, PodState.RETIRING


async def test_a_program_runs_and_its_pod_is_idle_again(house, pod):
    status, answer = await house.run("return 1", context={"a": [1]}, timeout_seconds=3)
    assert status == 200
    assert answer["status"] == "ok"
    assert answer["result"]["context"] == {"a": [1]}
    assert answer["result"]["limits"] == {"wall_seconds": 3.0}
    assert answer["id"].startswith("exe_")
    await house.until_states(pod_1=IDLE)


async def test_the_answer_has_all_that_the_sandbox_said(house, pod):
    stdout = Stream(head="begin", tail="end", total_bytes=1000, truncated=True)

    async def script(talk, message):
        error = ProgramError(type="ValueError", message="no", line=3, traceback="...", fields={"a": 1})
        talk.result(
            message["execution"],
            status=Status.USER_ERROR,
            stdout=stdout,
            stderr=Stream(head="\x00é"),
            error=error,
            usage=Usage(wall_seconds=0.5, cpu_seconds=0.25, memory_peak_bytes=10, scratch_bytes=20),
        )

    pod.script = script
    _, answer = await house.run()
    assert answer["status"] == "user_error"
    assert answer["stdout"] == stdout.text
    assert (answer["stderr"], answer["truncated"]) == ("\x00é", ["stdout"])
    assert (answer["error"]["type"], answer["error"]["line"], answer["error"]["fields"]) == ("ValueError", 3, {"a": 1})
    assert answer["usage"]["cpu_seconds"] == 0.25


@pytest.mark.parametrize("value", [10**40, -1.5e300, "é\x00\u2028", [[[[]]]], None, {"": {}}])
async def test_a_value_arrives_as_it_left(house, pod, value):
    async def script(talk, message):
        talk.result(message["execution"], value=value)

    pod.script = script
    _, answer = await house.run()
    assert answer["result"] == value


async def test_tool_calls_carry_a_grant_that_the_sandbox_never_sees(house, pod):
    async def script(talk, message):
        assert "grant" not in json.dumps(message)
        answer = await talk.call_tool("search.search_products", {"query": "red"})
        talk.result(message["execution"], value=answer["value"])

    pod.script = script
    _, answer = await house.run(grants=["search.*"])
    assert answer["result"] == [{"title": "Red shoe"}]
    assert [(call["tool"], call["error"]) for call in answer["tool_calls"]] == [("search.search_products", None)]
    (path, authorization, body) = house.tools.requests[0]
    assert (path, json.loads(body)) == ("/v1/tools/search.search_products", {"query": "red"})
    claims = jwt.decode(authorization.split()[1], b"g" * 32, ["HS256"], audience="warmpool-tools")
    assert (claims["tenant"], claims["execution"], claims["tools"]) == ("acme", answer["id"], ["search.*"])


async def test_a_failing_tool_is_an_error_in_the_program_and_in_the_list_of_calls(house, pod):
    async def script(talk, message):
        answers = [await talk.call_tool(tool, {}, id=n) for n, tool in enumerate(["../healthz", "search.x"])]
        talk.result(message["execution"], value=[answer["error"]["code"] for answer in answers])

    pod.script = script
    house.tools.say = {"value": 1, "other": 2}
    _, answer = await house.run()
    assert answer["result"] == ["unknown_tool", "malformed_answer"]
    calls = [(call["tool"], call["error"]) for call in answer["tool_calls"]]
    assert calls == [("unknown", "unknown_tool"), ("search.x", "malformed_answer")]


@pytest.mark.parametrize("changes", [{"tools": {"max_calls": 2}}])
async def test_an_execution_has_a_budget_of_tool_calls(house, pod):
    async def script(talk, message):
        answers = [await talk.call_tool("search.x", {}, id=n) for n in range(3)]
        talk.result(message["execution"], value=answers[2]["error"]["code"])

    pod.script = script
    _, answer = await house.run()
    assert (answer["result"], len(answer["tool_calls"])) == ("too_many_calls", 2)


async def test_a_dirty_pod_is_retired_and_its_stream_closed(house, pod):
    async def script(talk, message):
        talk.result(message["execution"], clean=False, residue=("a process",))

    pod.script = script
    _, answer = await house.run()
    assert answer["status"] == "ok"
    await house.until_states(pod_1=RETIRING)
    await asyncio.wait_for(pod.lost.wait(), 5)


async def test_a_pod_that_is_lost_during_a_run_is_a_platform_error_and_retired(house, pod):
    pod.script = pod.for_ever
    running = asyncio.create_task(house.run())
    await asyncio.wait_for(pod.running.wait(), 5)
    await pod.stop()
    status, answer = await asyncio.wait_for(running, 5)
    assert (status, answer["status"]) == (200, "platform_error")
    assert answer["error"]["type"] == "PlatformError"
    await house.until_states(pod_1=RETIRING)


async def test_a_pod_that_is_gone_is_passed_over(house):
    _, gone = await house.add_pod("pod-1"), await house.add_pod("pod-2")
    await gone.stop()
    _, answer = await house.run()
    assert answer["status"] == "ok"
    await house.until_states(pod_1=IDLE, pod_2=RETIRING)


@pytest.mark.parametrize("refusal", [Refusal.BUSY, Refusal.STALE_FENCE, Refusal.DRAINING])
async def test_a_pod_that_refuses_is_passed_over_and_retired(house, refusal):
    _, refusing = await house.add_pod("pod-1"), await house.add_pod("pod-2")
    refusing.refuse = refusal
    _, answer = await house.run()
    assert answer["status"] == "ok"
    await house.until_states(pod_1=IDLE, pod_2=RETIRING)


async def test_a_run_that_is_called_malformed_is_ours_and_the_pods_remain(house, pod):
    pod.refuse = Refusal.MALFORMED
    _, answer = await house.run()
    assert (answer["status"], answer["error"]["fields"]["reason"]) == ("platform_error", "malformed")
    await house.until_states(pod_1=IDLE)


async def test_a_caller_is_not_told_where_a_pod_is_and_the_log_is(house, pod, monkeypatch, caplog):
    monkeypatch.setattr("warmpool_gateway.executions.PODS_TRIED", 1)
    address = pod.address
    await pod.stop()
    status, answer = await house.run()
    assert (status, answer["reason"]) == (503, "unreachable")
    assert "127.0.0.1" not in str(answer)
    assert address in caplog.text


async def test_only_so_many_pods_are_tried_and_then_the_caller_may_try_again(house):
    """It is told so, for nothing ran."""
    for number in range(4):
        (await house.add_pod(f"pod-{number}")).refuse = Refusal.DRAINING
    status, problem = await house.run()
    assert (status, problem["type"]) == (503, "urn:warmpool:problem:unavailable")
    assert sorted((await house.states()).values()) == [IDLE, RETIRING, RETIRING, RETIRING]


async def test_a_client_that_hangs_up_cancels_its_program_and_the_record_says_so(house, pod):
    pod.script = pod.until_cancelled
    running = asyncio.create_task(house.run())
    await asyncio.wait_for(pod.running.wait(), 5)
    running.cancel()
    await asyncio.wait_for(pod.cancelled.wait(), 1)
    await house.until_states(pod_1=IDLE)
    (recorded,) = (await recorded_page(house, 1))["executions"]
    assert recorded["status"] == "cancelled"


async def recorded_page(house, number):
    async with asyncio.timeout(5):
        while True:
            _, page = await house.ask("GET", "/v1/executions")
            if len(page["executions"]) >= number:
                return page


async def test_a_client_that_hangs_up_while_it_waits_leaves_the_queue(house):
    running = asyncio.create_task(house.run())
    async with asyncio.timeout(5):
        while not house.gateway.queue.waiting:
            await asyncio.sleep(0.001)
    running.cancel()
    (recorded,) = (await recorded_page(house, 1))["executions"]
    assert recorded["status"] == "cancelled"
    assert house.gateway.queue.waiting == 0


async def test_a_client_that_hangs_up_on_a_pod_that_ignores_it_retires_the_pod(house, pod, monkeypatch):
    monkeypatch.setattr("warmpool_gateway.pod_stream.CANCEL_SECONDS", 0.05)
    pod.script = pod.for_ever
    running = asyncio.create_task(house.run())
    await asyncio.wait_for(pod.running.wait(), 5)
    running.cancel()
    await house.until_states(pod_1=RETIRING)
    (recorded,) = (await recorded_page(house, 1))["executions"]
    assert recorded["status"] == "cancelled"


@pytest.mark.parametrize("changes", [{"queue": {"max_wait_seconds": 0.05}}])
async def test_without_a_pod_the_caller_is_told_when_to_come_back(house):
    async with house.request("POST", "/v1/executions", json={"code": "1"}) as response:
        problem = await response.json()
    assert (response.status, problem["type"]) == (503, "urn:warmpool:problem:pool_exhausted")
    assert int(response.headers["Retry-After"]) >= problem["retry_after_seconds"] >= 1


@pytest.mark.parametrize("changes", [{"queue": {"max_waiting": 1}}])
async def test_a_full_queue_refuses_at_once(house):
    waiting = asyncio.create_task(house.run())
    async with asyncio.timeout(5):
        while not house.gateway.queue.waiting:
            await asyncio.sleep(0.001)
    status, problem = await house.run()
    assert (status, problem["type"], problem["waiting"]) == (503, "urn:warmpool:problem:pool_exhausted", 1)
    waiting.cancel()


@pytest.mark.parametrize("changes", [{"queue": {"tenant_quota": 2}}])
async def test_a_tenant_has_a_quota_of_its_own(house, pod):
    pod.script = pod.until_cancelled
    running = [asyncio.create_task(house.run()) for _ in range(2)]
    async with asyncio.timeout(5):
        while house.gateway.executor.in_flight < 2:
            await asyncio.sleep(0.001)
    async with house.request("POST", "/v1/executions", json={"code": "1"}) as response:
        problem = await response.json()
    assert (response.status, problem["quota"]) == (429, 2)
    assert "Retry-After" in response.headers
    other, _ = await house.new_key("other")
    await house.gateway.keys.refresh()
    third = asyncio.create_task(house.ask("POST", "/v1/executions", json={"code": "1"}, key=other))
    async with asyncio.timeout(5):
        while house.gateway.executor.in_flight < 3:
            await asyncio.sleep(0.001)
    for task in (*running, third):
        task.cancel()


async def test_redis_restarting_during_a_run_loses_neither_the_answer_nor_the_record(house, pod, redis_server):
    may_end = asyncio.Event()

    async def script(talk, message):
        await may_end.wait()
        talk.result(message["execution"], value=42)

    pod.script = script
    running = asyncio.create_task(house.run())
    await asyncio.wait_for(pod.running.wait(), 5)
    redis_server.stop()
    may_end.set()
    try:
        status, answer = await asyncio.wait_for(running, 5)
        assert (status, answer["result"]) == (200, 42)
    finally:
        redis_server.start()
    async with asyncio.timeout(10):
        while (await house.ask("GET", f"/v1/executions/{answer['id']}"))[0] != 200:
            await asyncio.sleep(0.01)


async def test_postgres_stopping_stops_no_execution_and_loses_no_record(house, pod, postgres_server):
    await house.run()
    postgres_server.stop()
    try:
        answers = [await house.run() for _ in range(3)]
        assert [status for status, _ in answers] == [200] * 3
        assert (await house.ask("GET", "/readyz"))[1]["status"] == "degraded"
        assert (await house.ask("GET", "/v1/executions"))[0] == 503
        assert (await house.ask("GET", f"/v1/executions/{answers[0][1]['id']}"))[0] == 503
    finally:
        postgres_server.start()
    async with asyncio.timeout(15):
        while True:
            status, page = await house.ask("GET", "/v1/executions")
            if status == 200 and len(page["executions"]) == 4:
                break
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("changes", [{"audit": {"max_backlog": 3}}])
async def test_a_full_audit_trail_refuses_new_executions(house, pod, postgres_server):
    await house.run()
    postgres_server.stop()
    try:
        statuses = []
        async with asyncio.timeout(10):
            while 503 not in statuses:
                status, problem = await house.run()
                statuses.append(status)
        assert problem["type"] == "urn:warmpool:problem:unavailable"
    finally:
        postgres_server.start()


async def test_many_at_once_all_end_and_every_pod_is_idle(house):
    for number in range(4):
        await house.add_pod(f"pod-{number}")
    answers = await asyncio.gather(*(house.run(f"return {number}") for number in range(200)))
    assert {(status, answer["status"]) for status, answer in answers} == {(200, "ok")}
    assert {answer["result"]["code"] for _, answer in answers} == {f"return {number}" for number in range(200)}
    assert set((await house.states()).values()) == {IDLE}
    assert all(pod.connections == 1 for pod in house.pods)


async def test_stopping_the_gateway_cancels_what_runs(house, pod):
    pod.script = pod.until_cancelled
    running = asyncio.create_task(house.run())
    await asyncio.wait_for(pod.running.wait(), 5)
    await house.gateway.executor.aclose()
    status, answer = await running
    assert (status, answer["status"]) == (200, "cancelled")
    status, problem = await house.run()
    assert (status, problem["detail"]) == (503, "The gateway is shutting down.")


async def test_a_request_that_the_server_ends_is_told_so_and_its_program_is_cancelled(house, pod):
    pod.script = pod.until_cancelled
    running = asyncio.create_task(house.run())
    await asyncio.wait_for(pod.running.wait(), 5)
    for task in asyncio.all_tasks():  # as uvicorn does when its patience at the end is over
        if "RequestResponseCycle.run_asgi" in repr(task.get_coro()):
            task.cancel()
    status, problem = await running
    assert (status, problem["detail"]) == (503, "The gateway is shutting down; it ended this request.")
    assert problem["execution"].startswith("exe_")
    await asyncio.wait_for(pod.cancelled.wait(), 5)


async def test_cancelling_a_run_in_python_cancels_the_program(house, pod):
    pod.script = pod.until_cancelled
    request = ExecutionRequest(tenant="acme", key_id="k", code="1")
    running = asyncio.create_task(house.gateway.executor.run(request))
    await asyncio.wait_for(pod.running.wait(), 5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.wait_for(pod.cancelled.wait(), 1)
    await house.until_states(pod_1=IDLE)


async def test_a_bug_in_the_gateway_is_a_platform_error_and_the_lease_ends(house, pod, monkeypatch, caplog):
    async def bug(*arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(house.gateway.pods, "run", bug)
    status, answer = await house.run()
    assert (status, answer["status"], answer["error"]["message"]) == (
        200,
        "platform_error",
        "ZeroDivisionError in the gateway.",
    )
    await house.until_states(pod_1=RETIRING)
    assert "execution failed" in caplog.text


async def test_a_message_for_another_execution_is_a_platform_error(house, pod):
    async def script(talk, message):
        talk.send(Message.RESULT, {"execution": "another"})

    pod.script = script
    _, answer = await house.run()
    assert answer["status"] == "platform_error"
    await house.until_states(pod_1=RETIRING)

"""The HTTP API: who may ask, what is found, and in which words."""

import asyncio
import itertools
import json
import time

import pytest

from warmpool.protocol import Message, Status
from warmpool_gateway.ids import new_id
from warmpool_gateway.keys import revoke_key
from warmpool_gateway.problems import MEDIA_TYPE

OPERATIONS = [
    ("POST", "/v1/executions"),
    ("GET", "/v1/executions"),
    ("GET", "/v1/executions/exe_00000000000000000000000000000000"),
]


async def test_without_a_valid_key_there_is_a_401_that_says_how(house):
    for (method, path), key in itertools.product(OPERATIONS, ["", "wp_000000000000_" + "0" * 48]):
        async with house.request(method, path, key=key) as response:
            problem = await response.json()
        assert (response.status, response.content_type) == (401, MEDIA_TYPE)
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
        assert "warmpool keys create" in problem["detail"]


async def test_a_revoked_key_is_refused(house, pod):
    assert (await house.run())[0] == 200
    async with house.gateway.postgres.connection() as connection:
        await revoke_key(connection, house.key_id)
    async with asyncio.timeout(5):
        while (await house.run())[0] != 401:
            await asyncio.sleep(0.05)


async def test_what_the_api_does_not_have_is_a_problem_too(house):
    for method, path, expected in [
        ("GET", "/nothing", 404),
        ("GET", "/v1/executions/", 404),
        ("PUT", "/v1/executions", 405),
        ("POST", "/healthz", 405),
    ]:
        async with house.request(method, path) as response:
            problem = await response.json()
        assert (response.status, response.content_type, problem["status"]) == (expected, MEDIA_TYPE, expected)
        assert ("Allow" in response.headers) is (expected == 405)


async def test_an_execution_that_is_not_there_is_a_404(house, subtests):
    for id in ("x", "exe_1", "exe_" + "g" * 32, "exe_" + "0" * 32, "%00", "exe_" + "f" * 32):
        with subtests.test(id):
            status, problem = await house.ask("GET", f"/v1/executions/{id}")
            assert (status, problem["type"]) == (404, "urn:warmpool:problem:not_found")


async def test_only_an_execution_whose_record_may_be_on_its_way_is_waited_for(house, monkeypatch):
    looks = []

    async def one_more_record() -> int:
        looks.append(1)
        return 1

    monkeypatch.setattr(house.gateway.audit, "measure", one_more_record)
    monkeypatch.setattr("warmpool_gateway.store.FLUSH_SECONDS", 0.0)
    for seconds, waits in [(-3600, False), (3600, False), (-30, True), (0, True)]:
        looks.clear()
        status, _ = await house.ask("GET", f"/v1/executions/{new_id(time.time() + seconds)}")
        assert (status, bool(looks)) == (404, waits)


async def test_an_execution_is_found_right_after_its_answer(house, pod):
    for number in range(5):
        _, answer = await house.run(f"return {number}", context=number)
        status, recorded = await house.ask("GET", f"/v1/executions/{answer['id']}")
        assert (status, recorded["code"]) == (200, f"return {number}")
        assert {name: recorded[name] for name in answer} == answer
        assert (recorded["pool"], recorded["limits"]["wall_seconds"]) == ("default", 30.0)
        assert recorded["created_at"].endswith("+00:00")


async def test_a_record_keeps_nul_and_long_integers_to_the_byte(house, pod):
    async def script(talk, message):
        talk.result(message["execution"], value=["\x00", 10**40])

    pod.script = script
    _, answer = await house.run()
    _, recorded = await house.ask("GET", f"/v1/executions/{answer['id']}")
    assert recorded["result"] == ["\x00", 10**40]


async def test_another_tenant_sees_nothing_of_it(house, pod):
    _, answer = await house.run()
    other, _ = await house.new_key("other")
    await house.gateway.keys.refresh()
    assert (await house.ask("GET", f"/v1/executions/{answer['id']}"))[0] == 200
    assert (await house.ask("GET", f"/v1/executions/{answer['id']}", key=other))[0] == 404
    assert (await house.ask("GET", "/v1/executions", key=other))[1]["executions"] == []


async def test_executions_page_by_keys_the_newest_first(house, pod):
    ids = [(await house.run())[1]["id"] for _ in range(7)]
    await house.ask("GET", f"/v1/executions/{ids[-1]}")  # is there: the others are too
    seen, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        query = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
        _, page = await house.ask("GET", "/v1/executions", params=query)
        seen += [execution["id"] for execution in page["executions"]]
        cursor, pages = page["next_cursor"], pages + 1
        if pages == 1:
            await house.run()  # a newer one moves no page
    assert seen == sorted(ids, reverse=True)
    assert pages == 3


async def test_executions_are_listed_by_status(house, pod):
    for status in (Status.OK, Status.USER_ERROR, Status.OK):

        async def script(talk, message, status=status):
            talk.result(message["execution"], status=status)

        pod.script = script
        _, answer = await house.run()
    await house.ask("GET", f"/v1/executions/{answer['id']}")
    _, page = await house.ask("GET", "/v1/executions", params={"status": "user_error"})
    assert [execution["status"] for execution in page["executions"]] == ["user_error"]


async def test_a_query_of_no_form_is_a_422(house, subtests):
    for name, value in [
        ("limit", "0"),
        ("limit", "201"),
        ("limit", "x"),
        ("cursor", "exe_1"),
        ("status", "fine"),
        ("tenant", "other"),
    ]:
        with subtests.test(f"{name}={value}"):
            status, problem = await house.ask("GET", "/v1/executions", params={name: value})
            assert (status, problem["errors"][0]["field"]) == (422, name)


async def dies(talk, run):
    talk.writer.transport.abort()


async def breaks_the_protocol(talk, run):
    talk.send(Message.HELLO, {"pod": "pod-1"})


async def answers_for_another(talk, run):
    talk.result("exe_of_another")


@pytest.mark.parametrize("script", [dies, breaks_the_protocol, answers_for_another])
async def test_an_execution_that_its_pod_lost_tells_its_caller_nothing_of_the_pod(house, script, caplog):
    pod = await house.add_pod(script=script)
    status, ran = await house.run()
    assert (status, ran["status"]) == (200, "platform_error")
    recorded = await house.ask("GET", f"/v1/executions/{ran['id']}")
    for told in (ran, recorded):
        for secret in (pod.pod, pod.address, "127.0.0.1", "exe_of_another"):
            assert secret not in json.dumps(told)
    assert "pod-1" in {getattr(line, "pod", None) for line in caplog.records}  # whoever looks after the pods is told


async def test_metrics_have_bounded_labels_and_no_ids(house, pod):
    _, answer = await house.run()
    await house.ask("GET", "/v1/executions/whatever")
    await house.ask("GET", "/no/such/path")
    async with house.request("GET", "/metrics") as response:
        text = await response.text()
    assert 'warmpool_executions_total{pool="default",status="ok"}' in text
    assert 'warmpool_lease_wait_seconds_bucket{le="0.001",pool="default"}' in text
    assert 'warmpool_http_requests_total{code="404",route="/v1/executions/{id}"}' in text
    assert 'warmpool_http_requests_total{code="404",route="none"}' in text
    assert "warmpool_audit_backlog" in text
    assert answer["id"] not in text
    assert "/no/such/path" not in text


async def test_the_document_describes_every_operation_with_examples_and_problems(house):
    _, document = await house.ask("GET", "/openapi.json")
    operations = {
        (path, method): operation for path, item in document["paths"].items() for method, operation in item.items()
    }
    ours = {("/v1/executions", "post"), ("/v1/executions", "get"), ("/v1/executions/{id}", "get")}
    assert ours <= set(operations)
    for (path, _), operation in operations.items():
        assert operation["summary"]
        if path.startswith("/v1/"):
            assert operation["security"] == [{"key": []}]
            assert MEDIA_TYPE in operation["responses"]["401"]["content"]
    body = document["paths"]["/v1/executions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["examples"][0]["code"]
    assert document["components"]["schemas"]["Problem"]["examples"]
    assert document["components"]["schemas"]["ExecutionView"]["examples"]
    assert "HTTPValidationError" not in document["components"]["schemas"]

"""The HTTP API: what it takes, what it refuses, and in which words."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator

import psycopg
import pytest
from prometheus_client import REGISTRY

from warmpool.protocol import Limits, Message, Status
from warmpool_gateway.ids import new_id
from warmpool_gateway.keys import revoke_key
from warmpool_gateway.problems import MEDIA_TYPE

CODE_BYTES = Limits().code_bytes


async def post(house, body, **headers):
    return await house.ask("POST", "/v1/executions", data=body, headers={"Content-Type": "application/json"} | headers)


NOT_JSON = {
    "nothing": b"",
    "half": b'{"code": ',
    "a word": b"code",
    "bytes that are no text": b'{"code": "\xff\xfe"}',
    "NaN": b'{"code": "1", "context": NaN}',
    "infinity": b'{"code": "1", "timeout_seconds": Infinity}',
    "deep nesting": b'{"code": "1", "context": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a control character": b'{"code": "a\nb"}',
    "a tail": b'{"code": "1"} x',
    "a lone surrogate and half": b'{"code": "\\ud800',
}


async def test_what_is_not_json_is_a_400(house, subtests):
    for name, body in NOT_JSON.items():
        with subtests.test(name):
            status, problem = await post(house, body)
            assert (status, problem["type"]) == (400, "urn:warmpool:problem:malformed_body")


INVALID = {
    "a list": ("[]", "body"),
    "a text": ('"code"', "body"),
    "no code": ("{}", "code"),
    "a number for code": ('{"code": 1}', "code"),
    "null for code": ('{"code": null}', "code"),
    "an unknown member": ('{"code": "1", "speed": 9}', "speed"),
    "a NUL": ('{"code": "ab\\u0000c"}', "code"),
    "a lone surrogate in code": ('{"code": "abc\\ud800"}', "code"),
    "a lone surrogate elsewhere": ('{"code": "1", "context": "\\udfff"}', "body"),
    "a lone surrogate in a name": ('{"code": "1", "\\udfff": 1}', "body"),
    "a time over the pool's": ('{"code": "1", "timeout_seconds": 31}', "timeout_seconds"),
    "no time": ('{"code": "1", "timeout_seconds": 0}', "timeout_seconds"),
    "a time before now": ('{"code": "1", "timeout_seconds": -1}', "timeout_seconds"),
    "a truth for a time": ('{"code": "1", "timeout_seconds": true}', "timeout_seconds"),
    "a text for a time": ('{"code": "1", "timeout_seconds": "5"}', "timeout_seconds"),
    "a very large time": ('{"code": "1", "timeout_seconds": 1e999}', "timeout_seconds"),
    "a time said twice": ('{"code": "1", "timeout_seconds": 1, "limits": {"wall_seconds": 1}}', "timeout_seconds"),
    "an unknown limit": ('{"code": "1", "limits": {"fun": 1}}', "limits.fun"),
    "half a byte": ('{"code": "1", "limits": {"memory_bytes": 0.5}}', "limits.memory_bytes"),
    "a raised limit": ('{"code": "1", "limits": {"memory_bytes": 1e12}}', "limits.memory_bytes"),
    "a negative limit": ('{"code": "1", "limits": {"memory_bytes": -1}}', "limits.memory_bytes"),
    "a list of limits": ('{"code": "1", "limits": []}', "limits"),
    "a context nested too deeply": ('{"code": "1", "context": ' + "[" * 128 + "]" * 128 + "}", "context"),
    "an unknown pool": ('{"code": "1", "pool": "deep\\nend"}', "pool"),
    "a grant of no form": ('{"code": "1", "grants": ["../x"]}', "grants.0"),
    "too many grants": (json.dumps({"code": "1", "grants": ["*"] * 65}), "grants"),
    "a text for grants": ('{"code": "1", "grants": "*"}', "grants"),
}


async def test_what_is_not_of_its_form_is_a_422_that_names_the_field(house, subtests):
    for name, (body, field) in INVALID.items():
        with subtests.test(name):
            status, problem = await post(house, body.encode())
            assert (status, problem["status"]) == (422, 422)
            named = problem.get("field") or problem["errors"][0]["field"]
            assert named == field
            assert problem["detail"].startswith(f"{field}: ")


CROWD = {f"name{number}": "x" for number in range(50_000)}
CROWDS = [
    ("/v1/executions", CROWD, "body"),
    ("/v1/executions", {"code": "1", "limits": CROWD}, "limits"),
    ("/v1/chat", CROWD, "body"),
    ("/v1/chat", {"message": "x", "history": [CROWD]}, "history.0"),
]


async def test_a_flood_of_members_gets_one_error(house, subtests):
    for path, body, field in CROWDS:
        with subtests.test(path, field=field):
            status, problem = await house.ask("POST", path, json=body)
            assert (status, [error["field"] for error in problem["errors"]]) == (422, [field])


async def test_twenty_errors_of_a_request_are_told_in_few_words(house):
    status, problem = await house.run(**{f"name{number:02}" + "x" * 10_000: 1 for number in range(30)})
    assert (status, len(problem["errors"])) == (422, 20)
    assert len(json.dumps(problem)) < 10_000


async def test_a_context_may_have_any_number_of_members(house, pod):
    status, answer = await house.run(context={str(number): number for number in range(1000)})
    assert (status, answer["result"]["context"]["999"]) == (200, 999)


async def test_the_offset_of_a_character_that_cannot_be_is_named(house):
    for code, offset in [("ab\\u0000c\\u0000", 2), ("é\\ud800", 1), ("\\udc00", 0)]:
        _, problem = await post(house, f'{{"code": "{code}"}}'.encode())
        assert problem["offset"] == offset


async def test_code_may_have_64_kib_and_not_one_byte_more(house, pod):
    status, answer = await house.run("é" * (CODE_BYTES // 2))
    assert (status, answer["status"]) == (200, "ok")
    status, problem = await house.run("é" * (CODE_BYTES // 2) + "x")
    assert (status, problem["title"]) == (413, "Too large")
    told = {name: problem[name] for name in ("field", "limit", "most", "value")}
    assert told == {"field": "code", "limit": "code_bytes", "most": 65536, "value": 65537}


async def test_control_characters_in_the_largest_code_still_fit_a_frame(house, pod):
    status, answer = await house.run("\x01" * CODE_BYTES, context=["x" * 400_000])
    assert (status, answer["status"]) == (200, "ok")


async def test_a_context_has_a_bound(house):
    status, problem = await house.run(context="x" * 600_000)
    assert (status, problem["limit"], problem["most"]) == (413, "context_bytes", 524_288)


async def test_a_context_whose_numbers_grow_when_written_out_fits_or_is_refused(house, pod):
    body = '{"code": "1", "context": [' + ",".join(["1E15"] * 200_000) + "]}"
    status, _ = await post(house, body.encode())
    assert status in (200, 413)


async def test_a_declared_size_is_refused_before_the_body_is_read(house):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(house.url.rsplit(":", 1)[1]))
    head = f"POST /v1/executions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {house.key}\r\nContent-Length: 5000000"
    writer.write(head.encode() + b"\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 5)  # to the end: the server closes
    writer.close()
    problem = json.loads(answer.split(b"\r\n\r\n")[1])
    assert (problem["status"], problem["limit"], problem["value"]) == (413, "max_body_bytes", 5_000_000)


async def test_a_client_that_sends_a_large_body_before_it_reads_gets_its_answer(house):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(house.url.rsplit(":", 1)[1]))
    head = f"POST /v1/executions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {house.key}\r\nContent-Length: 5000000"
    writer.write(head.encode() + b"\r\n\r\n" + bytes(5_000_000))
    await writer.drain()
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_an_endless_body_is_refused_while_it_arrives(house):
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    headers = {"Content-Type": "application/json"}
    async with house.request("POST", "/v1/executions", data=endless(), headers=headers) as response:
        problem = await response.json()
    assert (response.status, problem["limit"]) == (413, "max_body_bytes")
    assert problem["value"] < 3_000_000


@pytest.mark.parametrize("changes", [{"api": {"body_timeout_seconds": 0.1}}])
async def test_a_slow_body_is_a_408(house):
    async def slow() -> AsyncIterator[bytes]:
        yield b'{"code"'
        await asyncio.Event().wait()

    headers = {"Content-Type": "application/json"}
    async with house.request("POST", "/v1/executions", data=slow(), headers=headers) as response:
        problem = await response.json()
    assert (response.status, problem["received"]) == (408, 7)


@pytest.mark.parametrize("path", ["/v1/executions", "/v1/chat"])
async def test_a_client_that_hangs_up_within_its_body_is_no_fault_of_ours(house, path, caplog):
    def count() -> float:
        return REGISTRY.get_sample_value("warmpool_http_requests_total", {"route": path, "code": "499"}) or 0

    before = count()
    _, writer = await asyncio.open_connection("127.0.0.1", int(house.url.rsplit(":", 1)[1]))
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {house.key}\r\nContent-Length: 50\r\n\r\n"
    writer.write(head.encode() + b'{"code"')
    writer.close()
    async with asyncio.timeout(5):
        while count() == before:
            await asyncio.sleep(0.001)
    assert caplog.records == []


async def test_a_body_of_another_media_type_is_a_415(house):
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        status, problem = await post(house, b'{"code": "1"}', **{"Content-Type": media_type})
        assert (status, problem["media_type"]) == (415, media_type)


async def test_json_goes_by_several_names(house, pod):
    for media_type in ("application/json; charset=utf-8", "Application/JSON", "application/x+json"):
        assert (await post(house, b'{"code": "1"}', **{"Content-Type": media_type}))[0] == 200


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


async def test_it_is_alive_and_ready_with_a_pod(house, pod):
    assert await house.ask("GET", "/healthz") == (200, {"status": "alive"})
    await house.gateway.queue.look()
    _, readiness = await house.ask("GET", "/readyz")
    assert readiness["status"] == "ready"
    assert set(readiness["checks"].values()) == {"ok"}


async def test_it_is_not_alive_when_its_background_work_has_ended(house):
    house.gateway.background[0].cancel()
    await asyncio.wait(house.gateway.background[:1])
    status, problem = await house.ask("GET", "/healthz")
    assert (status, problem["type"]) == (503, "urn:warmpool:problem:not_alive")


async def test_it_is_degraded_without_pods_for_callers_may_wait_for_one(house):
    status, readiness = await house.ask("GET", "/readyz")
    assert (status, readiness["status"], readiness["checks"]["pods"]) == (200, "degraded", "none")


async def test_it_is_degraded_without_tools_for_programs_run(house, pod):
    house.tools.ready = False
    status, readiness = await house.ask("GET", "/readyz")
    assert (status, readiness["status"], readiness["checks"]["tools"]) == (200, "degraded", "away")


@pytest.mark.parametrize("changes", [{"tools": {"url": "http://127.0.0.1:9"}}])
async def test_one_that_starts_waits_a_while_for_a_way_to_the_tools(house, pod, monkeypatch):
    status, problem = await house.ask("GET", "/readyz")
    assert (status, problem["detail"]) == (503, "Not ready: tools.")
    monkeypatch.setattr("warmpool_gateway.gateway.ROUTE_SECONDS", 0.0)
    status, readiness = await house.ask("GET", "/readyz")
    assert (status, readiness["status"]) == (200, "degraded")


async def test_it_is_not_ready_without_redis_and_says_so_to_callers(house, pod, redis_server, monkeypatch, caplog):
    monkeypatch.setattr("warmpool_gateway.queue.AWAY_SECONDS", 0.01)
    redis_server.stop()
    try:
        status, problem = await house.ask("GET", "/readyz")
        assert (status, problem["checks"]["redis"]) == (503, "away")
        status, problem = await house.run()
        assert (status, problem["type"]) == (503, "urn:warmpool:problem:unavailable")
        assert problem["detail"] == "The pool's registry is away."
    finally:
        redis_server.start()
    assert "the pool's registry is away: " in caplog.text


async def test_records_of_a_database_without_tables_are_away(house, database):
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute("DROP TABLE executions CASCADE")
    status, problem = await house.ask("GET", "/v1/executions")
    assert (status, problem["type"]) == (503, "urn:warmpool:problem:unavailable")


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

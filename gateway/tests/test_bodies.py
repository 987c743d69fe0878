"""What a request may carry: JSON of its form, within its bounds, in time."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY

from warmpool.protocol import Limits

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

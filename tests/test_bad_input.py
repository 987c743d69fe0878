"""Requests that are not of their form: each gets a problem document that says what to mend, and starts nothing."""

import json

import pytest
from harness.caller import Caller

MALFORMED = {
    "nothing": b"",
    "an open string": b'{"code": "return 1',
    "an open object": b'{"code": "return 1"',
    "two values": b'{"code": "return 1"} {}',
    "bytes that are no text": b'{"code": "\xff\xfe"}',
    "a NUL between": b'{"code":\x00 "return 1"}',
    "NaN": b'{"code": "return 1", "context": NaN}',
    "ten thousand levels": b'{"code": "return 1", "context": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
async def test_malformed_json_is_a_bad_request(caller: Caller, body: bytes):
    answer = await caller.send(body)
    assert (answer.status, answer.problem) == (400, "malformed_body")
    assert answer.seconds < 1


@pytest.mark.parametrize("body", ["[]", "null", '"return 1"', "7", "{}", '{"code": 7}', '{"code": null}'])
async def test_json_of_another_form_is_unprocessable_and_names_the_field(caller: Caller, body: str):
    answer = await caller.send(body.encode())
    assert (answer.status, answer.problem) == (422, "invalid_request")
    assert answer.body["errors"][0]["field"] in ("body", "code")


async def test_64_kib_of_code_run(caller: Caller):
    code = "return 5".ljust(64 * 1024)
    assert (await caller.run(code))["result"] == 5


@pytest.mark.parametrize("code", ["return 5".ljust(64 * 1024 + 1), "# " + "é" * 32 * 1024], ids=["ascii", "utf-8"])
async def test_code_over_64_kib_is_too_large_and_the_limit_is_named(caller: Caller, code: str):
    answer = await caller.post("/v1/executions", {"code": code})
    assert (answer.status, answer.problem) == (413, "too_large")
    assert (answer.body["limit"], answer.body["most"]) == ("code_bytes", 65536)
    assert answer.body["value"] == len(code.encode())


async def test_a_body_over_a_mebibyte_is_too_large(caller: Caller):
    answer = await caller.post("/v1/executions", {"code": "return 1", "context": "x" * 1024 * 1024})
    assert (answer.status, answer.problem) == (413, "too_large")


async def test_a_nul_in_the_code_is_refused_with_its_place(caller: Caller):
    answer = await caller.post("/v1/executions", {"code": "return 1\0"})
    assert (answer.status, answer.problem, answer.body["offset"]) == (422, "invalid_request", 8)


async def test_a_lone_surrogate_in_the_code_is_refused_with_its_place(caller: Caller):
    answer = await caller.send(b'{"code": "return \'\\ud800\'"}')
    assert (answer.status, answer.problem, answer.body["offset"]) == (422, "invalid_request", 8)


async def test_a_lone_surrogate_in_the_context_is_refused(caller: Caller):
    answer = await caller.send(b'{"code": "return context", "context": ["\\udfff"]}')
    assert (answer.status, answer.problem) == (422, "invalid_request")


@pytest.mark.parametrize("context", ["1e999", '{"a": [null, -1e999]}'])
async def test_a_context_with_a_number_that_no_double_holds_is_refused(caller: Caller, context: str):
    answer = await caller.send(b'{"code": "return context", "context": ' + context.encode() + b"}")
    assert (answer.status, answer.problem, answer.body["field"]) == (422, "invalid_request", "context")


async def test_a_surrogate_pair_is_a_character_like_any_other(caller: Caller):
    answer = await caller.send(b'{"code": "return context + \'\\ud83d\\ude00\'", "context": "\\ud83d\\ude00"}')
    assert answer.body["result"] == "😀😀"


async def test_a_nul_in_the_context_reaches_the_program_and_the_record(caller: Caller):
    ran = await caller.run("print(context)\nreturn context", context="a\0b")
    assert (ran["result"], ran["stdout"]) == ("a\0b", "a\0b\n")
    recorded = await caller.get(f"/v1/executions/{ran['id']}")
    assert (recorded.status, recorded.body["result"]) == (200, "a\0b")


@pytest.mark.parametrize("seconds", [0, -1, 31, 1e308, True, "5"])
async def test_a_deadline_that_cannot_be_is_refused(caller: Caller, seconds: object):
    answer = await caller.send(json.dumps({"code": "return 1", "timeout_seconds": seconds}).encode())
    assert (answer.status, answer.problem) == (422, "invalid_request")


async def test_a_limit_cannot_be_raised(caller: Caller):
    answer = await caller.post("/v1/executions", {"code": "return 1", "limits": {"memory_bytes": 1 << 40}})
    assert (answer.status, answer.problem) == (422, "invalid_request")
    assert "memory_bytes" in answer.body["detail"]

"""docs/reference/protocol.md says what the code does: every number, every table, every byte of its examples."""

import hmac
import json
import re
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest

from warmpool.protocol import (
    HEADER,
    MAX_BODY_BYTES,
    MAX_DEPTH,
    VERSION,
    Frame,
    FrameReader,
    Limits,
    Message,
    Outcome,
    ProgramError,
    Refusal,
    Status,
    Stream,
    Usage,
    encode_frame,
    encode_json,
    gateway_proof,
    supervisor_proof,
    tenant_mark,
)
from warmpool_gateway import pod_stream, pods
from warmpool_sandbox import execution, supervisor

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "protocol.md"
TEXT = PAGE.read_text(encoding="utf-8")


def section(title: str) -> str:
    """From this heading to the next of its level or a higher one."""
    found = re.search(rf"^(#+) {re.escape(title)}$(.*?)(?=^#{{1,3}} |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[2]


def rows(text: str) -> list[list[str]]:
    """The cells of a table's lines, its heading left out."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_it_states_the_constants():
    assert TEXT.startswith(f"# The stream between a gateway and a sandbox\n\nVersion {VERSION},")
    assert f"0 to {MAX_BODY_BYTES} |" in section("Frames")
    assert f"at most {MAX_DEPTH} levels" in section("Frames")
    assert HEADER.size == 5


def test_it_states_the_bounds_of_both_ends():
    flat = " ".join(TEXT.split())
    for words in (
        f"takes bodies of at most {supervisor._HANDSHAKE_BYTES} bytes",
        f"takes up to {supervisor._MAX_CONNECTIONS} connections",
        f"1 to {supervisor._MAX_NONCE_CHARACTERS} ASCII characters",
        f"waits {supervisor._HANDSHAKE_SECONDS:g} seconds for `AUTH`",
        f"gives a gateway {supervisor._FAREWELL_SECONDS:g} seconds to read",
        f"{execution._MAX_ARGUMENT_BYTES} bytes for the arguments",
        f"{pods.CONNECT_SECONDS:g} seconds for connection and handshake",
        f"`wall_seconds` and {pod_stream.GRACE_SECONDS:g} more",
        f"{pod_stream.CANCEL_SECONDS:g} second for the `RESULT` that follows `CANCEL`",
    ):
        assert words in flat
    assert execution._MAX_CALL_ID == 2**53


def test_its_types_are_those_of_the_code():
    table = [(int(row[0]), *words(row[1])) for row in rows(section("Messages"))]
    assert table == [(type.value, type.name) for type in Message]


def test_its_reasons_and_statuses_are_those_of_the_code():
    assert [words(row[0])[0] for row in rows(section("REFUSED"))] == [reason.value for reason in Refusal]
    listed = [words(row[0])[0] for row in rows(section("RESULT"))]
    assert listed[-len(Status) :] == [status.value for status in Status]


def test_its_outcome_has_the_fields_of_the_code():
    table = {name: row[2] for row in rows(section("RESULT")) if len(row) == 3 for name in words(row[0])}
    assert list(table) == ["execution", "status", "value", "stdout", "stderr", "error", "usage", "clean", "residue"]
    assert list(table) == [field.name for field in fields(Outcome)]
    for name, record in (("stdout", Stream), ("error", ProgramError), ("usage", Usage)):
        assert set(words(table[name])) == {field.name for field in fields(record)}


def test_its_limits_are_those_of_the_code():
    table = {words(row[0])[0]: (row[1], row[2]) for row in rows(section("Limits"))}
    kinds = {int: "integer", float: "number"}
    assert table == {name: (kinds[type(value)], str(value)) for name, value in Limits().as_dict().items()}


# -- the example

EXAMPLE = section("Example")
KEY = b"0123456789abcdef0123456789abcdef"


def examples() -> list[tuple[Message, bytes, bytes | None]]:
    """Type, body and, where they are shown, the whole frame's bytes."""
    found = re.findall(
        r"^`(\w+)`, (\d+) bytes of body:\n\n```json\n(.*?)\n```\n(?:\n```hex\n(.*?)\n```\n)?",
        EXAMPLE,
        re.MULTILINE | re.DOTALL,
    )
    for _, size, body, _ in found:
        assert len(body.encode()) == int(size)
    return [(Message[name], body.encode(), bytes.fromhex(shown) if shown else None) for name, _, body, shown in found]


def bodies(type: Message) -> list[dict]:
    return [json.loads(body) for found, body, _ in examples() if found is type]


def test_it_shows_every_message_that_travels_over_tcp():
    assert {type for type, _, _ in examples()} == set(Message) - {Message.PROGRAM, Message.VALUE}


@pytest.mark.parametrize(("type", "body", "shown"), examples(), ids=lambda part: getattr(part, "name", ""))
def test_its_frames_are_those_of_the_code(type, body, shown):
    assert encode_json(json.loads(body)) == body
    frame = encode_frame(type, body)
    assert shown in (None, frame)
    assert list(FrameReader().feed(frame)) == [Frame(type, body)]


def test_its_proofs_are_made_of_the_bytes_that_it_shows():
    (hello,), (auth,), (ready,) = (bodies(type) for type in (Message.HELLO, Message.AUTH, Message.READY))
    parts = {"pod": hello["pod"], "supervisor_nonce": hello["nonce"], "gateway_nonce": auth["nonce"]}
    assert f"`{KEY.decode()}`" in EXAMPLE
    inputs = re.findall(r" over these(?: bytes)?:\n\n```hex\n(.*?)\n```", EXAMPLE, re.DOTALL)
    shown = [hmac.new(KEY, bytes.fromhex(data), "sha256").hexdigest() for data in inputs]
    assert shown == [auth["proof"], ready["proof"]]
    assert shown == [gateway_proof(KEY, **parts), supervisor_proof(KEY, **parts)]


def test_its_messages_have_the_forms_that_the_code_reads():
    (ready,), (run,), (result,) = (bodies(type) for type in (Message.READY, Message.RUN, Message.RESULT))
    assert ready["limits"] == Limits().as_dict()
    assert Limits().lowered(run["limits"]).wall_seconds == 5
    assert "of the tenant `acme`" in EXAMPLE
    assert run["tenant"] == tenant_mark(KEY, "acme")
    assert Outcome.from_message(result).to_json() == encode_json(result)
    (refused,) = bodies(Message.REFUSED)
    assert Refusal(refused["reason"]) is Refusal.BUSY


def test_its_messages_hold_the_fields_of_its_tables():
    fields_of = {words(row[1])[0]: set(words(row[3])) for row in rows(section("Messages"))}
    for type, body, _ in examples():
        if type is not Message.RESULT:
            assert set(json.loads(body)) <= fields_of[type.name]
    for type in (Message.HELLO, Message.AUTH, Message.READY, Message.RUN, Message.CANCEL, Message.REFUSED):
        assert set(bodies(type)[0]) == fields_of[type.name]


def test_its_headings_stand_in_order_and_its_links_lead_to_them():
    anchors = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)$", TEXT, re.M)
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", TEXT)) <= anchors
    levels = [len(marks) for marks in re.findall(r"^(#+) ", TEXT, re.M)]
    assert all(after <= before + 1 for before, after in pairwise(levels))

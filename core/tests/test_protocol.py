"""The one definition that both ends share: frames, limits, outcomes, proofs."""

import hmac
import itertools
import json
import math
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmpool.protocol import (
    HEADER,
    MAX_BODY_BYTES,
    MAX_DEPTH,
    Frame,
    FrameReader,
    Limits,
    Message,
    Outcome,
    ProgramError,
    ProtocolError,
    Status,
    Stream,
    Usage,
    decode_json,
    encode_frame,
    encode_json,
    gateway_proof,
    is_deep,
    same_proof,
    supervisor_proof,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
frames = st.lists(st.tuples(st.sampled_from(Message), st.binary(max_size=40)), max_size=6)


def portions(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data cut at these places."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


# -- frames


def test_a_frame_is_its_length_its_type_and_its_body():
    assert encode_frame(Message.CANCEL, b"{}") == b"\x00\x00\x00\x02\x05{}"


@given(frames, st.lists(st.integers(min_value=0), max_size=10))
def test_frames_come_out_whole_in_whatever_portions_they_arrive(sent, cuts):
    reader = FrameReader()
    data = b"".join(encode_frame(type, body) for type, body in sent)
    received = [frame for portion in portions(data, cuts) for frame in reader.feed(portion)]
    assert received == [Frame(type, body) for type, body in sent]


def test_a_frame_may_arrive_byte_by_byte():
    reader = FrameReader()
    data = encode_frame(Message.RUN, {"code": "1"})
    arrived = [list(reader.feed(bytes([byte]))) for byte in data]
    assert arrived[:-1] == [[]] * (len(data) - 1)
    assert arrived[-1] == [Frame(Message.RUN, b'{"code":"1"}')]


def test_the_largest_frame_is_read_and_one_byte_more_is_refused():
    (frame,) = FrameReader().feed(encode_frame(Message.RESULT, bytes(MAX_BODY_BYTES)))
    assert len(frame.body) == MAX_BODY_BYTES
    with pytest.raises(ProtocolError, match=str(MAX_BODY_BYTES + 1)):
        list(FrameReader().feed(HEADER.pack(MAX_BODY_BYTES + 1, Message.RESULT)))
    with pytest.raises(ProtocolError, match="RESULT frame"):
        encode_frame(Message.RESULT, bytes(MAX_BODY_BYTES + 1))


def test_an_announced_length_is_refused_before_its_bytes_arrive():
    with pytest.raises(ProtocolError, match="4294967295"):
        list(FrameReader().feed(b"\xff\xff\xff\xff\x01"))


@pytest.mark.parametrize("number", [0, 12, 255])
def test_an_unknown_type_is_refused_with_its_number(number):
    with pytest.raises(ProtocolError, match=f"unknown message type {number}"):
        list(FrameReader().feed(HEADER.pack(0, number)))


def test_frames_before_a_broken_one_are_still_taken():
    frames = FrameReader().feed(encode_frame(Message.CANCEL, b"{}") + b"\x00\x00\x00\x00\x00")
    assert next(frames) == Frame(Message.CANCEL, b"{}")
    with pytest.raises(ProtocolError):
        next(frames)


def test_a_reader_can_be_held_to_smaller_frames():
    with pytest.raises(ProtocolError, match="over the 10 allowed"):
        list(FrameReader(max_body_bytes=10).feed(encode_frame(Message.AUTH, bytes(11))))


@given(st.binary(max_size=200), st.lists(st.integers(min_value=0), max_size=5))
def test_random_bytes_give_frames_or_a_protocol_error_and_nothing_else(data, cuts):
    reader = FrameReader()
    try:
        for portion in portions(data, cuts):
            for frame in reader.feed(portion):
                frame.json()
    except ProtocolError:
        pass


@given(st.binary(max_size=60), st.integers(0, 60), st.binary(max_size=3))
def test_a_damaged_frame_gives_frames_or_a_protocol_error_and_nothing_else(body, place, damage):
    data = bytearray(encode_frame(Message.TOOL_RESULT, json.dumps({"id": 1, "value": body.hex()}).encode()))
    data[place : place + len(damage)] = damage
    try:
        for frame in FrameReader().feed(bytes(data)):
            frame.json()
    except ProtocolError:
        pass


# -- JSON


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_a_message_comes_back_as_it_was_sent(message):
    assert decode_json(encode_json(message)) == message


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_json_are_refused_on_the_way_out(number):
    with pytest.raises(ValueError, match="JSON"):
        encode_json({"value": number})


def test_lone_surrogates_become_question_marks():
    assert encode_json({"a": "\ud800é"}) == '{"a":"?é"}'.encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'"{}"',
        b"{} {}",
        b"{'a': 1}",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": -1' + b"0" * 400 + b".5}",
        b'{"a": "\xff"}',
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": 1}'.encode("utf-16"),
        '{"a": 1}'.encode("utf-32"),
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": ' + b"[" * 100_000,
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_body_that_is_not_a_json_object_in_utf8_is_a_protocol_error(body):
    with pytest.raises(ProtocolError):
        decode_json(body)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting_is_bounded(opening, closing):
    def nested(levels: int) -> bytes:
        return ('{"value":' + opening * levels + "1" + closing * levels + "}").encode()

    decode_json(nested(MAX_DEPTH - 1))
    with pytest.raises(ProtocolError, match=f"deeper than {MAX_DEPTH}"):
        decode_json(nested(MAX_DEPTH))


@pytest.mark.parametrize(
    ("value", "levels"), [(1, 0), ("[[]]", 0), ([], 1), ({}, 1), ([1, [2]], 2), ({"a": [{"b": 1}], "c": []}, 3)]
)
def test_the_depth_of_a_value_counts_itself(value, levels):
    assert not is_deep(value, levels)
    assert levels == 0 or is_deep(value, levels - 1)


def test_many_containers_side_by_side_are_not_deep():
    assert decode_json(encode_json({"rows": [{"tags": []}] * 10_000}))["rows"][-1] == {"tags": []}


def test_brackets_inside_text_are_not_nesting():
    assert decode_json(encode_json({"text": "[{" * 1000})) == {"text": "[{" * 1000}


# -- limits

POOL = Limits()


@given(st.sampled_from(sorted(asdict(POOL))), st.floats(min_value=0.01, max_value=1.0))
def test_every_limit_can_be_lowered_and_keeps_its_kind(name, share):
    ceiling = getattr(POOL, name)
    value = ceiling * share if isinstance(ceiling, float) else max(1, int(ceiling * share))
    lowered = POOL.lowered({name: value})
    assert getattr(lowered, name) == value
    assert type(getattr(lowered, name)) is type(ceiling)
    assert {k: v for k, v in asdict(lowered).items() if k != name} == {
        k: v for k, v in asdict(POOL).items() if k != name
    }


def test_asking_for_the_limit_itself_or_for_nothing_changes_nothing():
    assert POOL.lowered(asdict(POOL)) == POOL
    assert POOL.lowered({}) == POOL


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        ({"wall_second": 1}, "limits.wall_second: no such limit; known are code_bytes, "),
        ({"wall_seconds": 30.5}, "limits.wall_seconds: 30.5 is above the pool's 30.0"),
        ({"processes": 33}, "limits.processes: 33 is above the pool's 32; limits can only be lowered"),
        ({"wall_seconds": math.nan}, "limits.wall_seconds: must be a positive number, got nan"),
        ({"wall_seconds": math.inf}, "limits.wall_seconds: must be a positive number, got inf"),
        ({"wall_seconds": 0}, "must be a positive number, got 0"),
        ({"cpu_seconds": -1}, "must be a positive number, got -1"),
        ({"processes": True}, "must be a positive number, got True"),
        ({"processes": "8"}, "must be a positive number, got '8'"),
        ({"processes": None}, "must be a positive number, got None"),
        ({"processes": 0.5}, "limits.processes: must be a whole number, got 0.5"),
        ({"memory_bytes": 1000.5}, "limits.memory_bytes: must be a whole number, got 1000.5"),
        ({"tool_calls": 1, "open_files": [1]}, "limits.open_files: must be a positive number"),
    ],
)
def test_a_limit_that_cannot_be_granted_is_refused_by_name(requested, message):
    with pytest.raises(ValueError) as refused:
        POOL.lowered(requested)
    assert message in str(refused.value)


def test_a_whole_number_written_with_a_fraction_is_one():
    assert POOL.lowered({"processes": 8.0}).processes == 8


@given(st.dictionaries(st.sampled_from(sorted(asdict(POOL))), st.floats() | st.integers(), max_size=4))
def test_whatever_is_asked_for_limits_never_rise_and_never_reach_zero(requested):
    try:
        lowered = POOL.lowered(requested)
    except ValueError:
        return
    assert all(0 < value <= getattr(POOL, name) for name, value in asdict(lowered).items())


# -- outcomes

streams = st.builds(Stream, head=st.text(), tail=st.text(), total_bytes=st.integers(0), truncated=st.booleans())
errors = st.builds(
    ProgramError,
    type=st.text(),
    message=st.text(),
    line=st.none() | st.integers(),
    column=st.none() | st.integers(),
    traceback=st.none() | st.text(),
    remedy=st.none() | st.text(),
    limit=st.none() | st.text(),
    fields=st.none() | st.dictionaries(st.text(), json_values, max_size=3),
)
outcomes = st.builds(
    Outcome,
    execution=st.text(),
    status=st.sampled_from(Status),
    value=json_values,
    stdout=streams,
    stderr=streams,
    error=st.none() | errors,
    usage=st.builds(Usage, wall_seconds=st.floats(0, 1e6), tool_calls=st.integers(0)),
    clean=st.booleans(),
    residue=st.lists(st.text(), max_size=3).map(tuple),
)


@given(outcomes)
def test_an_outcome_comes_back_as_it_was_sent(outcome):
    assert Outcome.from_message(decode_json(outcome.to_json())) == outcome


def test_an_outcome_that_json_cannot_carry_is_refused_and_not_garbled():
    with pytest.raises(ValueError, match="JSON"):
        Outcome(execution="exe_1", status=Status.OK, value=math.inf).to_json()


GOOD = json.loads(Outcome(execution="exe_1", status=Status.OK).to_json())


@pytest.mark.parametrize("name", sorted(GOOD))
def test_an_outcome_without_one_of_its_parts_is_refused(name):
    with pytest.raises(ProtocolError, match="not an outcome"):
        Outcome.from_message({k: v for k, v in GOOD.items() if k != name})


@pytest.mark.parametrize(
    "change",
    [
        {"status": "fine"},
        {"status": []},
        {"stdout": None},
        {"stdout": {"colour": "red"}},
        {"error": "broken"},
        {"error": {"message": "no type"}},
        {"usage": []},
        {"residue": None},
    ],
    ids=str,
)
def test_an_outcome_with_a_part_of_the_wrong_form_is_refused(change):
    with pytest.raises(ProtocolError, match="not an outcome"):
        Outcome.from_message(GOOD | change)


@pytest.mark.parametrize("clean", [1, "true", None, [True]])
def test_only_the_word_true_means_clean(clean):
    assert Outcome.from_message(GOOD | {"clean": clean}).clean is False


# -- streams


def test_a_stream_that_was_kept_whole_is_its_text():
    assert Stream(head="a\n", total_bytes=2).text == "a\n"


def test_the_text_of_a_cut_stream_says_how_much_there_was():
    stream = Stream(head="first", tail="last", total_bytes=1009, truncated=True)
    assert stream.text == "first\n[... cut: 1009 bytes were written, this is their beginning and end ...]\nlast"


# -- proofs

PARTS = {"pod": "pod-1", "supervisor_nonce": "s" * 32, "gateway_nonce": "g" * 32}
KEY = b"k" * 32


def test_proofs_are_fixed_by_key_pod_and_nonces():
    for proof, role in ((gateway_proof, b"gateway"), (supervisor_proof, b"supervisor")):
        text = b"\x00".join([b"warmpool", b"1", role, b"pod-1", b"s" * 32, b"g" * 32])
        assert proof(KEY, **PARTS) == hmac.new(KEY, text, "sha256").hexdigest()


@pytest.mark.parametrize("proof", [gateway_proof, supervisor_proof])
def test_a_proof_changes_with_everything_that_it_is_made_of(proof):
    known = proof(KEY, **PARTS)
    assert known == proof(KEY, **PARTS)
    assert proof(b"K" * 32, **PARTS) != known
    for name in PARTS:
        assert proof(KEY, **(PARTS | {name: "other"})) != known


def test_a_proof_of_one_end_is_not_one_of_the_other():
    assert gateway_proof(KEY, **PARTS) != supervisor_proof(KEY, **PARTS)


@given(st.none() | st.integers() | st.text() | st.text(st.characters(categories=["Cs"])) | st.lists(st.text()))
def test_nothing_but_the_proof_is_the_proof(shown):
    assert not same_proof(shown, gateway_proof(KEY, **PARTS))


def test_the_proof_is_the_proof():
    assert same_proof(gateway_proof(KEY, **PARTS), gateway_proof(KEY, **PARTS))


@given(st.text(st.characters()), st.text(st.characters()))
def test_a_peer_may_name_any_nonce(supervisor_nonce, gateway_nonce):
    proof = gateway_proof(KEY, pod="pod-1", supervisor_nonce=supervisor_nonce, gateway_nonce=gateway_nonce)
    assert len(proof) == 64

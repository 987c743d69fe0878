"""The first and the last part of a stream are kept, and nothing in between."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmpool.protocol import Stream
from warmpool_sandbox.capture import Capture


def captured(keep_bytes: int, *portions: bytes) -> Stream:
    capture = Capture(keep_bytes)
    for portion in portions:
        capture.add(portion)
    return capture.stream()


def test_what_fits_is_kept_whole():
    assert captured(8, b"abcd", b"efgh") == Stream(head="abcdefgh", total_bytes=8)


def test_of_more_the_first_and_the_last_half_are_kept():
    assert captured(8, b"abcde", b"fghij") == Stream(head="abcd", tail="ghij", total_bytes=10, truncated=True)


def test_nothing_is_an_empty_stream():
    assert captured(8) == Stream()


def test_a_character_at_the_halves_border_is_whole_where_nothing_is_cut():
    assert captured(4, "aéb".encode()) == Stream(head="aéb", total_bytes=4)


def test_a_character_that_was_cut_becomes_a_replacement_character():
    stream = captured(4, "aé".encode(), b"-" * 10, "éb".encode())
    assert (stream.head, stream.tail) == ("a\ufffd", "\ufffdb")


def test_bytes_that_are_not_utf8_become_replacement_characters():
    assert captured(8, b"a\xff\x00") == Stream(head="a\ufffd\x00", total_bytes=3)


@settings(deadline=None)
@given(st.integers(1, 20), st.lists(st.binary(max_size=30), max_size=8))
def test_in_whatever_portions_it_is_written_the_ends_are_kept(keep_bytes, portions):
    stream = captured(keep_bytes, *portions)
    data = b"".join(portions)
    half = keep_bytes // 2
    assert stream == captured(keep_bytes, data)
    assert stream.total_bytes == len(data)
    assert stream.truncated == (len(data) > 2 * half)
    if stream.truncated:
        assert stream.head == data[:half].decode("utf-8", "replace")
        assert stream.tail == data[len(data) - half :].decode("utf-8", "replace")
    else:
        assert stream.head == data.decode("utf-8", "replace")


@pytest.mark.parametrize("keep_bytes", [1, 2, 3, 1000])
def test_memory_stays_within_the_bytes_that_are_kept(keep_bytes):
    capture = Capture(keep_bytes)
    for _ in range(100):
        capture.add(b"x" * 1000)
        assert len(capture._head) + len(capture._tail) <= keep_bytes
    assert capture.total_bytes == 100_000

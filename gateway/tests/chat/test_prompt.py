"""What the model is told, as tables."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmpool.protocol import Limits, ProgramError
from warmpool_gateway import prompt

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(max_size=20), inner, max_size=30),
    max_leaves=60,
)


def test_the_system_prompt_carries_signatures_and_limits() -> None:
    text = prompt.system("def search_products(query: str) -> list[Product]\n", Limits(wall_seconds=12.5))
    assert "\ndef search_products(query: str) -> list[Product]\n\nRules:" in text
    assert "Limits: 12.5 s, 400 MB, 256 tool calls" in text


def test_the_system_prompt_is_small() -> None:
    assert len(prompt.system("", Limits())) < 1250  # about 280 tokens, paid with each program turn


def test_the_model_is_told_what_its_pool_lets_programs_reach() -> None:
    assert "no network" in prompt.system("", Limits())
    told = prompt.system("", Limits(), (443, 8443))
    assert "TCP to ports 443, 8443 of IP addresses" in told
    assert "no network" not in told


def test_braces_in_a_signature_are_kept() -> None:
    assert "Price = {amount_minor: int}" in prompt.system("Price = {amount_minor: int}", Limits())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "None"),
        (3, "int"),
        ([], "list"),
        (
            {"cart": [{"sku": "A-1", "quantity": 2}], "customer": None},
            "{cart: list[{sku: str, quantity: int}], customer: None}",
        ),
        ({"a": {"b": {"c": {"d": 1}}}}, "{a: {b: {c: dict}}}"),
    ],
)
def test_an_outline_shows_keys_and_types_without_values(value: Any, expected: str) -> None:
    assert prompt.outline(value) == expected


def test_a_context_is_announced_without_its_data() -> None:
    text = prompt.question("What is in my cart?", {"cart": ["secret lamp"]})
    assert text == "What is in my cart?\n\nThe program's global `context` holds: {cart: list[str]}"
    assert prompt.question("How many lamps?", None) == "How many lamps?"


def test_a_repair_names_error_line_fields_and_remedy() -> None:
    error = ProgramError(
        type="ToolError", message="no such product", line=4, fields={"sku": "X-1"}, remedy="check the sku"
    )
    assert prompt.repair(error).splitlines() == [
        "The program failed (line 4): ToolError: no such product",
        'Fields: {"sku":"X-1"}',
        "Remedy: check the sku",
        "Reply with the whole corrected program.",
    ]


def test_a_repair_without_details_is_two_lines() -> None:
    assert len(prompt.repair(ProgramError(type="Timeout", message="x" * 5000)).splitlines()) == 2
    assert len(prompt.repair(ProgramError(type="Timeout", message="x" * 5000))) < 700


def test_a_short_result_is_shown_whole() -> None:
    value = {"count": 3, "names": ["é", "b"]}
    assert prompt.bounded(value, 100) == '{"count":3,"names":["é","b"]}'


def test_a_long_list_is_cut_and_says_so() -> None:
    shown = json.loads(prompt.bounded({"count": 900, "hits": [{"sku": f"A-{n}"} for n in range(900)]}, 400))
    assert shown["count"] == 900
    assert shown["hits"][:2] == [{"sku": "A-0"}, {"sku": "A-1"}]
    assert shown["hits"][-1] == "... 880 more not shown"


def test_long_text_and_many_keys_are_cut_and_say_so() -> None:
    assert json.loads(prompt.bounded(["y" * 5000], 1100))[0].endswith("y ...")
    shown = json.loads(prompt.bounded({f"k{n}": n for n in range(2000)}, 700))
    assert shown["..."] == "1950 more keys not shown"


def test_what_nests_deeply_is_cut_off() -> None:
    value: Any = 1
    for _ in range(900):
        value = [value]
    assert "nested too deeply" in prompt.bounded(value, 500)


@given(JSON, st.integers(min_value=10, max_value=300))
def test_a_result_never_exceeds_its_bound(value: Any, chars: int) -> None:
    assert len(prompt.bounded(value, chars)) <= chars


@given(JSON)
def test_an_outline_never_exceeds_its_bound(value: Any) -> None:
    assert len(prompt.outline(value)) <= prompt.OUTLINE_CHARS

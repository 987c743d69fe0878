"""Turns and answers of the stand-in, as tables."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmpool.local.standin.answer import SIGNED, answer
from warmpool.local.standin.conversation import Turn, reply_to
from warmpool.local.standin.question import read

SYSTEM = Turn("system", "Tools:\n# servers.search\nsearch_products(query: str, *, limit: int = 5) -> list[Product]")
MUG = {"title": "Red Mug", "sku": "M-1", "price": "9.99 EUR", "in_stock": True}
CUP = {"title": "Cup", "sku": None, "price": None, "in_stock": False}


@pytest.mark.parametrize(
    ("asked", "value", "expected"),
    [
        ("how many mugs", {"found": 3, "complete": True}, "I found 3 mugs."),
        ("how many mugs", {"found": 0, "complete": True}, "I found no mugs."),
        (
            "how many mugs over 5 in stock",
            {"found": 200, "complete": False},
            "I found at least 200 mugs in stock over 5; a search shows no more than its best matches.",
        ),
        (
            "cheapest mug from 2 to 9",
            {"found": 7, "products": [MUG]},
            "The cheapest mug from 2 up to 9, of 7 found:\n- Red Mug (M-1): 9.99 EUR, in stock",
        ),
        ("mugs", {"products": [CUP]}, "The best matches for mugs:\n- Cup: no price, out of stock"),
        ("mugs", {"products": []}, "I found no mugs."),
        (
            "sku X-1",
            {"instead": True, "products": [MUG]},
            "I could not work that out; a plain search for X-1 finds:\n- Red Mug (M-1): 9.99 EUR, in stock",
        ),
        (
            "average price of mugs",
            {"found": 2, "average": "8.00 EUR", "lowest": "7.00 EUR", "highest": "9.00 EUR"},
            "The average price of 2 mugs is 8.00 EUR (from 7.00 EUR to 9.00 EUR).",
        ),
        (
            "what are our mugs worth",
            {"found": 2, "worth": "99.90 EUR", "left_out": 1},
            "The stock of 2 mugs is worth 99.90 EUR (1 without a price or a known stock are left out).",
        ),
        (
            "mugs by category",
            {"found": 3, "categories": {"Kitchen": 2, "Tea": 1}},
            "I found 3 mugs, by category:\n- Kitchen: 2\n- Tea: 1",
        ),
        (
            "mugs vs cups",
            {"mugs": {"found": 2, "lowest": None}, "cups": {"found": 1, "lowest": "7.00"}},
            "Compared:\n- mugs: found 2, lowest none\n- cups: found 1, lowest 7.00",
        ),
        ("sku M-1", {**MUG, "stock": 3}, "Red Mug:\n- sku: M-1\n- price: 9.99 EUR\n- in stock: yes\n- stock: 3"),
        ("anything", {"printed": "12\n"}, "The program found:\n- printed: 12\n"),
        (
            "anything",
            list(range(30)),
            "The program found:\n" + "\n".join(f"- {n}" for n in range(20)) + "\n- and 10 more",
        ),
        ("anything", None, "The program found nothing."),
        ("anything", {}, "The program found nothing."),
        ("anything", 42, "The program found: 42"),
    ],
)
def test_a_result_is_put_into_words(asked: str, value: Any, expected: str) -> None:
    assert answer(read(asked), value) == f"{expected}\n\n{SIGNED}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["found", "products", "categories", "title", "worth", "average", "instead", "x"]), inner
        )
    ),
)


@given(JSON, st.sampled_from(["mugs", "mugs vs cups", "sku X-1", "cheapest mug"]))
def test_any_result_is_put_into_words(value: Any, asked: str) -> None:
    assert answer(read(asked), value).endswith(SIGNED)


def test_an_error_gets_a_mended_program() -> None:
    turns = [
        SYSTEM,
        Turn("user", "What is our stock of mugs worth?"),
        Turn("assistant", "```python\n...\n```"),
        Turn("user", "The program failed (line 9): TypeError: unsupported operand\nReply with the whole program."),
    ]
    first, second = reply_to(turns[:2]), reply_to(turns)
    assert 'product["price"] *' in first
    assert "price(product) *" in second


def test_a_follow_up_is_read_by_itself() -> None:
    turns = [SYSTEM, Turn("user", "how many mugs"), Turn("assistant", "Four."), Turn("user", "and the cheapest cup?")]
    assert 'search_products("cup"' in reply_to(turns)


def test_a_context_is_no_part_of_the_question() -> None:
    text = "how many mugs\n\nThe program's global `context` holds: {cart: list[str]}"
    assert reply_to([SYSTEM, Turn("user", text)]) == reply_to([SYSTEM, Turn("user", "how many mugs")])


@pytest.mark.parametrize("text", ["Hello!", "thanks", "What do you sell?", "", "How many products are there?"])
def test_what_names_no_products_gets_words_without_a_program(text: str) -> None:
    reply = reply_to([SYSTEM, Turn("user", text)])
    assert "```" not in reply
    assert reply.endswith(SIGNED)


def test_without_tools_there_is_no_program() -> None:
    assert reply_to([Turn("user", "how many mugs")]).startswith("I was given no tools")


def test_a_result_that_was_cut_off_is_shown_as_text() -> None:
    turns = [Turn("user", "how many mugs"), Turn("user", 'Result of the program:\n```json\n{"found": [1, ...\n```')]
    assert reply_to(turns).startswith('The program found: {"found": [1, ...')


@given(st.lists(st.builds(Turn, st.sampled_from(["system", "user", "assistant"]), st.text(max_size=50)), min_size=1))
def test_any_conversation_is_answered(turns: list[Turn]) -> None:
    assert reply_to([SYSTEM, *turns]).encode()

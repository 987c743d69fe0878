"""The grammar of the stand-in, as tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmpool.local.standin.question import Aim, Bound, Question, read


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("How many desk lamps do you have?", Question(aim=Aim.COUNT, subject="desk lamps")),
        ("Count the lamps in stock.", Question(aim=Aim.COUNT, subject="lamps", in_stock=True)),
        ("how many chairs are out of stock", Question(aim=Aim.COUNT, subject="chairs", in_stock=False)),
        ("How many products are there?", Question(aim=Aim.COUNT)),
        ("What is the cheapest floor lamp?", Question(aim=Aim.CHEAPEST, subject="floor lamp")),
        (
            "Which desk lamp under 30 euros is the cheapest one in stock?",
            Question(aim=Aim.CHEAPEST, subject="desk lamp", below=Bound("30"), in_stock=True),
        ),
        ("the 3 least expensive mugs", Question(aim=Aim.CHEAPEST, subject="mugs", top=3)),
        ("Show me the 3 cheapest mugs", Question(aim=Aim.CHEAPEST, subject="mugs", top=3)),
        ("Most expensive USB-C cable?", Question(aim=Aim.DEAREST, subject="usb-c cable")),
        ("What's the average price of running shoes?", Question(aim=Aim.AVERAGE, subject="running shoes")),
        (
            "average price of shoes between $20 and $49.99",
            Question(
                aim=Aim.AVERAGE,
                subject="shoes",
                above=Bound("20", inclusive=True),
                below=Bound("49.99", inclusive=True),
            ),
        ),
        ("How many lamps are there by category?", Question(aim=Aim.BY_CATEGORY, subject="lamps")),
        ("lamps per category", Question(aim=Aim.BY_CATEGORY, subject="lamps")),
        ("Compare desk lamps and floor lamps", Question(aim=Aim.COMPARE, subject="desk lamps", other="floor lamps")),
        ("mugs vs. cups", Question(aim=Aim.COMPARE, subject="mugs", other="cups")),
        ("What is our stock of mugs worth?", Question(aim=Aim.WORTH, subject="mugs")),
        ("total inventory value of red mugs", Question(aim=Aim.WORTH, subject="red mugs")),
        ("List the top 5 mugs over 10.50", Question(aim=Aim.LIST, subject="mugs", above=Bound("10.50"), top=5)),
        ("top 500 mugs", Question(aim=Aim.LIST, subject="mugs", top=20)),
        ("mugs costing less than 7,50 €", Question(aim=Aim.LIST, subject="mugs", below=Bound("7.50"))),
        (
            "mugs for at least 5 and up to 8",
            Question(aim=Aim.LIST, subject="mugs", above=Bound("5", inclusive=True), below=Bound("8", inclusive=True)),
        ),
        ("Show me details of SKU WOO-Hoodie-1", Question(aim=Aim.DETAILS, sku="WOO-Hoodie-1")),
        ("sku hoodie", Question(aim=Aim.DETAILS, sku="hoodie")),
        ("Tell me about LAMP-00042", Question(aim=Aim.DETAILS, sku="LAMP-00042")),
        ("product 4711?", Question(aim=Aim.DETAILS, sku="4711")),
        ("product high-end lamps", Question(aim=Aim.LIST, subject="high-end lamps")),
        (
            'How many products in the category "Home & Garden"?',
            Question(aim=Aim.COUNT, category="Home & Garden"),
        ),
        ("cheapest mug in the Kitchen category", Question(aim=Aim.CHEAPEST, subject="mug", category="Kitchen")),
        ("something warm for the winter", Question(aim=Aim.LIST, subject="something warm winter")),
        ("¿Tenéis lámparas?", Question(aim=Aim.LIST, subject="tenéis lámparas")),
        ("", Question(aim=Aim.LIST)),
    ],
)
def test_a_question_is_read(text: str, expected: Question) -> None:
    assert read(text) == expected


def test_a_long_text_is_read_from_its_beginning() -> None:
    assert read("how many mugs " + "in the " * 100_000).aim is Aim.COUNT


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    question = read(text)
    assert question.top is None or question.top <= 20


@given(st.from_regex(r"\A(compare|how many|between|cheaper than|sku|in the category|top| |\d|-|,|and|vs){0,20}\Z"))
def test_any_heap_of_the_grammars_words_is_read(text: str) -> None:
    assert read(text).aim in Aim

"""The stand-in's programs, run against a small shop with the real tools' signatures."""

import ast
import sys
import textwrap
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.search import TOOLS
from warmpool.local.standin import program
from warmpool.local.standin.question import Aim, Question, read
from warmpool.tools import signature_lines
from warmpool_sandbox import validation

SIGNATURES = signature_lines([tool.definition for tool in TOOLS], "signatures")
ALL = program.parse_signatures(SIGNATURES)


def product(sku: str, title: str, amount: str | None, *, stock: int | None = 1, kind: str = "Home > Kitchen") -> Any:
    price = {"amount_minor": 0, "currency": "EUR", "amount": amount} if amount else None
    return {
        "sku": sku,
        "title": title,
        "price": price,
        "stock": stock,
        "in_stock": stock != 0,
        "categories": [kind],
        "variant_count": 1,
        "description": "A thing. " * 100,
    }


SHOP = [
    product("M-1", "Red Mug", "9.99", stock=10),
    product("M-2", "Blue mug", "12.00", stock=0),
    product("M-3", "Mugs, set of four", "30.00", stock=None),
    product("M-4", "Antique mug", None, stock=2),
    product("C-1", "Tea cup", "7.00", stock=4, kind="Home > Tea"),
    product("L-1", "Desk lamp", "19.90", kind="Home > Lamps"),
    product("L-2", "Headlamp", "5.00", kind="Home > Outdoor"),
]


class Shop(ModuleType):
    """Every search returns everything, so what is left is the program's own doing."""

    def __init__(self) -> None:
        super().__init__("servers.search")
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def search_products(self, query: str, *, limit: int, in_stock: bool | None = None) -> list[Any]:
        assert 1 <= len(query) <= 500
        assert limit <= 200
        self.calls.append((query, {"limit": limit, "in_stock": in_stock}))
        return [each for each in SHOP if in_stock is None or each["in_stock"] is in_stock][:limit]

    def search_by_category(
        self, category: str, *, limit: int, offset: int = 0, in_stock: bool | None = None, sort: str = "title"
    ) -> Any:
        self.calls.append((category, {"limit": limit, "offset": offset, "sort": sort}))
        found = [each for each in SHOP if in_stock is None or each["in_stock"] is in_stock]
        return {"total": len(found), "products": found[offset : offset + min(limit, 200)]}

    def get_product_details(self, product_id: str) -> Any:
        return next(each for each in SHOP if each["sku"] == product_id)


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Shop:
    shop = Shop()
    monkeypatch.setitem(sys.modules, "servers.search", shop)
    return shop


def run(code: str) -> Any:
    """A top-level `return` is the sandbox's doing; here a function does the same."""
    namespace: dict[str, Any] = {}
    exec(f"def program():\n{textwrap.indent(code, '    ')}", namespace)
    return namespace["program"]()


def test_the_signatures_are_read() -> None:
    assert set(ALL) == {"search_products", "search_by_category", "get_product_details"}
    assert ALL["search_by_category"].module == "search"
    assert ALL["search_by_category"].parameters == {"category", "limit", "offset", "in_stock", "sort"}


def titles(value: Any) -> list[str]:
    return [each["title"] for each in value["products"]]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("How many mugs?", {"found": 4, "complete": True}),
        ("How many mugs in stock?", {"found": 3, "complete": True}),
        ("How many mugs are out of stock?", {"found": 1, "complete": True}),
        ("How many mugs under 12?", {"found": 1, "complete": True}),
        ("How many mugs up to 12.00?", {"found": 2, "complete": True}),
        ("How many mugs over 9.99 and up to 30?", {"found": 2, "complete": True}),
        ("How many mugs in the tea category?", {"found": 0, "complete": True}),
        ("How many products in the category Home?", {"found": 7}),
        ("How many products under 10 in the category Home?", {"found": 3}),
        ("How many lamps?", {"found": 1, "complete": True}),
        ("How many unicorns?", {"found": 0, "complete": True}),
        (
            "average price of mugs",
            {"found": 3, "average": "17.33 EUR", "lowest": "9.99 EUR", "highest": "30.00 EUR"},
        ),
        ("average price of unicorns", {"found": 0}),
        (
            "products in the category Home by category",
            {"found": 7, "categories": {"Home > Kitchen": 4, "Home > Tea": 1, "Home > Lamps": 1, "Home > Outdoor": 1}},
        ),
    ],
)
def test_a_program_finds_its_answer(shop: Shop, question: str, expected: Any) -> None:
    assert run(program.first(read(question), ALL)) == expected


def test_the_cheapest_and_the_dearest_lead_their_lists(shop: Shop) -> None:
    assert titles(run(program.first(read("the cheapest mug"), ALL))) == ["Red Mug", "Blue mug", "Mugs, set of four"]
    assert titles(run(program.first(read("the 1 most expensive mug"), ALL))) == ["Mugs, set of four"]


def test_a_category_is_asked_for_in_the_order_that_matters(shop: Shop) -> None:
    run(program.first(read("the most expensive product in the category Home"), ALL))
    assert shop.calls == [("Home", {"limit": 200, "offset": 0, "sort": "-price"})]


def test_a_list_is_left_as_it_was_ranked(shop: Shop) -> None:
    assert titles(run(program.first(read("show me 2 things for tea"), ALL))) == ["Red Mug", "Blue mug"]
    assert shop.calls[0][1]["limit"] == 2


def test_two_kinds_are_compared(shop: Shop) -> None:
    value = run(program.first(read("compare mugs and cups"), ALL))
    assert value == {
        "mugs": {"found": 4, "in_stock": 3, "lowest": "9.99", "median": "12.00", "highest": "30.00"},
        "cups": {"found": 1, "in_stock": 1, "lowest": "7.00", "median": "7.00", "highest": "7.00"},
    }


def test_details_are_small(shop: Shop) -> None:
    value = run(program.first(read("details of sku L-1"), ALL))
    assert (value["title"], value["price"], value["stock"]) == ("Desk lamp", "19.90 EUR", 1)
    assert len(value["description"]) == 300


def test_what_stock_is_worth_fails_first_and_is_mended(shop: Shop) -> None:
    question = read("What is our stock of mugs worth?")
    with pytest.raises(TypeError):
        run(program.first(question, ALL))
    assert run(program.mended(question, ALL, error="TypeError")) == {
        "found": 2,
        "worth": "99.90 EUR",
        "left_out": 2,
    }


@pytest.mark.parametrize("question", ["details of sku X-9", "how many mugs in the category Nowhere", "cheapest mug"])
def test_after_any_other_error_a_plain_search_is_left(shop: Shop, question: str) -> None:
    value = run(program.mended(read(question), ALL, error="ToolError"))
    assert value["instead"] is True
    assert len(titles(value)) == 5


def test_a_tool_that_cannot_filter_leaves_it_to_the_program(shop: Shop) -> None:
    bare = program.parse_signatures("# servers.search\nsearch_products(query: str, *, limit: int = 5) -> list[Product]")
    assert run(program.first(read("how many mugs in stock"), bare)) == {"found": 3, "complete": True}
    assert shop.calls[0][1]["in_stock"] is None


@given(st.text(max_size=200), st.sampled_from(Aim), st.booleans())
def test_every_program_passes_the_sandboxs_validation(words: str, aim: Aim, mended: bool) -> None:
    question = Question(aim=aim, subject=words, other=words, sku=words, category=words[:3], in_stock=True)
    code = program.mended(question, ALL, error="TypeError") if mended else program.first(question, ALL)
    compile(f"def program():\n{textwrap.indent(code, '    ')}", "program", "exec")
    assert validation.check(ast.parse(code)) is None

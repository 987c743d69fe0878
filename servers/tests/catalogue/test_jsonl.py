"""One JSON product a line, refused with the field's name where it is wrong."""

import json

import pytest

from servers.catalogue.rows import Offer
from servers.tests.catalogue.reading import bad, products, read, variants


def line(**fields: object) -> str:
    return json.dumps({"id": "1", "title": "Thing"} | fields) + "\n"


def test_a_product_is_read_with_its_variants() -> None:
    text = line(
        id=7,
        sku="T",
        title="Tee &amp; Co",
        description="<p>Soft</p>",
        currency="USD",
        categories=["A>B"],
        tags=["x"],
        attributes={"Fit": ["Slim"]},
        variants=[{"id": "7-s", "attributes": {"Size": "S"}, "price": "5.00", "stock": 0}],
    )
    items = read("jsonl", text)
    (tee,), (small,) = products(items), variants(items)
    assert (tee.id, tee.title, tee.description, tee.categories) == ("7", "Tee & Co", "Soft", ["A > B"])
    assert tee.attributes == {"Fit": ["Slim"], "Size": ["S"]}
    assert (small.parent_id, small.title) == ("7", "S")
    assert small.offer == Offer(currency="USD", price_minor=500, stock=0, in_stock=False)


@pytest.mark.parametrize(
    ("price", "minor"), [('"19.99"', 1999), ("19.99", 1999), ("0.29", 29), ("20", 2000), ("null", None)]
)
def test_a_price_may_be_a_number_and_stays_exact(price: str, minor: int | None) -> None:
    (product,) = products(read("jsonl", f'{{"id": "1", "title": "T", "price": {price}}}\n'))
    assert product.offer.price_minor == minor


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON: "),
        ("[]", "line: Input should be"),
        ('{"id": "1"}', "title: Field required"),
        (line(colour="red"), "colour: Extra inputs are not permitted"),
        (line(price="x"), "price: 'x' is not a price"),
        (line(price=-1), "price: '-1' is not a price"),
        ('{"id": "1", "title": "T", "price": NaN}', "not JSON: NaN is not JSON"),
        ('{"id": "1", "title": "T", "price": 1e400}', "price: "),
        (line(currency="euro"), "currency: 'euro' is not a code"),
        (line(stock="many"), "stock: Input should be a valid integer"),
        (line(title="a\0"), "holds a NUL character"),
        (line(title="\ud800"), "title: Input should be a valid string"),
        (line(variants=[{"id": "v", "price": "x"}]), "price: 'x' is not a price"),
        ("[" * 100_000, "not JSON: "),
        ("9" * 5000, "not JSON: "),
    ],
)
def test_a_bad_line_is_told_and_the_rest_is_read(text: str, reason: str) -> None:
    items = read("jsonl", f"{line(id='a')}\n{text.strip()}\n{line(id='b')}")
    ((number, told),) = bad(items)
    assert number == 3
    assert told.startswith(reason), told
    assert [product.id for product in products(items)] == ["a", "b"]


def test_a_line_that_is_too_long_is_refused_without_losing_the_next() -> None:
    items = read("jsonl", line(description="x" * 9_000_000) + line(id="b"))
    assert bad(items) == [(1, "the line is above 4 MiB")]
    assert [product.id for product in products(items)] == ["b"]

"""Shopify's export is read as products with their variants."""

import csv
import io

import pytest

from servers.tests.catalogue.reading import bad, products, read, variants

COLUMNS = (
    "Handle", "Title", "Body (HTML)", "Vendor", "Product Category", "Type", "Tags", "Published", "Option1 Name",
    "Option1 Value", "Option2 Name", "Option2 Value", "Option3 Name", "Option3 Value", "Variant SKU",
    "Variant Inventory Tracker", "Variant Inventory Qty", "Variant Inventory Policy", "Variant Price",
    "Variant Compare At Price", "Image Src", "Status",
)  # fmt: skip


def export(*rows: dict[str, str]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({"Handle": "tee"} | row for row in rows)
    return out.getvalue()


FIRST = {"Title": "Tee", "Option1 Name": "Size", "Option1 Value": "S", "Option2 Name": "Colour", "Option2 Value": "Red"}
SINGLE = {"Title": "Mug", "Option1 Name": "Title", "Option1 Value": "Default Title"}


def test_the_first_row_of_a_handle_is_the_product_and_every_row_a_variant() -> None:
    text = export(
        FIRST
        | {"Body (HTML)": "<p>Soft</p>", "Vendor": "Acme", "Product Category": "Apparel > Shirts", "Type": "Tees"}
        | {"Tags": "a, b", "Variant SKU": "T-S", "Variant Price": "20.00", "Variant Compare At Price": "25.00"},
        {"Option1 Value": "M", "Option2 Value": "Red", "Variant SKU": "T-M", "Variant Price": "21.00"},
        {"Image Src": "https://shop.example/2.jpg"},
    )
    items = read("shopify-csv", text)
    (tee,) = products(items)
    assert (tee.line, tee.id, tee.title, tee.vendor, tee.description) == (2, "tee", "Tee", "Acme", "Soft")
    assert tee.categories == ["Apparel > Shirts", "Tees"]
    assert tee.attributes == {"Size": ["S", "M"], "Colour": ["Red"]}
    small, medium = variants(items)
    assert (small.id, small.sku, small.attributes) == ("S / Red", "T-S", {"Size": "S", "Colour": "Red"})
    assert (small.offer.price_minor, small.offer.regular_price_minor) == (2000, 2500)
    assert (medium.line, medium.parent_id, medium.offer.price_minor) == (3, "tee", 2100)
    assert bad(items) == []


def test_a_product_without_options_has_no_variants() -> None:
    row = SINGLE | {
        "Variant SKU": "M1",
        "Variant Price": "9.5",
        "Variant Inventory Tracker": "shopify",
        "Variant Inventory Qty": "3",
    }
    items = read("shopify-csv", export(row))
    (mug,) = products(items)
    assert variants(items) == []
    assert (mug.sku, mug.offer.price_minor, mug.offer.stock, mug.attributes) == ("M1", 950, 3, {})


@pytest.mark.parametrize(
    ("cells", "stock", "in_stock"),
    [
        ({"Variant Inventory Tracker": "shopify", "Variant Inventory Qty": "3"}, 3, True),
        (
            {"Variant Inventory Tracker": "shopify", "Variant Inventory Qty": "0", "Variant Inventory Policy": "deny"},
            0,
            False,
        ),
        (
            {
                "Variant Inventory Tracker": "shopify",
                "Variant Inventory Qty": "-2",
                "Variant Inventory Policy": "continue",
            },
            -2,
            True,
        ),
        ({"Variant Inventory Qty": "7"}, None, True),
        ({"Variant Inventory Tracker": "shopify"}, None, False),
    ],
)
def test_stock_counts_only_where_it_is_tracked(cells: dict[str, str], stock: int | None, in_stock: bool) -> None:
    (mug,) = products(read("shopify-csv", export(SINGLE | cells)))
    assert (mug.offer.stock, mug.offer.in_stock) == (stock, in_stock)


@pytest.mark.parametrize(
    ("cells", "visible"),
    [
        ({"Status": "active", "Published": "TRUE"}, True),
        ({"Status": "draft"}, False),
        ({"Status": "archived"}, False),
        ({"Published": "FALSE"}, False),
        ({}, True),
    ],
)
def test_drafts_are_not_visible(cells: dict[str, str], visible: bool) -> None:
    assert products(read("shopify-csv", export(SINGLE | cells)))[0].visible is visible


def test_handles_that_are_apart_are_told_apart() -> None:
    items = read(
        "shopify-csv", export(FIRST, {"Handle": "mug"} | SINGLE, {"Option1 Value": "L", "Option2 Value": "Red"})
    )
    assert [product.id for product in products(items)] == ["tee", "mug"]
    assert [(variant.line, variant.parent_id) for variant in variants(items)] == [(2, "tee"), (4, "tee")]


def test_a_bad_variant_costs_itself_only() -> None:
    items = read("shopify-csv", export(FIRST, {"Option1 Value": "M", "Variant Price": "x"}, {"Option1 Value": "L"}))
    assert bad(items) == [(3, "Variant Price: 'x' is not a price; write it like 19.99")]
    assert [variant.title for variant in variants(items)] == ["S / Red", "L"]


def test_a_refused_product_is_reported_once_and_its_other_rows_look_for_it() -> None:
    items = read("shopify-csv", export(FIRST | {"Type": "t" * 300}, {"Option1 Value": "L"}))
    assert [line for line, _ in bad(items)] == [2]
    assert [variant.line for variant in variants(items)] == [3]


def test_a_row_without_a_handle_is_told() -> None:
    assert bad(read("shopify-csv", export({"Handle": ""} | SINGLE))) == [(2, "Handle is empty")]


def test_the_newer_template_is_read_too() -> None:
    text = "URL handle,Title,Description,Price,Compare-at price,SKU\nmug,Mug,<p>Hot</p>,9.00,10.00,M\n"
    (mug,) = products(read("shopify-csv", text))
    assert (mug.id, mug.description, mug.sku, mug.offer.regular_price_minor) == ("mug", "Hot", "M", 1000)

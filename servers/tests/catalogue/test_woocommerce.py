"""WooCommerce's export is read as its exporter wrote it."""

import csv
import io

import pytest

from servers.catalogue.rows import Offer
from servers.tests.catalogue.reading import bad, products, read, variants

COLUMNS = (
    "ID", "Type", "SKU", "Name", "Published", "Visibility in catalog", "Short description", "Description",
    "Date sale price starts", "Date sale price ends", "In stock?", "Stock", "Sale price", "Regular price", "Categories",
    "Tags", "Parent", "Attribute 1 name", "Attribute 1 value(s)", "Attribute 1 visible", "Attribute 1 global",
    "Attribute 2 name", "Attribute 2 value(s)",
)  # fmt: skip


def export(*rows: dict[str, str]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({"Type": "simple", "Name": "Thing", "Published": "1"} | row for row in rows)
    return out.getvalue()


def one(**cells: str) -> Offer:
    (product,) = products(read("woocommerce-csv", export({"ID": "1"} | cells)))
    return product.offer


def test_a_simple_product_is_read_whole() -> None:
    text = export(
        {
            "ID": "7",
            "SKU": "mug",
            "Name": "Mug &amp; Co",
            "Short description": "A <b>mug</b>.",
            "Description": "Line one\\nLine two\nLine three, C:\\\\new",
            "In stock?": "1",
            "Stock": "12",
            "Regular price": "9.90",
            "Categories": "Kitchen > Pots\\, Pans, Gifts",
            "Tags": "hot, cold",
            "Attribute 1 name": "Colour",
            "Attribute 1 value(s)": "Red, Blue",
        }
    )
    (mug,) = products(read("woocommerce-csv", text))
    assert (mug.line, mug.id, mug.sku, mug.title) == (2, "7", "mug", "Mug & Co")
    assert mug.description == "A mug.\nLine one\nLine two\nLine three, C:\\new"
    assert mug.categories == ["Kitchen > Pots, Pans", "Gifts"]
    assert mug.tags == ["hot", "cold"]
    assert mug.attributes == {"Colour": ["Red", "Blue"]}
    assert mug.offer == Offer(currency="EUR", price_minor=990, stock=12)
    assert mug.visible


@pytest.mark.parametrize(
    ("cells", "price", "regular"),
    [
        ({"Regular price": "20"}, 2000, None),
        ({"Regular price": "20", "Sale price": "15"}, 1500, 2000),
        ({"Regular price": "20", "Sale price": "25"}, 2000, None),
        ({"Sale price": "15"}, None, None),
        ({}, None, None),
        ({"Regular price": "20,50"}, 2050, None),
        ({"Regular price": "20", "Sale price": "15", "Date sale price ends": "2026-06-14 23:59:59"}, 2000, None),
        ({"Regular price": "20", "Sale price": "15", "Date sale price ends": "2026-06-15"}, 1500, 2000),
        ({"Regular price": "20", "Sale price": "15", "Date sale price starts": "2026-06-16 0:00:00"}, 2000, None),
    ],
)
def test_a_sale_price_counts_while_the_sale_runs(cells: dict[str, str], price: int | None, regular: int | None) -> None:
    offer = one(**cells)
    assert (offer.price_minor, offer.regular_price_minor) == (price, regular)


@pytest.mark.parametrize(
    ("cells", "stock", "in_stock"),
    [
        ({"In stock?": "1", "Stock": "5"}, 5, True),
        ({"In stock?": "0", "Stock": "0"}, 0, False),
        ({"In stock?": "backorder", "Stock": "0"}, 0, True),
        ({"In stock?": "1"}, None, True),
        ({"Stock": "0"}, 0, False),
        ({}, None, True),
    ],
)
def test_stock_is_read_with_its_status(cells: dict[str, str], stock: int | None, in_stock: bool) -> None:
    offer = one(**cells)
    assert (offer.stock, offer.in_stock) == (stock, in_stock)


@pytest.mark.parametrize(
    ("cells", "visible"),
    [
        ({"Visibility in catalog": "visible"}, True),
        ({"Visibility in catalog": "hidden"}, False),
        ({"Published": "0"}, False),
        ({"Published": "-1"}, False),
        ({"Published": ""}, True),
    ],
)
def test_drafts_and_hidden_products_are_not_visible(cells: dict[str, str], visible: bool) -> None:
    (product,) = products(read("woocommerce-csv", export({"ID": "1"} | cells)))
    assert product.visible is visible


def test_variations_name_their_parent_by_sku_or_id() -> None:
    text = export(
        {"ID": "2", "Type": "variation", "Parent": "tee", "Attribute 1 name": "Size", "Attribute 1 value(s)": "L"},
        {"ID": "3", "Type": "variation", "Parent": "id:1", "Name": "", "Stock": "parent", "Regular price": "5"},
    )
    first, second = variants(read("woocommerce-csv", text))
    assert (first.parent_sku, first.parent_id, first.attributes) == ("tee", None, {"Size": "L"})
    assert (second.parent_sku, second.parent_id, second.title) == (None, "1", "3")
    assert (second.offer.stock, second.offer.in_stock) == (None, True)


def test_a_variation_that_is_switched_off_is_not_in_stock() -> None:
    (variation,) = variants(
        read(
            "woocommerce-csv",
            export({"ID": "2", "Type": "variation", "Parent": "x", "Published": "0", "In stock?": "1"}),
        )
    )
    assert not variation.offer.in_stock


def test_an_attribute_for_any_value_is_left_out_of_a_variation() -> None:
    row = {"ID": "2", "Type": "variation", "Parent": "x", "Attribute 1 name": "Size", "Attribute 1 value(s)": ""}
    assert variants(read("woocommerce-csv", export(row)))[0].attributes == {}


def test_the_exporters_apostrophe_before_formulas_is_taken_off() -> None:
    (product,) = products(read("woocommerce-csv", export({"ID": "1", "Name": "'=SUM(A1)", "SKU": "'-5"})))
    assert (product.title, product.sku) == ("=SUM(A1)", "-5")


def test_types_come_with_qualities() -> None:
    assert products(read("woocommerce-csv", export({"ID": "1", "Type": "simple, downloadable, virtual"})))


def test_without_an_id_the_sku_identifies() -> None:
    assert products(read("woocommerce-csv", export({"SKU": "only"})))[0].id == "only"


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"ID": "", "SKU": ""}, "ID and SKU are both empty"),
        ({"Name": " "}, "Name is empty"),
        ({"Type": "mystery"}, "Type: 'mystery' is not known; known are simple, variable"),
        ({"Type": "variation"}, "Parent is empty; a variation names its product"),
        ({"Regular price": "cheap"}, "Regular price: 'cheap' is not a price; write it like 19.99"),
        ({"Sale price": "1,299"}, "Sale price: '1,299' has more decimals than EUR has"),
        ({"Stock": "lots"}, "Stock: 'lots' is not a whole number"),
        ({"In stock?": "perhaps"}, "In stock?: 'perhaps' is not 1, 0 or backorder"),
        ({"Sale price": "1", "Regular price": "2", "Date sale price ends": "soon"}, "Date sale price ends: 'soon'"),
        ({"SKU": "x" * 300}, "SKU: 300 characters, 255 are the most"),
        ({"Categories": "c" * 300}, "category 'ccc"),
        ({"Stock": "9" * 30}, "stock: 999"),
    ],
)
def test_a_bad_row_is_told_by_line_and_column_and_the_rest_is_read(cells: dict[str, str], reason: str) -> None:
    items = read("woocommerce-csv", export({"ID": "1"}, {"ID": "2"} | cells, {"ID": "3"}))
    ((line, told),) = bad(items)
    assert line == 3
    assert told.startswith(reason)
    assert [product.id for product in products(items)] == ["1", "3"]

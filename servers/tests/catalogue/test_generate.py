"""A generated catalogue is the same for the same seed, looks like an export, and can be of any size."""

import hashlib
from pathlib import Path

import pytest

from servers.catalogue.drawing import draw
from servers.catalogue.generate import generate
from servers.catalogue.importer import Format
from servers.catalogue.vocabulary import FAMILIES
from servers.tests.catalogue.reading import bad, products, read, variants

FORMATS: tuple[Format, ...] = ("woocommerce-csv", "shopify-csv", "jsonl")


def written(folder: Path, format: Format, **options: int) -> bytes:
    generate(folder / "file", format=format, **({"products": 200, "seed": 1} | options))  # type: ignore[arg-type]
    return (folder / "file").read_bytes()


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, format: Format) -> None:
    assert written(tmp_path, format) == written(tmp_path, format)
    assert written(tmp_path, format) != written(tmp_path, format, seed=2)


def test_the_bytes_of_a_seed_do_not_change_with_the_version(tmp_path: Path) -> None:
    """Published figures name a seed. Where this fails on purpose, say so in the changelog."""
    digest = hashlib.sha256(written(tmp_path, "jsonl")).hexdigest()
    assert digest == "4cf95dbcebf5effafa6d01b99d831595e072bb92f9895f374e33e0ef44e4315d"


def test_a_product_does_not_depend_on_how_many_there_are() -> None:
    assert draw(7, seed=1) == draw(7, seed=1)
    assert draw(7, seed=1) != draw(8, seed=1)


@pytest.mark.parametrize("format", FORMATS)
def test_every_row_can_be_imported(tmp_path: Path, format: Format) -> None:
    items = read(format, written(tmp_path, format, products=1000).decode("utf-8-sig"))
    assert bad(items) == []
    assert len(products(items)) == 1000
    assert len(variants(items)) > 1000


def test_the_oddities_of_real_exports_are_there(tmp_path: Path) -> None:
    text = written(tmp_path, "woocommerce-csv", products=1000).decode("utf-8")
    assert text.startswith("\ufeffID,Type,SKU,")
    assert ".</p>\n<ul>" in text
    assert ".</p>\\n<ul>" in text
    assert "&amp;" in text
    assert "Pots\\, Pans" in text
    items = read("woocommerce-csv", text.removeprefix("\ufeff"))
    lines = {product.id: product.line for product in products(items)}
    by_sku = {product.sku: product.line for product in products(items)}
    assert any(each.line < lines.get(each.parent_id or "", by_sku.get(each.parent_sku, 0)) for each in variants(items))
    assert any(each.line > lines.get(each.parent_id or "", by_sku.get(each.parent_sku, 0)) for each in variants(items))
    assert any(product.offer.price_minor is None for product in products(items))
    assert any(product.offer.regular_price_minor is not None for product in products(items))
    assert any(product.sku is None for product in products(items))
    assert {product.visible for product in products(items)} == {True, False}
    assert {each.offer.stock == 0 for each in variants(items)} == {True, False}


def test_many_categories_and_hardly_a_title_twice(tmp_path: Path) -> None:
    made = products(read("jsonl", written(tmp_path, "jsonl", products=2000).decode()))
    assert len({product.categories[0] for product in made}) == len(FAMILIES) >= 30
    assert len({product.title for product in made}) > 1950


@pytest.mark.parametrize("number", [0, -1, 10_000_001])
def test_a_size_out_of_range_is_refused(tmp_path: Path, number: int) -> None:
    with pytest.raises(ValueError, match="products must be from 1 to 10000000"):
        written(tmp_path, "jsonl", products=number)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_leaves_no_file(tmp_path: Path) -> None:
    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "file", format="jsonl", products=1000, seed=1, on_progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_prices_fit_the_currency(tmp_path: Path) -> None:
    generate(tmp_path / "file", format="jsonl", products=20, seed=1, currency="JPY")
    assert bad(read("jsonl", (tmp_path / "file").read_text())) == []

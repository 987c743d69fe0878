"""Product CSV as Shopify exports it: the first row of a handle describes the product, every row a variant."""

import datetime
from collections.abc import Iterator
from typing import Final, TextIO

from servers.catalogue.csv_rows import Cells, CsvRows
from servers.catalogue.fields import count, one_line, path, plain_text, price, split_list
from servers.catalogue.rows import BadRow, Item, Offer, ProductRow, RowError, VariantRow, checked

REQUIRED: Final = (("Handle",), ("Title",), ("Variant Price",))

ALIASES: Final = {
    "url handle": "handle",
    "description": "body (html)",
    "product category": "product category",
    "published on online store": "published",
    "sku": "variant sku",
    "price": "variant price",
    "compare-at price": "variant compare at price",
    "inventory quantity": "variant inventory qty",
    "inventory tracker": "variant inventory tracker",
    "continue selling when out of stock": "variant inventory policy",
}
"""The names of the newer template."""

OPTIONS: Final = (1, 2, 3)

MOST_ROWS: Final = 5000
"""Of one handle, held at once; Shopify's own limits are 2,048 variants and 250 images. Further rows still
find their product, at the end of the import."""


def read(file: TextIO, currency: str, today: datetime.date) -> Iterator[Item]:
    """Raises UnreadableFile where the header is not Shopify's. Prices are of no day, so `today` does not matter."""
    group: list[Cells] = []
    for cells in CsvRows(file, REQUIRED, ALIASES):
        if isinstance(cells, BadRow):
            yield cells
            continue
        if group and (cells["Title"].strip() or cells["Handle"] != group[0]["Handle"] or len(group) >= MOST_ROWS):
            yield from _items(group, currency)
            group = []
        group.append(cells)
    if group:
        yield from _items(group, currency)


def _items(group: list[Cells], currency: str) -> Iterator[Item]:
    """A product with its variants; or, where no row describes the product, variants of one described elsewhere."""
    names = _option_names(group[0])
    has_product = bool(group[0]["Title"].strip())
    variants: list[VariantRow] = []
    refused: dict[int, str] = {}
    for cells in group:
        try:
            if _is_variant(cells):
                variants.append(_variant(cells, names, currency))
        except RowError as fault:
            refused[cells.line] = str(fault)
    alone = len(variants) == 1 and _is_default(group[0])
    if has_product:
        try:
            yield checked(_product(group[0], names, variants, currency, alone=alone))
        except RowError as fault:
            refused[group[0].line] = str(fault)
    yield from (BadRow(line, reason) for line, reason in refused.items())
    if not (has_product and alone):
        # A row that is reported already would be reported again as a variant without its product.
        yield from (variant for variant in variants if variant.line not in refused)


def _product(cells: Cells, names: list[str], variants: list[VariantRow], currency: str, *, alone: bool) -> ProductRow:
    handle = cells["Handle"].strip()
    if not handle:
        raise RowError("Handle is empty")
    attributes = {
        name: list(dict.fromkeys(variant.attributes[name] for variant in variants if name in variant.attributes))
        for name in names
        if any(name in variant.attributes for variant in variants)
    }
    return ProductRow(
        line=cells.line,
        id=handle,
        sku=variants[0].sku if variants else None,
        title=one_line(cells["Title"]),
        description=plain_text(cells["Body (HTML)"]),
        offer=variants[0].offer if alone else Offer(currency=currency, price_minor=None, in_stock=False),
        vendor=cells["Vendor"].strip() or None,
        categories=list(filter(None, dict.fromkeys((path(cells["Product Category"]), path(cells["Type"]))))),
        tags=split_list(cells["Tags"]),
        attributes={} if alone else attributes,
        visible=cells["Status"].strip().lower() in ("active", "")
        and cells["Published"].strip().lower() in ("true", "yes", "1", ""),
    )


def _variant(cells: Cells, names: list[str], currency: str) -> VariantRow:
    handle = cells["Handle"].strip()
    if not handle:
        raise RowError("Handle is empty")
    values = [cells[f"Option{n} Value"].strip() for n in OPTIONS]
    chosen = {name: value for name, value in zip(names, values, strict=True) if value}
    sku = cells["Variant SKU"].strip().removeprefix("'") or None
    identity = " / ".join(filter(None, values)) or sku or handle
    row = VariantRow(
        line=cells.line,
        id=identity,
        parent_id=handle,
        sku=sku,
        title=identity,
        attributes=chosen,
        offer=_offer(cells, currency),
    )
    checked(row)
    return row


def _offer(cells: Cells, currency: str) -> Offer:
    amount = price("Variant Price", cells["Variant Price"], currency)
    before = price("Variant Compare At Price", cells["Variant Compare At Price"], currency)
    on_sale = amount is not None and before is not None and amount < before
    tracked = bool(cells["Variant Inventory Tracker"].strip())
    stock = count("Variant Inventory Qty", cells["Variant Inventory Qty"])
    oversells = cells["Variant Inventory Policy"].strip().lower() in ("continue", "true")
    return Offer(
        currency=currency,
        price_minor=amount,
        regular_price_minor=before if on_sale else None,
        stock=stock if tracked else None,
        in_stock=not tracked or oversells or (stock or 0) > 0,
    )


def _option_names(cells: Cells) -> list[str]:
    return [cells[f"Option{n} Name"].strip() or f"Option {n}" for n in OPTIONS]


def _is_variant(cells: Cells) -> bool:
    """Rows beyond the variants carry further images only."""
    return any(cells[column].strip() for column in ("Option1 Value", "Variant SKU", "Variant Price"))


def _is_default(cells: Cells) -> bool:
    """How Shopify writes a product without options."""
    return cells["Option1 Value"].strip() in ("Default Title", "")

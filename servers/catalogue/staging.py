"""Rows into the temporary tables of an import, by COPY."""

import hashlib
from collections.abc import Iterable
from typing import Final

from psycopg import Connection, sql
from psycopg.types.json import Jsonb

from servers.catalogue.fields import category_keys
from servers.catalogue.rows import Offer, ProductRow, VariantRow

SEARCH_TEXT_CHARS: Final = 1500
"""Of title, categories, attributes and the description's beginning: what a product is, before what its page says."""

PRODUCT_COLUMNS: Final = (
    "line", "id", "sku", "title", "description", "vendor", "categories", "category_keys", "tags", "attributes",
    "currency", "price_minor", "regular_price_minor", "stock", "in_stock", "visible", "search_text", "text_hash",
)  # fmt: skip
VARIANT_COLUMNS: Final = (
    "line", "id", "parent_id", "parent_sku", "sku", "title", "attributes",
    "currency", "price_minor", "regular_price_minor", "stock", "in_stock",
)  # fmt: skip


def copy_products(connection: Connection, rows: Iterable[ProductRow]) -> None:
    with connection.cursor().copy(_copy_into("staged_products", PRODUCT_COLUMNS)) as copy:
        for row in rows:
            text = search_text(row)
            copy.write_row(
                (
                    row.line,
                    row.id,
                    row.sku,
                    row.title,
                    row.description,
                    row.vendor,
                    list(row.categories),
                    category_keys(row.categories),
                    list(row.tags),
                    Jsonb(dict(row.attributes)),
                    *_offer(row.offer),
                    row.visible,
                    text,
                    hashlib.sha256(text.encode()).digest(),
                )
            )


def copy_variants(connection: Connection, rows: Iterable[VariantRow]) -> None:
    with connection.cursor().copy(_copy_into("staged_variants", VARIANT_COLUMNS)) as copy:
        for row in rows:
            copy.write_row(
                (
                    row.line,
                    row.id,
                    row.parent_id,
                    row.parent_sku,
                    row.sku,
                    row.title,
                    Jsonb(dict(row.attributes)),
                    *_offer(row.offer),
                )
            )


def search_text(row: ProductRow) -> str:
    """What is embedded: the title on a line of its own, then the rest."""
    attributes = (f"{name}: {', '.join(values)}" for name, values in row.attributes.items())
    parts = (*row.categories, ", ".join(row.tags), row.vendor or "", *attributes, row.description)
    return f"{row.title}\n{'. '.join(part for part in parts if part)}"[:SEARCH_TEXT_CHARS]


def _offer(offer: Offer) -> tuple[str, int | None, int | None, int | None, bool]:
    return offer.currency, offer.price_minor, offer.regular_price_minor, offer.stock, offer.in_stock


def _copy_into(table: str, columns: Iterable[str]) -> sql.Composed:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    return sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), names)

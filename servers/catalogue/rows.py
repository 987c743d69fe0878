"""What a reader of a format hands on, whatever the format: products, variants, and rows it could not use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

MOST_KEY_CHARS: Final = 255
"""Of an id, an SKU or a category's name: more does not fit an index."""

MOST_STOCK: Final = 10**12


class RowError(ValueError):
    """Why a row cannot be imported, in words for whoever mends the file."""


class UnreadableFile(ValueError):
    """The file as a whole is not what it was said to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What it costs and whether it can be had."""

    currency: str
    price_minor: int | None
    regular_price_minor: int | None = None
    """Before a sale; None where there is none."""
    stock: int | None = None
    """None: not counted."""
    in_stock: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductRow:
    line: int
    """Where the row starts in the file, from 1."""
    id: str
    sku: str | None
    title: str
    description: str
    offer: Offer
    vendor: str | None = None
    categories: Sequence[str] = ()
    """Paths such as `Clothing > Shoes`."""
    tags: Sequence[str] = ()
    attributes: Mapping[str, Sequence[str]]
    visible: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantRow:
    line: int
    id: str
    parent_id: str | None
    parent_sku: str | None = None
    """Where the parent is known by that alone."""
    sku: str | None
    title: str
    attributes: Mapping[str, str]
    offer: Offer


@dataclass(frozen=True, slots=True)
class BadRow:
    line: int
    reason: str


Item: TypeAlias = ProductRow | VariantRow | BadRow


def checked(row: ProductRow | VariantRow) -> ProductRow | VariantRow:
    """The row. Raises RowError where the database could not hold it."""
    for name, key in (("id", row.id), ("SKU", row.sku or "")):
        if len(key) > MOST_KEY_CHARS:
            raise RowError(f"{name}: {len(key)} characters, {MOST_KEY_CHARS} are the most")
    if row.offer.stock is not None and abs(row.offer.stock) > MOST_STOCK:
        raise RowError(f"stock: {row.offer.stock} is too large")
    if isinstance(row, ProductRow):
        long = next((path for path in row.categories if len(path) > MOST_KEY_CHARS), None)
        if long is not None:
            raise RowError(f"category {long[:40]!r}...: {len(long)} characters, {MOST_KEY_CHARS} are the most")
    return row

"""One product a line, as JSON, for shops that are neither of the two.

{"id": "42", "title": "Trail shoe", "price": "89.90", "categories": ["Shoes > Running"], "stock": 5,
 "variants": [{"id": "42-red", "attributes": {"Colour": "Red"}, "price": "89.90", "stock": 2}]}

docs/how-to/import-a-catalogue.md lists every field; they are those of `Line` and `Variant`.
"""

import datetime
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final, TextIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from servers.catalogue.fields import one_line, path, plain_text, price
from servers.catalogue.rows import BadRow, Item, Offer, ProductRow, RowError, VariantRow, checked
from servers.money import is_currency

MOST_LINE_CHARS: Final = 4 * 1024 * 1024


class Shared(BaseModel):
    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    id: str = Field(min_length=1)
    sku: str | None = None
    price: str | None = None
    """Decimal; a string, or a JSON number, which is read exactly."""
    regular_price: str | None = None
    """Before a sale."""
    stock: int | None = None
    in_stock: bool | None = None
    """None: whether stock is above zero, or not counted."""


class Variant(Shared):
    title: str | None = None
    attributes: dict[str, str] = {}


class Line(Shared):
    title: str = Field(min_length=1)
    description: str = ""
    """Plain text or HTML."""
    vendor: str | None = None
    currency: str | None = None
    categories: list[str] = []
    tags: list[str] = []
    attributes: dict[str, list[str]] = {}
    visible: bool = True
    variants: list[Variant] = []


def read(file: TextIO, currency: str, today: datetime.date) -> Iterator[Item]:
    for number, text in _lines(file):
        if not text.strip():
            continue
        try:
            yield from _items(number, _line(text), currency)
        except RowError as fault:
            yield BadRow(number, str(fault))


def _lines(file: TextIO) -> Iterator[tuple[int, str]]:
    """Numbered lines; one that is too long is cut, so that it is refused without being held."""
    number = 0
    while text := file.readline(MOST_LINE_CHARS):
        number += 1
        yield number, text
        while len(text) == MOST_LINE_CHARS and not text.endswith("\n"):
            text = file.readline(MOST_LINE_CHARS)


def _line(text: str) -> Line:
    if len(text) >= MOST_LINE_CHARS:
        raise RowError(f"the line is above {MOST_LINE_CHARS // 1024 // 1024} MiB")
    if "\\u0000" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise RowError("holds a NUL character, or is not UTF-8")
    try:
        return Line.model_validate(json.loads(text, parse_float=Decimal, parse_constant=_refuse))
    except ValidationError as fault:
        first = fault.errors()[0]
        raise RowError(f"{'.'.join(map(str, first['loc'])) or 'line'}: {first['msg']}") from fault
    except (ValueError, RecursionError) as fault:
        raise RowError(f"not JSON: {fault}") from fault


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _items(number: int, line: Line, default_currency: str) -> Iterator[Item]:
    """All or none: a product whose variant is wrong is refused whole, because both stand on one line."""
    currency = line.currency or default_currency
    if not is_currency(currency):
        raise RowError(f"currency: {currency!r} is not a code such as EUR")
    variants = [checked(_variant(number, line.id, variant, currency)) for variant in line.variants]
    attributes = dict(line.attributes)
    for variant in line.variants:
        for name, value in variant.attributes.items():
            attributes[name] = list(dict.fromkeys([*attributes.get(name, []), value]))
    product = ProductRow(
        line=number,
        id=line.id,
        sku=line.sku,
        title=one_line(line.title),
        description=plain_text(line.description),
        offer=_offer(line, currency),
        vendor=line.vendor,
        categories=[one for one in map(path, line.categories) if one],
        tags=line.tags,
        attributes=attributes,
        visible=line.visible,
    )
    yield checked(product)
    yield from variants


def _variant(number: int, parent: str, variant: Variant, currency: str) -> VariantRow:
    return VariantRow(
        line=number,
        id=variant.id,
        parent_id=parent,
        sku=variant.sku,
        title=variant.title or " / ".join(variant.attributes.values()) or variant.id,
        attributes=variant.attributes,
        offer=_offer(variant, currency),
    )


def _offer(shared: Shared, currency: str) -> Offer:
    amount = price("price", shared.price or "", currency)
    before = price("regular_price", shared.regular_price or "", currency)
    on_sale = amount is not None and before is not None and amount < before
    counted = shared.stock is None or shared.stock > 0
    return Offer(
        currency=currency,
        price_minor=amount,
        regular_price_minor=before if on_sale else None,
        stock=shared.stock,
        in_stock=counted if shared.in_stock is None else shared.in_stock,
    )

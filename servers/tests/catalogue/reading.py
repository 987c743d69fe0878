"""Runs a reader over a text as the importer would over a file."""

import datetime
import io

from servers.catalogue.importer import READERS, Format
from servers.catalogue.rows import BadRow, Item, ProductRow, VariantRow

TODAY = datetime.date(2026, 6, 15)


def read(format: Format, text: str, currency: str = "EUR") -> list[Item]:
    return list(READERS[format](io.StringIO(text, newline=""), currency, TODAY))


def products(items: list[Item]) -> list[ProductRow]:
    return [item for item in items if isinstance(item, ProductRow)]


def variants(items: list[Item]) -> list[VariantRow]:
    return [item for item in items if isinstance(item, VariantRow)]


def bad(items: list[Item]) -> list[tuple[int, str]]:
    return [(item.line, item.reason) for item in items if isinstance(item, BadRow)]

"""Product CSV as WooCommerce exports it, variations before or after their parents.

What its exporter does to values is undone here: `\\n` for line ends, backslashes before commas in
lists, an apostrophe before what a spreadsheet would take for a formula.
"""

import datetime
from collections.abc import Iterator
from typing import Final, TextIO

from servers.catalogue.csv_rows import Cells, CsvRows
from servers.catalogue.fields import count, one_line, path, plain_text, price, split_list
from servers.catalogue.rows import BadRow, Item, Offer, ProductRow, RowError, VariantRow, checked

REQUIRED: Final = (("Type",), ("Name",), ("ID", "SKU"))
TYPES: Final = ("simple", "variable", "variation", "grouped", "external")
FORMULA_STARTS: Final = ("'=", "'+", "'-", "'@", "'\t", "'\r")


def read(file: TextIO, currency: str, today: datetime.date) -> Iterator[Item]:
    """Raises UnreadableFile where the header is not WooCommerce's."""
    rows = CsvRows(file, REQUIRED)
    numbers = [
        column.split()[1] for column in rows.columns if column.startswith("attribute ") and column.endswith(" name")
    ]
    for cells in rows:
        if isinstance(cells, BadRow):
            yield cells
            continue
        try:
            yield checked(_item(cells, numbers, currency, today))
        except RowError as fault:
            yield BadRow(cells.line, str(fault))


def _item(cells: Cells, numbers: list[str], currency: str, today: datetime.date) -> ProductRow | VariantRow:
    kind = next(iter(split_list(cells["Type"].lower())), "")
    if kind not in TYPES:
        raise RowError(f"Type: {cells['Type']!r} is not known; known are {', '.join(TYPES)}")
    sku = _text(cells["SKU"]) or None
    identity = cells["ID"].strip() or sku
    if identity is None:
        raise RowError("ID and SKU are both empty; one must say which product this is")
    offer = _offer(cells, currency, today)
    attributes = _attributes(cells, numbers)
    if kind == "variation":
        return _variation(cells, identity, sku, offer, attributes)
    title = one_line(_text(cells["Name"]))
    if not title:
        raise RowError("Name is empty")
    return ProductRow(
        line=cells.line,
        id=identity,
        sku=sku,
        title=title,
        description=_description(cells),
        offer=offer,
        vendor=_text(cells["Brands"]) or None,
        categories=[path(one) for one in split_list(_text(cells["Categories"]))],
        tags=split_list(_text(cells["Tags"])),
        attributes=attributes,
        visible=cells["Published"].strip() in ("1", "") and cells["Visibility in catalog"].strip() != "hidden",
    )


def _variation(
    cells: Cells, identity: str, sku: str | None, offer: Offer, attributes: dict[str, list[str]]
) -> VariantRow:
    parent = _text(cells["Parent"]).strip()
    if not parent:
        raise RowError("Parent is empty; a variation names its product by SKU or as id:123")
    chosen = {name: values[0] for name, values in attributes.items() if values}
    by_id = parent.lower().startswith("id:")
    return VariantRow(
        line=cells.line,
        id=identity,
        parent_id=parent[3:].strip() if by_id else None,
        parent_sku=None if by_id else parent,
        sku=sku,
        title=one_line(_text(cells["Name"])) or " / ".join(chosen.values()) or identity,
        attributes=chosen,
        offer=offer,
    )


def _offer(cells: Cells, currency: str, today: datetime.date) -> Offer:
    regular = price("Regular price", cells["Regular price"], currency)
    sale = price("Sale price", cells["Sale price"], currency)
    on_sale = sale is not None and regular is not None and sale < regular and _sale_runs(cells, today)
    managed = cells["Stock"].strip().lower()
    stock = None if managed == "parent" else count("Stock", managed)
    return Offer(
        currency=currency,
        price_minor=sale if on_sale else regular,
        regular_price_minor=regular if on_sale else None,
        stock=stock,
        in_stock=_in_stock(cells, stock),
    )


def _in_stock(cells: Cells, stock: int | None) -> bool:
    """What can be ordered; WooCommerce counts backorders in."""
    if split_list(cells["Type"].lower())[0] == "variation" and cells["Published"].strip() not in ("1", ""):
        return False
    match cells["In stock?"].strip().lower():
        case "1" | "yes" | "true" | "instock" | "backorder" | "onbackorder":
            return True
        case "":
            return stock is None or stock > 0
        case "0" | "no" | "false" | "outofstock":
            return False
        case other:
            raise RowError(f"In stock?: {other!r} is not 1, 0 or backorder")


def _sale_runs(cells: Cells, today: datetime.date) -> bool:
    start, end = (_date(column, cells[column]) for column in ("Date sale price starts", "Date sale price ends"))
    return (start is None or start <= today) and (end is None or today <= end)


def _date(column: str, cell: str) -> datetime.date | None:
    if not cell.strip():
        return None
    try:
        return datetime.date.fromisoformat(cell.strip()[:10])
    except ValueError as fault:
        raise RowError(f"{column}: {cell!r} is not a date; write it like 2026-01-31") from fault


def _attributes(cells: Cells, numbers: list[str]) -> dict[str, list[str]]:
    pairs = ((cells[f"Attribute {n} name"], cells[f"Attribute {n} value(s)"]) for n in numbers)
    return {_text(name).strip(): split_list(_text(values)) for name, values in pairs if name.strip()}


def _description(cells: Cells) -> str:
    parts = (plain_text(_lines(_text(cells[column]))) for column in ("Short description", "Description"))
    return "\n".join(part for part in parts if part)


def _text(cell: str) -> str:
    return cell[1:] if cell.startswith(FORMULA_STARTS) else cell


def _lines(cell: str) -> str:
    """The exporter writes a line end as backslash and n, and those two characters with one more backslash."""
    return "\\n".join(part.replace("\\n", "\n") for part in cell.split("\\\\n"))

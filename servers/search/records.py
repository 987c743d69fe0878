"""What the search tools return, and how it is read from the database's rows."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from servers.money import to_text
from servers.tool import Record


class Price(Record):
    amount_minor: int = Field(description="In the currency's smallest unit: 1999 is 19.99 EUR")
    currency: str
    amount: str = Field(description="The same as decimal text")


class Sellable(Record):
    """What a product and a variant have in common."""

    id: str
    sku: str | None
    title: str
    price: Price | None = Field(description="A product's is that of its cheapest variant")
    regular_price: Price | None = Field(description="Before a sale; None when not on sale")
    stock: int | None = Field(description="A product's is that of all variants; None when not counted")
    in_stock: bool = Field(description="Can be ordered, backorders included")


class Product(Sellable):
    categories: list[str] = Field(description="Paths such as 'Clothing > Shoes'")
    variant_count: int
    score: float | None = Field(description="Relevance from 0 to 1; None where nothing was searched for")


class Variant(Sellable):
    attributes: dict[str, str]


class ProductDetails(Product):
    description: str = Field(description="Plain text")
    vendor: str | None
    tags: list[str]
    attributes: dict[str, list[str]]
    variants: list[Variant]


def price(row: Mapping[str, Any], column: str = "price_minor") -> Price | None:
    minor, currency = row[column], row["currency"]
    if minor is None or currency is None:
        return None
    return Price(amount_minor=minor, currency=currency, amount=to_text(minor, currency))


def product(row: Mapping[str, Any]) -> Product:
    return Product(**_sellable(row), **_listed(row))


def variant(row: Mapping[str, Any]) -> Variant:
    return Variant(**_sellable(row), attributes=row["attributes"])


def details(row: Mapping[str, Any], variants: list[Variant]) -> ProductDetails:
    more = {name: row[name] for name in ("description", "vendor", "tags", "attributes")}
    return ProductDetails(**_sellable(row), **_listed(row), **more, variants=variants)


def _sellable(row: Mapping[str, Any]) -> dict[str, Any]:
    same = {name: row[name] for name in ("id", "sku", "title", "stock", "in_stock")}
    return {**same, "price": price(row), "regular_price": price(row, "regular_price_minor")}


def _listed(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"categories": row["categories"], "variant_count": row["variant_count"], "score": row.get("score")}

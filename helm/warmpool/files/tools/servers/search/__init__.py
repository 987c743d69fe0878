# Generated from the tool definitions, catalogue 4d2d8c067bdcdafb.
from __future__ import annotations
from typing import Any, Literal, NotRequired, TypedDict
from warmpool_sandbox.tools import call as _call

class Price(TypedDict):
    amount_minor: int  # In the currency's smallest unit: 1999 is 19.99 EUR
    currency: str
    amount: str  # The same as decimal text

class Variant(TypedDict):
    id: str
    sku: str | None
    title: str
    price: Price | None  # A product's is that of its cheapest variant
    regular_price: Price | None  # Before a sale; None when not on sale
    stock: int | None  # A product's is that of all variants; None when not counted
    in_stock: bool  # Can be ordered, backorders included
    attributes: dict[str, str]

class ProductDetails(TypedDict):
    id: str
    sku: str | None
    title: str
    price: Price | None  # A product's is that of its cheapest variant
    regular_price: Price | None  # Before a sale; None when not on sale
    stock: int | None  # A product's is that of all variants; None when not counted
    in_stock: bool  # Can be ordered, backorders included
    categories: list[str]  # Paths such as 'Clothing > Shoes'
    variant_count: int
    score: float | None  # Relevance from 0 to 1; None where nothing was searched for
    description: str  # Plain text
    vendor: str | None
    tags: list[str]
    attributes: dict[str, list[str]]
    variants: list[Variant]

class Product(TypedDict):
    id: str
    sku: str | None
    title: str
    price: Price | None  # A product's is that of its cheapest variant
    regular_price: Price | None  # Before a sale; None when not on sale
    stock: int | None  # A product's is that of all variants; None when not counted
    in_stock: bool  # Can be ordered, backorders included
    categories: list[str]  # Paths such as 'Clothing > Shoes'
    variant_count: int
    score: float | None  # Relevance from 0 to 1; None where nothing was searched for

class CategoryPage(TypedDict):
    total: int  # Of the whole category, filters applied
    products: list[Product]

def get_product_details(product_id: str) -> ProductDetails:
    """Get one product with its description and all variants.

    Fails with code `not_found` where there is none.

    product_id: A product's id, or the SKU of it or of a variant
    """
    return _call("search.get_product_details", {"product_id": product_id})

def search_by_category(category: str, *, limit: int = 50, offset: int = 0, in_stock: bool | None = None, sort: Literal['title', 'price', '-price', '-stock'] = 'title') -> CategoryPage:
    """List a category's products, subcategories included; `total` counts all pages.

    Fails with code `unknown_category`, and the nearest names in `nearest`, where no product has the category.

    category: A name ('Shoes') or a path ('Clothing > Shoes'), in any case
    limit: At most 200
    offset: Products to skip, for the next page
    """
    return _call("search.search_by_category", {"category": category, "limit": limit, "offset": offset, "in_stock": in_stock, "sort": sort})

def search_products(query: str, *, limit: int = 20, in_stock: bool | None = None, min_price_minor: int | None = None, max_price_minor: int | None = None, currency: str | None = None) -> list[Product]:
    """Find products by meaning and words, best first. Filters apply before the limit.

    query: What is looked for, in plain words, or an SKU
    limit: At most 200
    min_price_minor: In the currency's smallest unit, as is the maximum
    currency: A code such as EUR
    """
    return _call("search.search_products", {"query": query, "limit": limit, "in_stock": in_stock, "min_price_minor": min_price_minor, "max_price_minor": max_price_minor, "currency": currency})

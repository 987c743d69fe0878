"""The products of a category, page by page."""

import asyncio
import difflib
from typing import Final, Literal

from psycopg import sql
from psycopg.rows import dict_row
from pydantic import Field

from servers.catalogue.fields import path
from servers.queries import query
from servers.search.records import Product, product
from servers.tool import Arguments, Context, Record, tool
from warmpool.errors import ToolFailed

QUERY = query("servers.search", "search_by_category")

ORDERS: Final = {
    "title": "title",
    "price": "price_minor ASC NULLS LAST",
    "-price": "price_minor DESC NULLS LAST",
    "-stock": "stock DESC NULLS LAST",
}

CATEGORIES: Final = """
SELECT DISTINCT unnest(categories) FROM products WHERE tenant = %s AND visible LIMIT 2000"""


class SearchByCategory(Arguments):
    category: str = Field(
        min_length=1, max_length=255, description="A name ('Shoes') or a path ('Clothing > Shoes'), in any case"
    )
    limit: int = Field(50, ge=1, le=200, description="At most 200")
    offset: int = Field(0, ge=0, le=1_000_000, description="Products to skip, for the next page")
    in_stock: bool | None = None
    sort: Literal["title", "price", "-price", "-stock"] = "title"


class CategoryPage(Record):
    total: int = Field(description="Of the whole category, filters applied")
    products: list[Product]


@tool(category="search", read_only=True)
async def search_by_category(context: Context, arguments: SearchByCategory) -> CategoryPage:
    """List a category's products, subcategories included; `total` counts all pages.

    Fails with code `unknown_category`, and the nearest names in `nearest`, where no product has the category.
    """
    category = path(arguments.category).casefold()
    parameters = {**arguments.model_dump(exclude={"sort"}), "tenant": context.tenant, "category": category}
    statement = sql.SQL(QUERY).format(order=sql.SQL(ORDERS[arguments.sort]))
    async with context.database.connection() as connection:
        cursor = await connection.cursor(row_factory=dict_row).execute(statement, parameters)
        rows = await cursor.fetchall()
    if rows:
        return CategoryPage(total=rows[0]["total"], products=[product(row) for row in rows])
    return CategoryPage(total=await _count(context, category, arguments.in_stock), products=[])


async def _count(context: Context, category: str, in_stock: bool | None) -> int:
    """Of an empty page: it lies past the end, or the filter left nothing, or there is no such category."""
    async with context.database.connection() as connection:
        cursor = await connection.execute(
            "SELECT count(*), count(*) FILTER (WHERE %(in_stock)s::boolean IS NULL OR in_stock = %(in_stock)s) "
            "FROM products WHERE tenant = %(tenant)s AND visible AND category_keys @> ARRAY[%(category)s]",
            {"tenant": context.tenant, "category": category, "in_stock": in_stock},
        )
        known, kept = await cursor.fetchone() or (0, 0)
        if known:
            return int(kept)
        names = [str(row[0]) async for row in await connection.execute(CATEGORIES, (context.tenant,))]
    nearest = await asyncio.to_thread(_nearest, category, names)  # 0.1 s and more of 2,000 names, and others wait
    hint = f"; the nearest are {', '.join(nearest)}" if nearest else ""
    raise ToolFailed(f"no product has the category {category!r}{hint}", code="unknown_category", nearest=nearest)


def _nearest(category: str, names: list[str]) -> list[str]:
    """Up to five paths whose last step, or whole, looks like what was asked for."""
    spelled = {name.casefold(): name for name in names} | {name.split(" > ")[-1].casefold(): name for name in names}
    found = difflib.get_close_matches(category.split(" > ")[-1], spelled, n=5, cutoff=0.5)
    return list(dict.fromkeys(spelled[key] for key in found)) or sorted(names)[:5]

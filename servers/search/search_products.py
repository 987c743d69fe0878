"""Search by words and meaning together."""

from typing import Any, Final

from psycopg import sql
from psycopg.rows import dict_row
from pydantic import Field

from servers.embedding import Embedder, as_text, require_same_model
from servers.queries import query
from servers.search.records import Product, product
from servers.tool import Arguments, Context, tool

QUERY = query("servers.search", "search_products")
FEWEST_CANDIDATES: Final = 100
"""Of each list that is fused: below it, what both lists agree on is too often missing from one."""

MODEL = "SELECT model, dimensions FROM catalogue_embedding"


class SearchProducts(Arguments):
    query: str = Field(min_length=1, max_length=500, description="What is looked for, in plain words, or an SKU")
    limit: int = Field(20, ge=1, le=200, description="At most 200")
    in_stock: bool | None = None
    min_price_minor: int | None = Field(None, ge=0, description="In the currency's smallest unit, as is the maximum")
    max_price_minor: int | None = Field(None, ge=0)
    currency: str | None = Field(None, pattern="^[A-Z]{3}$", description="A code such as EUR")


@tool(category="search", read_only=True)
async def search_products(context: Context, arguments: SearchProducts) -> list[Product]:
    """Find products by meaning and words, best first. Filters apply before the limit."""
    embedder = context.embedder
    vector = (await embedder.embed([arguments.query]))[0]
    parameters: dict[str, Any] = {
        **arguments.model_dump(),
        "tenant": context.tenant,
        "vector": as_text(vector),
        "max_distance": embedder.max_distance,
        "candidates": max(FEWEST_CANDIDATES, 2 * arguments.limit),
    }
    async with context.database.connection() as connection:
        model = await connection.execute(MODEL)
        require_same_model(await model.fetchone(), embedder)
        cursor = await connection.cursor(row_factory=dict_row).execute(_statement(embedder), parameters)
        return [product(row) for row in await cursor.fetchall()]


def _statement(embedder: Embedder) -> sql.Composed:
    return sql.SQL(QUERY).format(dimensions=sql.SQL(str(int(embedder.dimensions))))

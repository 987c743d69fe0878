"""One product in full."""

from typing import Final

from psycopg.rows import dict_row
from pydantic import Field

from servers.search.records import ProductDetails, details, variant
from servers.tool import Arguments, Context, tool
from warmpool.errors import ToolFailed

PRODUCT: Final = """
SELECT id, sku, title, description, vendor, categories, tags, attributes, currency, price_minor, regular_price_minor,
    stock, in_stock, variant_count
FROM products
WHERE tenant = %(tenant)s AND visible AND (
    id = %(key)s
    OR sku = %(key)s
    OR id = (SELECT product_id FROM variants WHERE tenant = %(tenant)s AND sku = %(key)s ORDER BY product_id LIMIT 1)
)
ORDER BY id = %(key)s DESC, sku = %(key)s DESC NULLS LAST, id
LIMIT 1"""

VARIANTS: Final = """
SELECT id, sku, title, attributes, currency, price_minor, regular_price_minor, stock, in_stock
FROM variants
WHERE tenant = %(tenant)s AND product_id = %(product)s
ORDER BY position"""


class GetProductDetails(Arguments):
    product_id: str = Field(
        min_length=1, max_length=255, description="A product's id, or the SKU of it or of a variant"
    )


@tool(category="search", read_only=True)
async def get_product_details(context: Context, arguments: GetProductDetails) -> ProductDetails:
    """Get one product with its description and all variants.

    Fails with code `not_found` where there is none.
    """
    key = {"tenant": context.tenant, "key": arguments.product_id}
    async with context.database.connection() as connection:
        cursor = connection.cursor(row_factory=dict_row)
        row = await (await cursor.execute(PRODUCT, key)).fetchone()
        if row is None:
            raise ToolFailed(
                f"no product has the id or SKU {arguments.product_id!r}; search_products finds ids",
                code="not_found",
                product_id=arguments.product_id,
            )
        found = await cursor.execute(VARIANTS, {"tenant": context.tenant, "product": row["id"]})
        return details(row, [variant(each) for each in await found.fetchall()])

"""Finding products: by what they are, by category, and one in full."""

from servers.search.get_product_details import get_product_details
from servers.search.search_by_category import search_by_category
from servers.search.search_products import search_products

TOOLS = (search_products, search_by_category, get_product_details)

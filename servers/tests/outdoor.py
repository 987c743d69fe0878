"""A small hand-made catalogue, and the types of the fixtures that import it."""

from collections.abc import Callable
from typing import Any, TypeAlias

from servers.catalogue.importer import Report
from servers.catalogue.rows import BadRow

Import: TypeAlias = Callable[..., tuple[Report, list[BadRow]]]
ImportProducts: TypeAlias = Callable[..., None]


def product(id: str, title: str, category: str, price: str | None = "10.00", **more: Any) -> dict[str, Any]:
    return {"id": id, "title": title, "categories": [category], "price": price, "stock": 5, **more}


OUTDOOR = [
    product(
        "boots", "Alpine Hiking Boots", "Footwear > Hiking", "129.00", description="Sturdy boots for mountain tours."
    ),
    product(
        "trail", "Women's Trail Running Shoes", "Footwear > Running", "89.90", attributes={"Colour": ["Red", "Blue"]}
    ),
    product(
        "road", "Men's Road Running Shoes", "Footwear > Running", "79.90", attributes={"Colour": ["Black"]}, stock=0
    ),
    product("sandals", "Beach Sandals", "Footwear > Summer", "19.90", description="Light sandals for hot days."),
    product("tent2", "Two-Person Tent", "Camping > Tents", "199.00", description="Waterproof, 2.1 kg."),
    product("tent4", "Family Tent for Four", "Camping > Tents", "349.00", stock=None),
    product("stove", "Gas Camping Stove", "Camping > Cooking", "39.50"),
    product("jacket", "Kids' Rain Jacket", "Clothing > Jackets", "45.00", regular_price="60.00", tags=["children"]),
    product("down", "Down Jacket", "Clothing > Jackets", None, sku="DJ-100"),
    product("secret", "Unreleased Tent", "Camping > Tents", "1.00", visible=False),
    product(
        "tee",
        "Merino T-Shirt",
        "Clothing > Shirts",
        None,
        stock=None,
        description="<p>Soft &amp; warm.</p>",
        variants=[
            {"id": "tee-s", "sku": "TEE-S", "attributes": {"Size": "S"}, "price": "35.00", "stock": 2},
            {"id": "tee-l", "sku": "TEE-L", "attributes": {"Size": "L"}, "price": "30.00", "stock": 0},
        ],
    ),
]

"""One product comes in full, by id or SKU, and only to its tenant."""

from dataclasses import replace

import pytest

from servers.search import get_product_details
from servers.search.get_product_details import GetProductDetails
from servers.search.records import ProductDetails
from servers.tests.outdoor import ImportProducts, product
from servers.tool import Context
from warmpool.errors import ToolFailed


async def details(context: Context, key: str) -> ProductDetails:
    answer = await get_product_details(context, GetProductDetails(product_id=key))
    assert isinstance(answer, ProductDetails)
    return answer


async def test_a_product_comes_with_text_and_variants(outdoor: None, context: Context) -> None:
    tee = await details(context, "tee")
    assert tee.description == "Soft & warm."
    assert tee.attributes == {"Size": ["S", "L"]}
    assert [(each.title, each.attributes, each.stock, each.in_stock) for each in tee.variants] == [
        ("S", {"Size": "S"}, 2, True),
        ("L", {"Size": "L"}, 0, False),
    ]
    assert [each.price.amount for each in tee.variants if each.price] == ["35.00", "30.00"]


@pytest.mark.parametrize(("key", "id"), [("DJ-100", "down"), ("TEE-L", "tee"), ("boots", "boots")])
async def test_a_product_is_found_by_id_sku_or_a_variants_sku(
    outdoor: None, context: Context, key: str, id: str
) -> None:
    assert (await details(context, key)).id == id


async def test_an_id_goes_before_an_sku(import_products: ImportProducts, context: Context) -> None:
    import_products([product("1", "One", "A", sku="2"), product("2", "Two", "A", sku="1")])
    assert (await details(context, "1")).title == "One"


@pytest.mark.parametrize("key", ["nothing", "secret", "' OR true --"])
async def test_what_is_not_there_or_hidden_fails_as_not_found(outdoor: None, context: Context, key: str) -> None:
    with pytest.raises(ToolFailed) as caught:
        await details(context, key)
    assert caught.value.code == "not_found"


async def test_another_tenants_product_is_not_found(outdoor: None, context: Context) -> None:
    with pytest.raises(ToolFailed):
        await details(replace(context, tenant="rival"), "boots")

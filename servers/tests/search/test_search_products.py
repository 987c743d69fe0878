"""Search finds what was meant, honours filters, and never leaves the tenant."""

from dataclasses import replace

import numpy as np
import pytest

from servers.embedding import HashedEmbedder, Matrix
from servers.search import search_products
from servers.search.search_products import SearchProducts
from servers.tests.outdoor import ImportProducts, product
from servers.tool import Context
from warmpool.errors import PlatformError


async def found(context: Context, query: str, **filters: object) -> list[str]:
    arguments = SearchProducts.model_validate({"query": query, **filters})
    return [each.id for each in await search_products(context, arguments)]


@pytest.mark.parametrize(
    ("query", "best"),
    [
        ("hiking boots", "boots"),
        ("boot for the mountains", "boots"),
        ("womens trail running shoes red", "trail"),
        ("rain jackets for kids", "jacket"),
        ("a tent for four people", "tent4"),
        ("cook on a campingstove", "stove"),
        ("DJ-100", "down"),
        ("TEE-L", "tee"),
        ("hot days", "sandals"),
    ],
)
async def test_the_best_result_is_what_was_meant(outdoor: None, context: Context, query: str, best: str) -> None:
    assert (await found(context, query))[0] == best


@pytest.mark.parametrize(
    "query", ["quantum flux capacitor", "!!!", "🦄", "%_'\"; DROP TABLE products --", "the of and"]
)
async def test_nothing_is_found_where_nothing_fits(outdoor: None, context: Context, query: str) -> None:
    assert await found(context, query) == []


async def test_a_product_comes_with_price_stock_categories_and_score(outdoor: None, context: Context) -> None:
    jacket = (await search_products(context, SearchProducts(query="kids rain jacket")))[0]
    assert jacket.model_dump() == {
        "id": "jacket",
        "sku": None,
        "title": "Kids' Rain Jacket",
        "price": {"amount_minor": 4500, "currency": "EUR", "amount": "45.00"},
        "regular_price": {"amount_minor": 6000, "currency": "EUR", "amount": "60.00"},
        "stock": 5,
        "in_stock": True,
        "categories": ["Clothing > Jackets"],
        "variant_count": 0,
        "score": 1.0,
    }


async def test_a_product_with_variants_has_the_lowest_price_and_their_stock(outdoor: None, context: Context) -> None:
    tee = (await search_products(context, SearchProducts(query="merino shirt")))[0]
    assert (tee.variant_count, tee.stock, tee.in_stock) == (2, 2, True)
    assert tee.price is not None
    assert tee.price.amount == "30.00"


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"in_stock": True}, {"trail"}),
        ({"in_stock": False}, {"road"}),
        ({"max_price_minor": 8000}, {"road"}),
        ({"min_price_minor": 8000}, {"trail"}),
        ({"min_price_minor": 7990, "max_price_minor": 8990}, {"trail", "road"}),
        ({"currency": "USD"}, set()),
        ({"currency": "EUR"}, {"trail", "road"}),
    ],
)
async def test_filters_apply(outdoor: None, context: Context, filters: dict[str, object], expected: set[str]) -> None:
    assert set(await found(context, "running shoes", **filters)) & {"trail", "road"} == expected


async def test_a_product_without_a_price_passes_no_price_filter(outdoor: None, context: Context) -> None:
    assert "down" in await found(context, "down jacket")
    assert "down" not in await found(context, "down jacket", max_price_minor=10**9)


async def test_hidden_products_are_not_found(outdoor: None, context: Context) -> None:
    assert "secret" not in await found(context, "unreleased tent", limit=200)


async def test_the_limit_is_honoured(outdoor: None, context: Context) -> None:
    assert len(await found(context, "tent", limit=1)) == 1


async def test_a_filter_that_leaves_few_still_fills_the_limit(
    import_products: ImportProducts, context: Context
) -> None:
    crowd = [product(f"p{n}", f"Wool Sock {n}", "Socks", stock=int(n % 40 == 0)) for n in range(2000)]
    import_products(crowd)
    assert len(await found(context, "wool sock", in_stock=True, limit=50)) == 50


async def test_a_tenant_finds_its_own_products_only(import_products: ImportProducts, context: Context) -> None:
    import_products([product("ours", "Blue Kite", "Toys")])
    import_products([product("ours", "Red Kite", "Toys"), product("theirs", "Blue Kite", "Toys")], tenant="rival")
    assert await found(context, "blue kite") == ["ours"]
    assert set(await found(replace(context, tenant="rival"), "kite")) == {"ours", "theirs"}
    assert await found(replace(context, tenant="nobody"), "kite") == []


class Renamed(HashedEmbedder):
    model = "another-model"


class Longer(HashedEmbedder):
    dimensions = 512

    async def embed(self, texts: object) -> Matrix:
        return np.ones((1, 512), np.float32)


@pytest.mark.parametrize("embedder", [Renamed(), Longer()])
async def test_another_embedding_model_than_the_catalogues_is_refused(
    outdoor: None, context: Context, embedder: HashedEmbedder
) -> None:
    with pytest.raises(PlatformError, match=r"imported with embedding model hashed-384 \(384 dimensions\)"):
        await found(replace(context, embedder=embedder), "tent")


async def test_an_empty_catalogue_finds_nothing(context: Context) -> None:
    assert await found(context, "tent") == []

"""Categories are found by name or path, page by page."""

from dataclasses import replace

import pytest

from servers.search import search_by_category
from servers.search.search_by_category import CategoryPage, SearchByCategory
from servers.tool import Context
from warmpool.errors import ToolFailed


async def page(context: Context, category: str, **options: object) -> CategoryPage:
    answer = await search_by_category(context, SearchByCategory.model_validate({"category": category, **options}))
    assert isinstance(answer, CategoryPage)
    return answer


def ids(page: CategoryPage) -> list[str]:
    return [each.id for each in page.products]


@pytest.mark.parametrize(
    ("category", "expected"),
    [
        ("Footwear", ["boots", "sandals", "road", "trail"]),
        ("footwear > running", ["road", "trail"]),
        ("RUNNING", ["road", "trail"]),
        (" Footwear>Running ", ["road", "trail"]),
        ("Tents", ["tent4", "tent2"]),
    ],
)
async def test_a_category_is_a_name_or_a_path_and_holds_its_subcategories(
    outdoor: None, context: Context, category: str, expected: list[str]
) -> None:
    answer = await page(context, category)
    assert (answer.total, ids(answer)) == (len(expected), expected)


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("price", ["sandals", "road", "trail", "boots"]),
        ("-price", ["boots", "trail", "road", "sandals"]),
        ("-stock", ["boots", "sandals", "trail", "road"]),
    ],
)
async def test_a_page_is_sorted(outdoor: None, context: Context, sort: str, expected: list[str]) -> None:
    assert ids(await page(context, "Footwear", sort=sort)) == expected


async def test_pages_follow_each_other_and_know_the_total(outdoor: None, context: Context) -> None:
    pages = [await page(context, "Footwear", limit=3, offset=offset) for offset in (0, 3, 6)]
    assert [ids(each) for each in pages] == [["boots", "sandals", "road"], ["trail"], []]
    assert {each.total for each in pages} == {4}


async def test_a_filter_may_leave_nothing_of_a_known_category(outdoor: None, context: Context) -> None:
    assert (await page(context, "Cooking", in_stock=False)).total == 0


async def test_an_unknown_category_fails_with_the_nearest_names(outdoor: None, context: Context) -> None:
    with pytest.raises(
        ToolFailed, match=r"no product has the category 'runing'; the nearest are Footwear > Running"
    ) as caught:
        await page(context, "runing")
    assert caught.value.code == "unknown_category"
    assert caught.value.fields["nearest"][0] == "Footwear > Running"


async def test_another_tenants_categories_are_unknown(outdoor: None, context: Context) -> None:
    with pytest.raises(ToolFailed) as caught:
        await page(replace(context, tenant="rival"), "Tents")
    assert caught.value.fields["nearest"] == []

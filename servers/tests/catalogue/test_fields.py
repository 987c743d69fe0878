"""Cells of exports are read as the shop meant them."""

import pytest

from servers.catalogue.fields import category_keys, count, path, plain_text, split_list
from servers.catalogue.rows import RowError


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("plain", "plain"),
        ("<p>One</p><p>Two</p>", "One\nTwo"),
        ("a<br/>b<br>c", "a\nb\nc"),
        ("<ul><li>x</li>\n<li>y</li></ul>", "x\ny"),
        ("Salt &amp; pepper &euro;5 &#8211; &lt;b&gt;", "Salt & pepper €5 – <b>"),
        ("<script>alert(1)</script><style>p{}</style>shown", "shown"),
        ("<b>bold</b>ly", "boldly"),
        ("  spaced \t out\u00a0text \n\n\n next ", "spaced out text\nnext"),
        ("<p>never closed", "never closed"),
        ("5 < 6 and 7 > 6", "5 < 6 and 7 > 6"),
        ("<!-- hidden -->seen", "seen"),
        ("", ""),
    ],
)
def test_html_becomes_what_a_reader_sees(html: str, text: str) -> None:
    assert plain_text(html) == text


@pytest.mark.parametrize(
    ("cell", "values"),
    [
        ("a, b", ["a", "b"]),
        ("Pots\\, Pans, Knives", ["Pots, Pans", "Knives"]),
        ("a, , a", ["a"]),
        ("", []),
    ],
)
def test_a_list_keeps_commas_that_are_escaped(cell: str, values: list[str]) -> None:
    assert split_list(cell) == values


@pytest.mark.parametrize("cell", ["A > B", "A>B", " A  >  B ", "A > B > "])
def test_paths_are_written_in_one_way(cell: str) -> None:
    assert path(cell) == "A > B"


def test_a_category_is_found_by_every_step_and_every_beginning_of_its_path() -> None:
    assert category_keys(["A > B > C", "B"]) == ["a", "b", "c", "a > b", "a > b > c"]


@pytest.mark.parametrize(("cell", "number"), [("5", 5), ("5.0", 5), ("-3", -3), ("", None), (" 7 ", 7)])
def test_a_count_is_a_whole_number(cell: str, number: int | None) -> None:
    assert count("Stock", cell) == number


@pytest.mark.parametrize("cell", ["5.5", "many", "1e3", "--1"])
def test_a_count_that_is_none_names_its_column(cell: str) -> None:
    with pytest.raises(RowError, match="Stock: "):
        count("Stock", cell)

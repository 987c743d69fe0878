"""Single cells of shops' exports: HTML, lists with escaped commas, paths, stock."""

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Final

from servers.catalogue.rows import RowError
from servers.money import to_minor

BLOCKS: Final = frozenset(
    {"address", "article", "blockquote", "br", "dd", "div", "dl", "dt", "figure", "h1", "h2", "h3", "h4", "h5", "h6"}
    | {"hr", "li", "ol", "p", "pre", "section", "table", "td", "th", "tr", "ul"}
)
UNSEEN: Final = frozenset({"script", "style", "template", "head"})


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._unseen += tag in UNSEEN
        if tag in BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._unseen = max(0, self._unseen - (tag in UNSEEN))
        if tag in BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.parts.append(data)


def plain_text(html: str) -> str:
    """What a reader of the page would see: one line a paragraph, no tags, entities resolved."""
    if "<" in html or "&" in html:
        parser = _Text()
        parser.feed(html)
        parser.close()
        html = "".join(parser.parts)
    lines = (" ".join(line.split()) for line in html.splitlines())
    return "\n".join(line for line in lines if line)


def one_line(html: str) -> str:
    return " ".join(plain_text(html).split())


def split_list(cell: str) -> list[str]:
    """`A, B\\, C` is A and `B, C`: commas that belong to a value are written with a backslash."""
    values = (part.replace("\\,", ",").strip() for part in re.split(r"(?<!\\),", cell))
    return list(dict.fromkeys(value for value in values if value))


def path(cell: str) -> str:
    """`Clothing>Shoes` and `Clothing  > Shoes` are one path."""
    return " > ".join(step for step in (" ".join(part.split()) for part in cell.split(">")) if step)


def category_keys(paths: Sequence[str]) -> list[str]:
    """What a category is found by: each step alone and each path from the root, in lower case."""
    keys: dict[str, None] = {}
    for one in paths:
        steps = one.casefold().split(" > ")
        keys |= dict.fromkeys(steps)
        keys |= dict.fromkeys(" > ".join(steps[: depth + 1]) for depth in range(len(steps)))
    return list(keys)


def price(column: str, cell: str, currency: str) -> int | None:
    """Raises RowError, naming the column."""
    try:
        return to_minor(cell, currency)
    except ValueError as fault:
        raise RowError(f"{column}: {fault}") from fault


def count(column: str, cell: str) -> int | None:
    """A number of pieces, perhaps oversold and below zero; `5.0` is 5. Raises RowError, naming the column."""
    cell = cell.strip()
    if not cell:
        return None
    if not re.fullmatch(r"-?[0-9]+([.,]0+)?", cell):
        raise RowError(f"{column}: {cell!r} is not a whole number")
    return int(re.split("[.,]", cell)[0])

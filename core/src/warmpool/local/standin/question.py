"""Reads a shop question by rules: what is asked for, of which products, under which conditions.

A small grammar, not language understanding: phrases are looked for in turn and taken out, and what is
left, less the words that carry no meaning here, is the subject. It knows no catalogue. A question that
it cannot read is a search for all of its words.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Aim(StrEnum):
    """What the answer is to be."""

    COUNT = "count"  # how many lamps ...
    CHEAPEST = "cheapest"
    DEAREST = "dearest"
    AVERAGE = "average"  # the average price
    BY_CATEGORY = "by_category"  # lamps by category
    COMPARE = "compare"  # desk lamps with floor lamps
    WORTH = "worth"  # what the stock is worth: price times stock
    DETAILS = "details"  # of one SKU
    LIST = "list"  # also what cannot be read


@dataclass(frozen=True, slots=True)
class Bound:
    """An end of a range of prices."""

    amount: str
    """In major units, as written: `19.99`."""
    inclusive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question as understood."""

    aim: Aim
    subject: str = ""
    """The products' words; empty where the question names none."""
    other: str = ""
    """What the subject is compared with."""
    sku: str = ""
    category: str = ""
    in_stock: bool | None = None
    above: Bound | None = None
    below: Bound | None = None
    top: int | None = None
    """How many products were asked for."""

    @property
    def names_products(self) -> bool:
        return bool(self.subject or self.category or self.sku)


READ_CHARS: Final = 1000
"""Of a text; some of the patterns take time with the square of its length."""
TOP_MOST: Final = 20
MOST_CHARS: Final = 200
"""Of a subject, a category or a SKU; searches take no more than a few hundred."""

_CURRENCY = r"(?:eur|usd|gbp|chf|pln|euros?|dollars?|pounds?)\b"
_AMOUNT = rf"(?:[$€£]|{_CURRENCY})?\s*(\d{{1,9}}(?:[.,]\d{{1,2}})?)(?:\s*(?:[$€£]|{_CURRENCY}))?"
_COSTING = r"\b(?:priced\s+|(?:that\s+|which\s+)?costs?\s+|costing\s+)?"
_BETWEEN = re.compile(rf"{_COSTING}(?:between|from)\s+{_AMOUNT}\s+(?:and|to)\s+{_AMOUNT}")
_BELOW = re.compile(rf"{_COSTING}(?:(?P<to>up\s+to|at\s+most)|under|below|less\s+than|cheaper\s+than)\s+{_AMOUNT}")
_ABOVE = re.compile(rf"{_COSTING}(?:(?P<to>at\s+least|from)|over|above|more\s+than|dearer\s+than)\s+{_AMOUNT}")

_OUT_OF_STOCK = re.compile(r"\b(?:out\s+of\s+stock|sold\s+out|unavailable|not\s+(?:in\s+stock|available))\b")
_IN_STOCK = re.compile(r"\b(?:in\s+stock|available|on\s+hand)\b")

_CATEGORY = re.compile(
    r"\bin\s+(?:the\s+)?category\s+[\"'“]?([^\"'”]+?)[\"'”]?\s*$|\bin\s+(?:the\s+)?[\"'“]?([^\"'”]+?)[\"'”]?\s+category\b"
)

_SKU = re.compile(
    r"\bsku[\s:#]+[\"']?([a-z0-9][a-z0-9._/-]*[a-z0-9])"  # `sku` says that one follows
    r"|\b(?:product|item|article)[\s:#]+[\"']?((?=[a-z._/-]*\d)[a-z0-9]+(?:[-._/][a-z0-9]+)*)\b"
    r"|\b([a-z]{2,}[-_]\d[a-z0-9_-]*)\b"
)

_TOP = re.compile(
    r"\b(?:top|first)\s+(\d{1,3})\b"
    r"|\b(?:list|show|name|give|find)\s+(?:me\s+)?(?:the\s+)?(\d{1,3})\b"
    r"|\b(\d{1,3})\s+(?=cheapest|least|most|priciest|dearest)"
)
_COMPARE = re.compile(
    r"^\s*compare\s+(.+?)\s+(?:and|with|to|against|vs\.?|versus)\s+(.+)$|^(.+?)\s+(?:vs\.?|versus)\s+(.+)$"
)

_AIMS: Final = (
    (Aim.WORTH, re.compile(r"\b(?:(?:stock|inventory)\s+value|value\s+of|worth)\b")),
    (Aim.BY_CATEGORY, re.compile(r"\b(?:by|per|(?:in|for)\s+each)\s+categor(?:y|ies)\b")),
    (Aim.AVERAGE, re.compile(r"\b(?:average|mean)\b")),
    (Aim.CHEAPEST, re.compile(r"\b(?:cheapest|least\s+expensive|lowest)\b")),
    (Aim.DEAREST, re.compile(r"\b(?:most\s+expensive|priciest|dearest|highest)\b")),
    (Aim.COUNT, re.compile(r"\b(?:how\s+many|number\s+of|count)\b")),
)

_WITHOUT_MEANING: Final = """
    a about all an and any are be been being can compare cost costs could current currently describe detail details
    different do does each find for from get give got has have how i in info information inventory is it item items
    list look looking many me more much my name need of on one ones or our please price priced prices pricing product
    products sell selling shop show some stock store tell than that the their them there these they thing things this to
    total us value want we what what's which who whole with worth would you your
"""
_EMPTY_WORDS: Final = frozenset(_WITHOUT_MEANING.split())
_WORD = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*")


def read(text: str) -> Question:
    """Never fails: what cannot be read is a list of what its words find."""
    text = text[:READ_CHARS]
    rest = " ".join(text.lower().split()).strip(" ?!.")
    sku = _take(rest, _SKU)[1]
    if sku:
        return Question(aim=Aim.DETAILS, sku=_as_written(text, sku)[:MOST_CHARS])
    rest, below, above = _take_prices(rest)
    rest, in_stock = _take_stock(rest)
    rest, top = _take(rest, _TOP)
    aim, rest = _take_aim(rest)
    rest, category = _take(rest, _CATEGORY)
    aim, subject, other = _take_compared(aim, rest)
    return Question(
        aim=aim,
        subject=subject,
        other=other,
        category=_as_written(text, category)[:MOST_CHARS],
        in_stock=in_stock,
        above=above,
        below=below,
        top=min(int(top), TOP_MOST) if top else None,
    )


def _as_written(original: str, lowered: str) -> str:
    """A part of the question as its author wrote it: SKUs keep their case."""
    at = original.lower().find(lowered)
    return original[at : at + len(lowered)] if at >= 0 else lowered


def _take_prices(rest: str) -> tuple[str, Bound | None, Bound | None]:
    if between := _BETWEEN.search(rest):
        low, high = (Bound(amount.replace(",", "."), inclusive=True) for amount in between.groups())
        return _without(rest, between), high, low
    rest, below = _take_bound(rest, _BELOW)
    rest, above = _take_bound(rest, _ABOVE)
    return rest, below, above


def _take_bound(rest: str, pattern: re.Pattern[str]) -> tuple[str, Bound | None]:
    found = pattern.search(rest)
    if found is None:
        return rest, None
    amount = found[pattern.groups].replace(",", ".")
    return _without(rest, found), Bound(amount, inclusive=found["to"] is not None)


def _take_stock(rest: str) -> tuple[str, bool | None]:
    for pattern, in_stock in ((_OUT_OF_STOCK, False), (_IN_STOCK, True)):
        if found := pattern.search(rest):
            return _without(rest, found), in_stock
    return rest, None


def _take_aim(rest: str) -> tuple[Aim, str]:
    for aim, pattern in _AIMS:
        if found := pattern.search(rest):
            return aim, _without(rest, found)
    return Aim.LIST, rest


def _take_compared(aim: Aim, rest: str) -> tuple[Aim, str, str]:
    """The aim, the subject and what it is compared with."""
    if compared := _COMPARE.search(rest):
        one, other = _words(compared[1] or compared[3]), _words(compared[2] or compared[4])
        if one and other:
            return Aim.COMPARE, one, other
    return aim, _words(rest), ""


def _take(rest: str, pattern: re.Pattern[str]) -> tuple[str, str]:
    """The text without the phrase, and the phrase's first filled group."""
    found = pattern.search(rest)
    return (_without(rest, found), next(group for group in found.groups() if group)) if found else (rest, "")


def _without(rest: str, found: re.Match[str]) -> str:
    return f"{rest[: found.start()]} {rest[found.end() :]}".strip()


def _words(text: str) -> str:
    return " ".join(word for word in _WORD.findall(text) if word not in _EMPTY_WORDS)[:MOST_CHARS].strip()

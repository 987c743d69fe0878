"""Puts a program's result into words. Whatever the result holds is shown; nothing is looked up or made up."""

from collections.abc import Iterator
from typing import Any, Final

from warmpool.local.standin.question import Aim, Bound, Question

SIGNED: Final = "(Written by warmpool's stand-in by fixed rules, not by a language model.)"

LISTED: Final = 20

_HELLO: Final = (
    "I can look things up in this shop: ask me for the cheapest or most expensive of some products, how many there "
    "are, what is in stock or under a price, averages, counts by category, a comparison, or the details of a SKU."
)
_NO_TOOLS: Final = "I was given no tools to look anything up with, so I cannot answer questions about a shop."


def answer(question: Question, value: Any) -> str:
    """The result in a sentence and, where it holds several things, a short list."""
    return f"{_worded(question, value)}\n\n{SIGNED}"


def without_program(*, has_tools: bool) -> str:
    return f"{_HELLO if has_tools else _NO_TOOLS}\n\n{SIGNED}"


def _worded(question: Question, value: Any) -> str:
    match value:
        case {"found": 0}:
            return f"I found no {_asked_for(question)}."
        case {"products": [], **rest}:
            return f"I found no {_named(question) if 'instead' in rest else _asked_for(question)}."
        case {"products": list(products), **rest}:
            return "\n".join([_lead(question, rest), *_lines(products)])
        case {"found": int(found), "categories": dict(categories)}:
            lines = [f"- {name}: {_plain(entry)}" for name, entry in categories.items()]
            return "\n".join([f"{_counted(question, found)}, by category:", *lines])
        case {"found": int(found), "average": str(average), **rest}:
            return f"The average price of {found} {_asked_for(question)} is {average}{_range(rest)}."
        case {"found": int(found), "worth": str(worth), **rest}:
            return f"The stock of {found} {_asked_for(question)} is worth {worth}{_left_out(rest)}."
        case {"found": int(found), "complete": False}:
            return f"I found at least {found} {_asked_for(question)}; a search shows no more than its best matches."
        case {"found": int(found)}:
            return f"{_counted(question, found)}."
        case {"title": str(title), **rest}:
            return "\n".join([f"{title}:", *(f"- {_label(key)}: {_plain(entry)}" for key, entry in rest.items())])
        case dict() if question.aim is Aim.COMPARE:
            return "\n".join(["Compared:", *(f"- {name}: {_plain(entry)}" for name, entry in value.items())])
        case dict() | list() if value:
            return "\n".join(["The program found:", *_lines(value)])
        case None | [] | {}:
            return "The program found nothing."
        case _:
            return f"The program found: {_plain(value)}"


def _lead(question: Question, rest: dict[Any, Any]) -> str:
    match question.aim, rest:
        case (Aim.CHEAPEST | Aim.DEAREST) as aim, {"found": int(found)}:
            word = "cheapest" if aim is Aim.CHEAPEST else "most expensive"
            return f"The {word} {_asked_for(question)}, of {found} found:"
        case _, {"instead": True}:
            return f"I could not work that out; a plain search for {_named(question)} finds:"
        case _:
            return f"The best matches for {_asked_for(question)}:"


def _named(question: Question) -> str:
    return question.subject or question.sku or question.category


def _counted(question: Question, found: int) -> str:
    return f"I found {found} {_asked_for(question)}"


def _asked_for(question: Question) -> str:
    """`desk lamps in stock under 30`."""
    words = [question.subject or "products"]
    if question.category:
        words.append(f"in the category {question.category}")
    if question.in_stock is not None:
        words.append("in stock" if question.in_stock else "out of stock")
    words += [f"{_bound_word(bound, *pair)} {bound.amount}" for bound, *pair in _bounds(question) if bound]
    return " ".join(words)


def _bounds(question: Question) -> tuple[tuple[Bound | None, str, str], ...]:
    return (question.above, "over", "from"), (question.below, "under", "up to")


def _bound_word(bound: Bound, exclusive: str, inclusive: str) -> str:
    return inclusive if bound.inclusive else exclusive


def _range(rest: dict[Any, Any]) -> str:
    match rest:
        case {"lowest": str(lowest), "highest": str(highest)} if lowest != highest:
            return f" (from {lowest} to {highest})"
        case _:
            return ""


def _left_out(rest: dict[Any, Any]) -> str:
    match rest:
        case {"left_out": int(count)} if count:
            return f" ({count} without a price or a known stock are left out)"
        case _:
            return ""


def _lines(value: Any) -> Iterator[str]:
    entries = list(value.items()) if isinstance(value, dict) else list(value)
    for entry in entries[:LISTED]:
        yield f"- {_label(entry[0])}: {_plain(entry[1])}" if isinstance(value, dict) else f"- {_plain(entry)}"
    if len(entries) > LISTED:
        yield f"- and {len(entries) - LISTED} more"


def _plain(value: Any) -> str:
    """One line for any value: `Desk lamp (DL-7): 19.90 EUR, in stock`."""
    match value:
        case {"title": title, **rest}:
            sku = f" ({rest['sku']})" if rest.get("sku") else ""
            return f"{title}{sku}: {rest.get('price') or 'no price'}{_stock(rest)}"
        case dict():
            return ", ".join(f"{_label(key)} {_plain(entry)}" for key, entry in value.items())
        case list():
            return ", ".join(_plain(entry) for entry in value)
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)


def _stock(product: dict[Any, Any]) -> str:
    match product:
        case {"in_stock": True}:
            return ", in stock"
        case {"in_stock": False}:
            return ", out of stock"
        case _:
            return ""


def _label(key: object) -> str:
    return str(key).replace("_", " ")

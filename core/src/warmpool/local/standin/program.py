"""Writes the program that answers a question, with the tools whose signatures the prompt carries.

A tool or a filter that the prompt does not name is not used: where a tool cannot filter, the program does.
Neither knows the catalogue: the words of the question are compared with what the tools return.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from string import Template
from typing import Final

from warmpool.local.standin import templates
from warmpool.local.standin.question import Aim, Bound, Question

MOST: Final = 200
"""Products that a program asks the search for."""
SHOWN: Final = 5
"""Products in a result where the question does not say how many."""
SHOWN_FOR: Final = {Aim.CHEAPEST: 3, Aim.DEAREST: 3, Aim.BY_CATEGORY: 10}
SORTED_FOR: Final = {Aim.CHEAPEST: '"price"', Aim.DEAREST: '"-price"'}

_MODULE: Final = re.compile(r"^# servers\.([\w.]+)\s*$")
_TOOL: Final = re.compile(r"^(?:def )?(\w+)\((.*)\) -> ")
_PARAMETER: Final = re.compile(r"(?:^|[\s(,])(\w+):")

_STANDARD: Final = (("Counter", "from collections import Counter"), ("Decimal", "from decimal import Decimal"))
_HELPERS: Final = (
    ("in_category", templates.IN_CATEGORY),
    ("text", templates.TEXT),
    ("price", templates.PRICE),
    ("brief", templates.BRIEF),
)


@dataclass(frozen=True, slots=True)
class Tool:
    module: str
    parameters: frozenset[str]


Tools = Mapping[str, Tool]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a program gets its products: a call, and what the call cannot filter."""

    call: str
    conditions: tuple[str, ...] = ()
    end: str | None = None
    """The end of the program, where the source calls for one of its own."""

    @property
    def expression(self) -> str:
        if not self.conditions:
            return self.call
        condition = "\n    and ".join(self.conditions)
        return f"[\n    product\n    for product in {self.call}\n    if {condition}\n]"


def parse_signatures(prompt: str) -> dict[str, Tool]:
    """The tools by name, from the signature lines within a prompt."""
    tools: dict[str, Tool] = {}
    module = ""
    for line in prompt.splitlines():
        if found := _MODULE.match(line):
            module = found[1]
        elif module and (found := _TOOL.match(line)):
            tools[found[1]] = Tool(module, frozenset(_PARAMETER.findall(found[2])))
    return tools


def first(question: Question, tools: Tools) -> str:
    """The program of the first turn. Asked what stock is worth it takes a price for a number, and fails."""
    return _program(question, tools, templates.ENDS[question.aim])


def mended(question: Question, tools: Tools, *, error: str) -> str:
    """After an error: a price taken for what it is, where that was it; else a plain search, which can hardly fail."""
    if question.aim is Aim.WORTH and error == "TypeError":
        return _program(question, tools, templates.FOUND + templates.WORTH)
    words = question.subject or question.sku or question.category
    return _program(Question(aim=Aim.LIST, subject=words), tools, templates.INSTEAD)


def _program(question: Question, tools: Tools, end: str) -> str:
    """Imports, the helpers that are called, the end."""
    top = question.top or SHOWN_FOR.get(question.aim, SHOWN)
    source = _source(question, tools, top)
    code = Template(source.end or end).substitute(
        found=source.expression if question.aim is not Aim.COMPARE else source.expression.replace("\n", "\n    "),
        call=source.call,
        condition=" and ".join(source.conditions),
        most=MOST,
        top=top,
        sku=_literal(question.sku),
        subject=_literal(question.subject),
        words=_literal(stems(question.subject)),
        other=_literal(question.other),
        other_words=_literal(stems(question.other)),
    )
    for name, helper in reversed(_HELPERS):
        if _calls(code, name):
            code = f"{helper}\n\n{code}"
    return f"{_imports(code, tools)}\n{chr(10) * code.startswith('def ')}{code}"


def stems(words: str) -> list[str]:
    """`desk lamps` as what both `Desk Lamp` and `desk lamps` contain."""
    return [_stem(word) for word in words.split()]


def _stem(word: str) -> str:
    for ending, kept in (("ies", -3), ("sses", -2), ("xes", -2), ("ches", -2), ("shes", -2)):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word[:kept]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _source(question: Question, tools: Tools, top: int) -> Source:
    """What ranks by likeness returns more than was meant, so a count or a sum compares the words too; a list is best
    left as it was ranked."""
    if question.aim is Aim.COMPARE:
        return Source(f"search_products(query, limit={MOST})", ('all(f" {word}" in text(product) for word in words)',))
    if question.category and not question.subject and "search_by_category" in tools:
        return _category(question, tools["search_by_category"], top)
    words = [] if question.aim is Aim.LIST else list(_contains(stems(question.subject)))
    if question.category:
        words.append(f"{_literal(f' {question.category.lower()}')} in text(product)")
    known = tools["search_products"].parameters if "search_products" in tools else frozenset()
    arguments, conditions = _split(question, known)
    conditions = [*words, *conditions]
    limit = MOST if conditions or question.aim is not Aim.LIST else top
    call = ", ".join([_literal(question.subject or question.category), f"limit={limit}", *arguments])
    end = templates.COUNT if question.aim is Aim.COUNT and conditions else None
    return Source(f"search_products({call})", tuple(conditions), end)


def _category(question: Question, tool: Tool, top: int) -> Source:
    """All of a category, page by page; one page where that is enough."""
    arguments, conditions = _split(question, tool.parameters)
    name = _literal(question.category)
    if question.aim is Aim.LIST and not conditions:
        return Source(f'search_by_category({", ".join([name, f"limit={top}", *arguments])})["products"]')
    if question.aim is Aim.COUNT and not conditions:
        return Source(f"search_by_category({', '.join([name, 'limit=1', *arguments])})", end=templates.COUNT_TOTAL)
    if question.aim in SORTED_FOR and "sort" in tool.parameters:
        arguments.append(f"sort={SORTED_FOR[question.aim]}")
    return Source(f"in_category({', '.join([name, *arguments])})", tuple(conditions))


def _split(question: Question, known: frozenset[str]) -> tuple[list[str], list[str]]:
    """The question's filters as arguments of a tool that has them, and as conditions."""
    arguments, conditions = [], list(_price_conditions(question.above, question.below))
    if question.in_stock is not None and "in_stock" in known:
        arguments.append(f"in_stock={question.in_stock}")
    elif question.in_stock is not None:
        conditions.append(f'product["in_stock"] is {question.in_stock}')
    return arguments, conditions


def _contains(words: list[str]) -> Iterator[str]:
    match words:
        case []:
            return
        case [word]:
            yield f"{_literal(f' {word}')} in text(product)"
        case _:
            yield f'all(f" {{word}}" in text(product) for word in {_literal(words)})'


def _price_conditions(above: Bound | None, below: Bound | None) -> Iterator[str]:
    """In the program and in major units: a tool's filter would need the currency's number of decimals."""
    if above or below:
        low = f"{_amount(above)} <{'=' * above.inclusive} " if above else ""
        high = f" <{'=' * below.inclusive} {_amount(below)}" if below else ""
        yield 'product["price"]'
        yield f"{low}price(product){high}"


def _amount(bound: Bound) -> str:
    return str(int(bound.amount)) if bound.amount.isdigit() else f'Decimal("{bound.amount}")'


def _literal(value: str | list[str]) -> str:
    """JSON's strings and lists of strings are Python's too."""
    return json.dumps(value, ensure_ascii=False)


def _imports(code: str, tools: Tools) -> str:
    standard = [line for name, line in _STANDARD if _calls(code, name)]
    used = sorted((tool.module, name) for name, tool in tools.items() if _calls(code, name))
    imports = [f"from servers.{module} import {name}" for module, name in used]
    return "\n".join([*standard, *([""] if standard and imports else []), *imports]) + "\n"


def _calls(code: str, name: str) -> bool:
    return re.search(rf"\b{name}\(|key={name}\b", code) is not None

"""Writes the package `servers` that a sandbox imports: typed functions that hand each call to the sandbox's relay.

The written package needs the standard library and `warmpool_sandbox.tools` only.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from warmpool.tools.definition import ToolDefinition, catalogue_hash
from warmpool.tools.render import (
    Category,
    Signature,
    categories,
    category_lines,
    declarations,
    documentation,
    record_declarations,
)

TYPING: Final = "from typing import Any, Literal, NotRequired, TypedDict"

DISCOVERY: Final = '''
def list_categories() -> list[str]:
    """The names of the categories, each a module of this package."""
    return list(_CATEGORIES)


def list_tools(category: str) -> str:
    """The signatures of a category's tools."""
    if category not in _CATEGORIES:
        raise ValueError(f"no category {category!r}; known are {', '.join(_CATEGORIES)}")
    return _CATEGORIES[category]


def describe(tool: str) -> str:
    """Everything about one tool, by a name such as `search.search_products`."""
    if tool not in _TOOLS:
        raise ValueError(f"no tool {tool!r}; known are {', '.join(_TOOLS)}")
    return _TOOLS[tool]


def search_tools(query: str) -> list[str]:
    """The names of the tools whose text holds every word of the query."""
    words = query.lower().split()
    return [name for name, text in _TOOLS.items() if all(word in f"{name} {text}".lower() for word in words)]
'''

DISCOVERY_TYPES: Final = """
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")

CATALOGUE_HASH: str

class ToolError(Exception):
    code: str
    fields: dict[str, Any]
    def __getattr__(self, name: str) -> Any: ...

def parallel(function: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]: ...
def list_categories() -> list[str]: ...
def list_tools(category: str) -> str: ...
def describe(tool: str) -> str: ...
def search_tools(query: str) -> list[str]: ...
"""


def stub_package(definitions: Iterable[ToolDefinition], into: Path) -> None:
    """Writes `servers/` below `into`, `.py` and `.pyi`. Raises ValueError where the definitions clash."""
    tools = list(definitions)
    grouped = categories(tools)
    note = f"# Generated from the tool definitions, catalogue {catalogue_hash(tools)}."
    root = into / "servers"
    _write(root, [note, *_discovery(grouped, catalogue_hash(tools))], [note, DISCOVERY_TYPES])
    for category in grouped:
        _make_parents(root, category.name, note)
        folder = root.joinpath(*category.name.split("."))
        _write(folder, [note, *_module(category)], [note, TYPING, *declarations(category)])


def _make_parents(root: Path, category: str, note: str) -> None:
    """Packages above a nested category, unless they are categories themselves and are written as such."""
    folder = root
    for part in category.split(".")[:-1]:
        folder /= part
        if not (folder / "__init__.py").exists():
            _write(folder, [note], [note])


def _write(folder: Path, code: list[str], types: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "__init__.py").write_text("\n".join(code).rstrip() + "\n")
    (folder / "__init__.pyi").write_text("\n".join(types).rstrip() + "\n")


def _module(category: Category) -> Iterator[str]:
    yield "from __future__ import annotations"
    yield TYPING
    yield "from warmpool_sandbox.tools import call as _call"
    yield from record_declarations(category)
    for item in category.signatures:
        yield from ("", f"def {item.text}:", *documentation(item), f"    return {_call_text(item)}")


def _call_text(item: Signature) -> str:
    always = [f'"{one.name}": {one.name}' for one in item.parameters if not one.omitted_when_none]
    sometimes = [
        f'**({{"{one.name}": {one.name}}} if {one.name} is not None else {{}})'
        for one in item.parameters
        if one.omitted_when_none
    ]
    return f'_call("{item.tool.qualified}", {{{", ".join(always + sometimes)}}})'


def _discovery(grouped: list[Category], digest: str) -> Iterator[str]:
    listed = {category.name: "\n".join(category_lines(category, "signatures")) for category in grouped}
    described = {
        item.tool.qualified: _description(category, item) for category in grouped for item in category.signatures
    }
    yield "from warmpool_sandbox.tools import ToolError as ToolError, parallel as parallel"
    yield f'CATALOGUE_HASH = "{digest}"'
    yield f"_CATEGORIES: dict[str, str] = {json.dumps(listed, indent=4)}"
    yield f"_TOOLS: dict[str, str] = {json.dumps(described, indent=4)}"
    yield DISCOVERY


def _description(category: Category, item: Signature) -> str:
    alone = Category(name=category.name, records=category.records, signatures=[item])
    return "\n".join(category_lines(alone, "full"))

"""Finds the program in a model's reply.

Models fence their code, fence it in pieces, forget the fence, get cut off within it, or answer in
prose. This module only reads text; whether a program is sound is for the sandbox to say, so a fenced
block that does not even parse is still the program, and its syntax error goes back to the model.
"""

import ast
import builtins
import re
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

FENCE: Final = re.compile(r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})[ \t]*(?P<label>[\w+.-]*)[^\n`]*$", re.MULTILINE)
REASONING: Final = re.compile(r"\A.*</think(?:ing)?>", re.DOTALL)
"""Open models served without a reasoning parser put their thoughts, drafts included, before the reply."""
FIRST_IMPORT: Final = re.compile(r"^(?:from [\w.]+ import |import \w)", re.MULTILINE)

PYTHON_LABELS: Final = frozenset({"python", "py", "python3"})

TRAILING_PARAGRAPHS: Final = 8
"""Paragraphs of prose behind unfenced code that are dropped, one by one, in search of a program."""

_STATEMENTS: Final = (ast.Import, ast.ImportFrom, ast.Assign, ast.AugAssign, ast.For, ast.FunctionDef, ast.With)


@dataclass(frozen=True, slots=True)
class Block:
    """The text of one fenced block."""

    label: str
    code: str


def program_in(reply: str) -> str | None:
    """The program, ending in one newline, or None where the reply is prose."""
    text = REASONING.sub("", reply.replace("\r\n", "\n"))
    blocks = list(fenced_blocks(text))
    program = _of_blocks([block.code for block in blocks if block.label in PYTHON_LABELS])
    if program is None:
        program = _of_blocks([block.code for block in blocks if not block.label and _is_program(block.code)])
    if program is None and not blocks:
        program = _unfenced(text)
    return program.strip("\n") + "\n" if program and program.strip() else None


def fenced_blocks(text: str) -> Iterator[Block]:
    """Every fenced block; one without an end goes to the end of the text."""
    position = 0
    while opening := FENCE.search(text, position):
        closing = re.compile(rf"^[ \t]*{opening['fence'][0]}{{{len(opening['fence'])},}}[ \t]*$", re.MULTILINE)
        end = closing.search(text, opening.end())
        code = text[opening.end() : end.start() if end else len(text)]
        yield Block(opening["label"].lower(), textwrap.dedent(code).strip("\n"))
        position = end.end() if end else len(text)


def _of_blocks(codes: list[str]) -> str | None:
    """The last block, as models sketch first and correct later; all of them where it leans on the others' names."""
    if not codes:
        return None
    *earlier, last = codes
    bound_earlier = set[str]().union(*(_names(code)[0] for code in earlier))
    bound, used = _names(last)
    leans = (used - bound - set(dir(builtins))) & bound_earlier
    return "\n\n".join(codes) if leans else last


def _names(code: str) -> tuple[set[str], set[str]]:
    """The names that a piece binds anywhere, and those it reads."""
    tree = _parse(code)
    bound: set[str] = set()
    used: set[str] = set()
    for node in ast.walk(tree) if tree else ():
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                used.add(name)
            case ast.Name(id=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                bound.add(name)
            case ast.alias(name=name, asname=asname):
                bound.add((asname or name).partition(".")[0])
    return bound, used


def _unfenced(text: str) -> str | None:
    """The text itself, or what stands from its first import on, less the prose behind it."""
    if _is_program(text):
        return text
    start = FIRST_IMPORT.search(text)
    if start is None:
        return None
    paragraphs = text[start.start() :].split("\n\n")
    for dropped in range(min(len(paragraphs), TRAILING_PARAGRAPHS)):
        candidate = "\n\n".join(paragraphs[: len(paragraphs) - dropped])
        if _is_program(candidate):
            return candidate
    return None


def _is_program(text: str) -> bool:
    """Parses, and does something: `Yes`, `42` and `{"a": 1}` are Python too."""
    tree = _parse(text)
    return tree is not None and any(_does_something(node) for node in tree.body)


def _does_something(node: ast.stmt) -> bool:
    return isinstance(node, _STATEMENTS) or (isinstance(node, ast.Return) and not isinstance(node.value, ast.Name))


def _parse(text: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings(action="ignore"):  # "\d" and the like are for the program's author
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # ValueError: NUL bytes on older interpreters
        return None

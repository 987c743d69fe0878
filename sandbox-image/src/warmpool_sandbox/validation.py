"""Early, friendly refusal of programs that could not work here. Never the boundary.

One pass over the syntax tree that is then compiled, so that what was checked is what runs. A determined
program gets round every rule in this file (strings become names at run time); the kernel's walls do not depend
on it, and the red-team suite runs with it on and off. What it buys: an error with line, column and a remedy
before anything has run, in words that a model can act on.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAX_NODES: Final = 40_000
"""64 KiB of dense but ordinary code have 21,000, of plain numbers in a list 33,000; parsing cost grows with them."""

DENIED_MODULES: Final = {
    "socket": "there is no network; call the tools under `servers`",
    "ssl": "there is no network; call the tools under `servers`",
    "http": "there is no network; call the tools under `servers`",
    "urllib": "only urllib.parse is available; call the tools under `servers`",
    "ftplib": "there is no network",
    "smtplib": "there is no network",
    "socketserver": "there is no network",
    "xmlrpc": "there is no network",
    "subprocess": "other programs cannot be started",
    "multiprocessing": "use `servers.parallel` for tool calls, or plain loops",
    "ctypes": "native code is not available",
    "cffi": "native code is not available",
    "importlib": "import modules with the import statement",
    "pickle": "use json",
    "marshal": "use json",
    "shelve": "use json",
    "code": "write the statements directly",
    "codeop": "write the statements directly",
    "pty": "there is no terminal",
    "resource": "limits are set by the platform",
    "signal": "signals are handled by the platform",
    "site": "nothing can be installed",
    "ensurepip": "nothing can be installed",
    "pip": "nothing can be installed",
    "venv": "nothing can be installed",
    "warmpool": "it is not part of a program's library",
    "warmpool_sandbox": "it is not part of a program's library",
}
CLIENT_MODULES: Final = frozenset({"socket", "ssl", "http", "urllib", "ftplib", "smtplib", "xmlrpc"})
"""Of the denied, what a program may import where its pool has a network profile."""
ALLOWED_SUBMODULES: Final = {"urllib.parse"}
ALLOWED_PACKAGES: Final = {"servers", "numpy", "pandas"}
"""Besides the standard library. Those that the image does not hold fail at import like any other."""

DENIED_CALLS: Final = {
    "eval": "compute the value directly",
    "exec": "write the statements directly",
    "compile": "write the statements directly",
    "__import__": "use the import statement",
    "breakpoint": "nobody is there to debug",
    "input": "nobody is there to answer; the question's data is in `context`",
}

ALLOWED_DUNDERS: Final = {
    f"__{name}__"
    for name in (
        "name doc class annotations version file init new post_init repr str len iter next contains getitem setitem "
        "delitem call enter exit eq ne lt le gt ge hash bool add sub mul truediv floordiv mod pow neg abs round int "
        "float index format missing reversed slots aenter aexit aiter anext await radd rsub rmul rtruediv iadd isub "
        "and or xor invert getattr setattr set_name class_getitem init_subclass "
        "qualname module dict all members match_args wrapped cause context notes traceback getattribute delattr del "
        "bytes complex copy deepcopy divmod matmul lshift rshift trunc ceil floor pos imul itruediv ior"
    ).split()
}

_ESCAPES: Final = frozenset(
    "gi_frame gi_code cr_frame ag_frame f_back f_globals f_locals f_builtins f_code tb_frame "
    "func_globals func_code".split()
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason to refuse a program; line and column count from 1."""

    rule: str
    message: str
    remedy: str
    line: int
    column: int


def check(tree: ast.Module, *, network: bool = False) -> Finding | None:
    """The first finding in reading order, or None. `network`: whether the pool has a network profile."""
    allowed = CLIENT_MODULES if network else frozenset[str]()
    nodes = list(ast.walk(tree))
    if len(nodes) > MAX_NODES:
        return Finding(
            "too_complex", f"the program has {len(nodes)} syntax nodes, over {MAX_NODES}", "shorten it", 1, 1
        )
    findings = [finding for node in nodes for finding in _check(node, allowed)]
    return min(findings, key=lambda finding: (finding.line, finding.column), default=None)


def _check(node: ast.AST, allowed: frozenset[str]) -> Iterator[Finding]:
    match node:
        case ast.Import(names=names):
            for alias in names:
                yield from _import(node, alias.name, allowed)
        case ast.ImportFrom(module=module, level=level, names=names):
            if level or module is None:
                yield _at(node, "import", "relative imports have nothing to be relative to", "name the module in full")
            elif module in DENIED_MODULES:
                for alias in names:
                    yield from _import(node, f"{module}.{alias.name}", allowed)
            else:
                yield from _import(node, module, allowed)
        case ast.Attribute(attr=name) | ast.Name(id=name):
            yield from _name(node, name)
        case ast.Call(func=ast.Name(id="open"), args=args, keywords=keywords):
            yield from _open(node, args, keywords)


def _import(node: ast.AST, module: str, allowed: frozenset[str]) -> Iterator[Finding]:
    top = module.partition(".")[0]
    if module in ALLOWED_SUBMODULES or top in allowed:
        return
    if top in DENIED_MODULES:
        yield _at(node, "import", f"`{top}` cannot be imported here", DENIED_MODULES[top])
    elif top not in sys.stdlib_module_names and top not in ALLOWED_PACKAGES:
        yield _at(
            node,
            "import",
            f"`{top}` is not installed: the standard library and the tools under `servers` are",
            "do the work with the standard library",
        )
    elif top.startswith("_") and top != "__future__":
        yield _at(node, "import", f"`{top}` is a private module", "import its public counterpart")


def _name(node: ast.AST, name: str) -> Iterator[Finding]:
    if isinstance(node, ast.Name) and name in DENIED_CALLS:
        yield _at(node, "name", f"`{name}` is not available", DENIED_CALLS[name])
    elif name in _ESCAPES:
        yield _at(node, "attribute", f"`{name}` is not available", "leave the interpreter's frames alone")
    elif name.startswith("__") and name.endswith("__") and name not in ALLOWED_DUNDERS:
        yield _at(node, "attribute", f"`{name}` is not available", "use the public way to do this")


def _open(node: ast.AST, args: list[ast.expr], keywords: list[ast.keyword]) -> Iterator[Finding]:
    """A literal absolute path cannot be meant: only the working folder can be read and written."""
    path = args[0] if args else next((k.value for k in keywords if k.arg == "file"), None)
    if isinstance(path, ast.Constant) and isinstance(path.value, str):
        absolute = path.value.startswith("/") and path.value != "/dev/null"
        if absolute or ".." in path.value.split("/"):
            yield _at(
                node,
                "open",
                f"`{path.value}` is outside the working folder",
                "write to a relative path, such as `data.csv`; it is gone when the program ends",
            )


def _at(node: ast.AST, rule: str, message: str, remedy: str) -> Finding:
    return Finding(rule, message, remedy, getattr(node, "lineno", 1), getattr(node, "col_offset", 0) + 1)

"""Compiles and runs one program, and says how it ended. Runs inside the child, after all walls are up.

The program's value is a top-level `return`, or else its last expression. Both come from rewriting the one
syntax tree that validation saw; line numbers stay those of the author.
"""

import ast
import builtins
import errno
import io
import linecache
import os
import sys
import traceback
import types
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

from warmpool.protocol import Limits, ProgramError, Status, encode_json
from warmpool_sandbox import validation, values
from warmpool_sandbox.tools import ToolError

FILENAME: Final = "program.py"
_VALUE: Final = "__value__"
_MAIN: Final = "__program__"
_MAX_TRACEBACK_CHARACTERS: Final = 8 * 1024
_SCOPES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)

_LIMIT_OF_ERRNO: Final = {
    errno.ENOSPC: (Status.DISK_LIMIT, "scratch_bytes"),
    errno.EDQUOT: (Status.DISK_LIMIT, "scratch_bytes"),
    errno.EFBIG: (Status.DISK_LIMIT, "file_bytes"),
    errno.ENOMEM: (Status.MEMORY_LIMIT, "memory_bytes"),
    errno.EMFILE: (Status.USER_ERROR, "open_files"),
    errno.EAGAIN: (Status.USER_ERROR, "processes"),
}


def run(code: str, context: Any, *, validate: bool, limits: Limits, network: bool = False) -> bytes:
    """The body of the VALUE message: {status, value} or {status, error} as JSON."""
    try:
        compiled = prepare(code, validate=validate, network=network)
    except Refused as refused:
        return _failed(Status.REJECTED, refused.error)
    module = _main_module(code, context)
    try:
        exec(compiled, module.__dict__)
        main = module.__dict__.pop(_MAIN, None)
        value = main() if main is not None else None
        value = module.__dict__.pop(_VALUE, value)
    except SystemExit as stop:
        if stop.code not in (None, 0):
            return _failed(
                Status.USER_ERROR, ProgramError(type="SystemExit", message=f"the program left with {stop.code!r}")
            )
        value = None
    except BaseException as fault:
        return _raised(fault, limits)
    return _value(value, limits)


class Refused(Exception):
    """The program was not run; `error` says why."""

    def __init__(self, error: ProgramError) -> None:
        super().__init__(error.message)
        self.error = error


def prepare(code: str, *, validate: bool, network: bool = False) -> types.CodeType:
    """Parses once, validates and compiles that tree. Raises Refused."""
    try:
        tree = ast.parse(code, FILENAME)
        finding = validation.check(tree, network=network) if validate else None
        if finding is None:
            return compile(_rewritten(tree), FILENAME, "exec", dont_inherit=True)
    except SyntaxError as fault:
        raise Refused(_syntax_error(fault, code)) from None
    except (ValueError, RecursionError, MemoryError) as fault:  # NUL bytes, nesting bombs
        raise Refused(
            ProgramError(type=type(fault).__name__, message=f"the program cannot be parsed: {fault}")
        ) from None
    raise Refused(
        ProgramError(
            type="ValidationError",
            message=finding.message,
            line=finding.line,
            column=_column(code, finding),
            remedy=finding.remedy,
        )
    )


def _column(code: str, finding: validation.Finding) -> int:
    """In characters; the syntax tree counts bytes."""
    line = _line(code, finding.line).encode("utf-8", "replace")
    return len(line[: finding.column - 1].decode("utf-8", "ignore")) + 1


def _line(code: str, number: int | None) -> str:
    lines = io.StringIO(code, newline=None).readlines()  # as the parser splits it; `splitlines` knows more ends
    return lines[number - 1].rstrip("\n") if number and number <= len(lines) else ""


def _syntax_error(fault: SyntaxError, code: str) -> ProgramError:
    source = (fault.text or _line(code, fault.lineno)).rstrip("\n")
    shown = f'  File "{FILENAME}", line {fault.lineno}\n    {source}' if source else None
    return ProgramError(
        type=type(fault).__name__,
        message=fault.msg,
        line=fault.lineno,
        column=fault.offset,
        traceback=shown,
        remedy="tools are synchronous: call them without await" if "await" in str(fault.msg) else None,
    )


def _rewritten(tree: ast.Module) -> ast.Module:
    if _returns_at_top_level(tree.body):
        return _as_function(tree)
    _keep_last_expression(tree.body)
    return ast.fix_missing_locations(tree)


def _returns_at_top_level(body: Iterable[ast.stmt]) -> bool:
    return any(isinstance(node, ast.Return) for node in _own_scope(body))


def _own_scope(body: Iterable[ast.AST]) -> Iterable[ast.AST]:
    """Every node that is not inside a function, lambda or class.

    Comprehensions count: their variables, declared global around them, stay their own, and a `:=` in one is not.
    """
    pending = list(body)
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, _SCOPES):
            pending.extend(ast.iter_child_nodes(node))


def _keep_last_expression(body: list[ast.stmt]) -> None:
    """Assigns the value of the last expression, also at the end of a closing `if`, `match`, `with` or `try`."""
    while body:
        match body[-1]:
            case ast.Expr(value=value) as last:
                body[-1] = ast.copy_location(ast.Assign([ast.Name(_VALUE, ast.Store())], value), last)
                return
            case ast.If(body=then, orelse=otherwise):
                _keep_last_expression(then)
                body = otherwise  # not by recursion: a chain of `elif` is as deep as it is long
            case (
                ast.Try(body=tried, handlers=handlers, orelse=otherwise)
                | ast.TryStar(body=tried, handlers=handlers, orelse=otherwise)
            ):
                for handler in handlers:
                    _keep_last_expression(handler.body)
                body = otherwise or tried
            case ast.With(body=inner):
                body = inner
            case ast.Match(cases=cases):
                for case in cases:
                    _keep_last_expression(case.body)
                return
            case _:
                return


def _as_function(tree: ast.Module) -> ast.Module:
    """The program as one function whose names are global, so that `return` works and the rest is unchanged."""
    star_imports = [s for s in tree.body if isinstance(s, ast.ImportFrom) and s.names[0].name == "*"]
    futures = [s for s in tree.body if isinstance(s, ast.ImportFrom) and s.module == "__future__"]
    body: list[ast.stmt] = [s for s in tree.body if s not in star_imports and s not in futures]
    _refuse_yield(body)
    _drop_annotations(body)
    _keep_last_expression(body)
    names = sorted(_bound_names(body))
    if names:
        body.insert(0, ast.Global(names))
    function = ast.FunctionDef(
        name=_MAIN,
        args=ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[]),
        body=body,
        decorator_list=[],
        lineno=1,
        col_offset=0,
    )
    return ast.fix_missing_locations(ast.Module([*futures, *star_imports, function], tree.type_ignores))


def _refuse_yield(body: list[ast.stmt]) -> None:
    """As the compiler does at top level; in a function it would make a generator of the program."""
    for node in _own_scope(body):
        if isinstance(node, (ast.Yield, ast.YieldFrom)):
            raise SyntaxError("'yield' outside function", (FILENAME, node.lineno, node.col_offset + 1, None))


def _drop_annotations(body: list[ast.stmt]) -> None:
    """`x: int = 1` would clash with `global x`."""
    blocks = [body]
    for node in _own_scope(body):
        if not isinstance(node, _SCOPES):
            found = (getattr(node, name, None) for name in ("body", "orelse", "finalbody"))
            blocks.extend(block for block in found if isinstance(block, list))
    for block in blocks:
        block[:] = [_without_annotation(statement) for statement in block]


def _without_annotation(statement: ast.stmt) -> ast.stmt:
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        if statement.value is None:
            return ast.copy_location(ast.Pass(), statement)
        return ast.copy_location(ast.Assign([statement.target], statement.value), statement)
    return statement


def _bound_names(body: Iterable[ast.stmt]) -> set[str]:
    names: set[str] = set()
    for node in _own_scope(body):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                names.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                names.update((alias.asname or alias.name.partition(".")[0]) for alias in aliases)
            case ast.ExceptHandler(name=str(name)):
                names.add(name)
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                names.add(name)
            case ast.MatchMapping(rest=str(name)):
                names.add(name)
    return names


def _main_module(code: str, context: Any) -> types.ModuleType:
    module = types.ModuleType("__main__")
    # `exit` and `quit` are `site`'s, which a zygote does without.
    module.__dict__.update(context=context, exit=sys.exit, quit=sys.exit, __builtins__=builtins)
    sys.modules["__main__"] = module
    linecache.cache[FILENAME] = (len(code), None, code.splitlines(keepends=True), FILENAME)
    return module


def forget() -> None:
    """Undoes what running a program leaves in this process, for a zygote that ran some itself."""
    sys.modules.pop("__main__", None)
    linecache.cache.pop(FILENAME, None)


def _value(value: Any, limits: Limits) -> bytes:
    try:
        text = values.to_json(value)
    except values.NotJson as fault:
        return _failed(Status.USER_ERROR, ProgramError(type="ResultNotJson", message=str(fault), remedy=fault.remedy))
    except BaseException as fault:
        return _raised(fault, limits)
    body = text.encode("utf-8", "replace")
    if len(body) > limits.result_bytes:
        return _failed(
            Status.OUTPUT_LIMIT,
            ProgramError(
                type="ResultTooLarge",
                message=f"the result is {len(body)} bytes of JSON, over result_bytes = {limits.result_bytes}",
                remedy="aggregate or filter in the program and return only what the user needs",
                limit="result_bytes",
            ),
        )
    return b'{"status":"ok","value":' + body + b"}"


def _failed(status: Status, error: ProgramError) -> bytes:
    return encode_json({"status": status.value, "error": asdict(error)})


def _raised(fault: BaseException, limits: Limits) -> bytes:
    status, limit = _limit_behind(fault)
    line = None
    frames = [f for f in traceback.extract_tb(fault.__traceback__) if f.filename == FILENAME]
    for frame in frames:
        frame.name = "<module>" if frame.name == _MAIN else frame.name
    if frames:
        line = frames[-1].lineno
    message = _text(fault)
    if limit is not None:
        reached = getattr(limits, limit)
        message = f"{message or type(fault).__name__} ({limit} = {reached} reached)"
    error = ProgramError(
        type=type(fault).__qualname__,
        message=message,
        line=line,
        traceback=_own_traceback(fault, frames),
        limit=limit,
        fields={"code": fault.code, **fault.fields} if isinstance(fault, ToolError) else None,
    )
    return _failed(status, error)


def _limit_behind(fault: BaseException) -> tuple[Status, str | None]:
    if isinstance(fault, MemoryError):
        return Status.MEMORY_LIMIT, "memory_bytes"
    if isinstance(fault, OSError) and fault.errno in _LIMIT_OF_ERRNO:
        status, limit = _LIMIT_OF_ERRNO[fault.errno]
        return status, "scratch_inodes" if limit == "scratch_bytes" and _is_out_of_inodes() else limit
    if isinstance(fault, RuntimeError) and "can't start new thread" in str(fault):
        return Status.USER_ERROR, "processes"
    return Status.USER_ERROR, None


def _is_out_of_inodes() -> bool:
    """A full file system says the same whichever it has run out of."""
    with suppress(OSError):  # the program removed the folder that it is in
        return os.statvfs(".").f_favail == 0
    return False


def _text(fault: BaseException) -> str:
    try:
        return str(fault).replace(f"{_MAIN}.<locals>.", "")[:2000]
    except BaseException as worse:
        return f"<its message could not be read: {type(worse).__name__}>"


def _own_traceback(fault: BaseException, frames: list[traceback.FrameSummary]) -> str:
    """Python's usual form with the program's frames only; the middle of a long one is cut."""
    lines = ["Traceback (most recent call last):\n", *traceback.StackSummary.from_list(frames).format()]
    text = "".join(lines) + f"{type(fault).__qualname__}: {_text(fault)}"
    if len(text) > _MAX_TRACEBACK_CHARACTERS:
        half = _MAX_TRACEBACK_CHARACTERS // 2
        text = f"{text[:half]}\n  [...]\n{text[-half:]}"
    return text

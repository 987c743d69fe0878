"""Compiles and runs one program, and says how it ended. Runs inside the child, after all walls are up.

The program's value is a top-level `return`, or else its last expression. Both come from rewriting the one
syntax tree that validation saw; line numbers stay those of the author.
"""

import ast
import builtins
import errno
import linecache
import sys
import traceback
import types
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final

from warmpool.protocol import Limits, ProgramError, Status, encode_json
from warmpool_sandbox import validation, values
from warmpool_sandbox.tools import ToolError

FILENAME: Final = "program.py"
_VALUE: Final = "__value__"
_MAIN: Final = "__program__"
_MAX_TRACEBACK_CHARACTERS: Final = 8 * 1024
_SCOPES: Final = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda,
    ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp,
)  # fmt: skip

_LIMIT_OF_ERRNO: Final = {
    errno.ENOSPC: (Status.DISK_LIMIT, "scratch_bytes"),
    errno.EDQUOT: (Status.DISK_LIMIT, "scratch_bytes"),
    errno.EFBIG: (Status.DISK_LIMIT, "file_bytes"),
    errno.EMFILE: (Status.USER_ERROR, "open_files"),
    errno.EAGAIN: (Status.USER_ERROR, "processes"),
}


def run(code: str, context: Any, *, validate: bool, limits: Limits) -> bytes:
    """The body of the VALUE message: {status, value} or {status, error} as JSON."""
    try:
        compiled = prepare(code, validate=validate)
    except Refused as refused:
        return _failed(Status.REJECTED, refused.error)
    module = _main_module(code, context)
    try:
        exec(compiled, module.__dict__)
        main = module.__dict__.pop(_MAIN, None)
        value = main() if main is not None else module.__dict__.pop(_VALUE, None)
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


def prepare(code: str, *, validate: bool) -> types.CodeType:
    """Parses once, validates and compiles that tree. Raises Refused."""
    try:
        tree = ast.parse(code, FILENAME)
        finding = validation.check(tree) if validate else None
        if finding is None:
            return compile(_rewritten(tree), FILENAME, "exec", dont_inherit=True)
    except SyntaxError as fault:
        raise Refused(_syntax_error(fault)) from None
    except (ValueError, RecursionError, MemoryError) as fault:  # NUL bytes, nesting bombs
        raise Refused(
            ProgramError(type=type(fault).__name__, message=f"the program cannot be parsed: {fault}")
        ) from None
    raise Refused(
        ProgramError(
            type="ValidationError",
            message=finding.message,
            line=finding.line,
            column=finding.column,
            remedy=finding.remedy,
        )
    )


def _syntax_error(fault: SyntaxError) -> ProgramError:
    source = (fault.text or "").rstrip("\n")
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
    """Every node that is not inside a function, lambda, class or comprehension."""
    for node in body:
        yield node
        if not isinstance(node, _SCOPES):
            yield from _own_scope(ast.iter_child_nodes(node))


def _keep_last_expression(body: list[ast.stmt]) -> None:
    """Assigns the value of the last expression, also at the end of a closing `if`, `with` or `try`."""
    if not body:
        return
    match body[-1]:
        case ast.Expr(value=value) as last:
            body[-1] = ast.copy_location(ast.Assign([ast.Name(_VALUE, ast.Store())], value), last)
        case ast.If(body=then, orelse=otherwise):
            _keep_last_expression(then)
            _keep_last_expression(otherwise)
        case ast.With(body=inner) | ast.Try(body=inner):
            _keep_last_expression(inner)


def _as_function(tree: ast.Module) -> ast.Module:
    """The program as one function whose names are global, so that `return` works and the rest is unchanged."""
    star_imports = [s for s in tree.body if isinstance(s, ast.ImportFrom) and s.names[0].name == "*"]
    futures = [s for s in tree.body if isinstance(s, ast.ImportFrom) and s.module == "__future__"]
    body: list[ast.stmt] = [s for s in tree.body if s not in star_imports and s not in futures]
    body = [_without_annotation(s) for s in body]
    _return_last_expression(body)
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


def _without_annotation(statement: ast.stmt) -> ast.stmt:
    """`x: int = 1` at top level would clash with `global x`."""
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        if statement.value is None:
            return ast.copy_location(ast.Pass(), statement)
        return ast.copy_location(ast.Assign([statement.target], statement.value), statement)
    return statement


def _return_last_expression(body: list[ast.stmt]) -> None:
    if body and isinstance(body[-1], ast.Expr):
        body[-1] = ast.copy_location(ast.Return(body[-1].value), body[-1])


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
    module.__dict__.update(context=context, __builtins__=builtins)
    sys.modules["__main__"] = module
    linecache.cache[FILENAME] = (len(code), None, code.splitlines(keepends=True), FILENAME)
    return module


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
        return _LIMIT_OF_ERRNO[fault.errno]
    if isinstance(fault, RuntimeError) and "can't start new thread" in str(fault):
        return Status.USER_ERROR, "processes"
    return Status.USER_ERROR, None


def _text(fault: BaseException) -> str:
    try:
        return str(fault)[:2000]
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

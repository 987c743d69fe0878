"""Whether a program may be run at all: decided from the request alone, before anything is asked of anyone."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from warmpool.errors import InvalidRequest
from warmpool.protocol import MAX_DEPTH, Limits, is_deep
from warmpool.settings import PoolSettings
from warmpool_gateway.encoding import json_bytes
from warmpool_gateway.pod_stream import Program

CONTEXT_BYTES: Final = 512 * 1024  # with 64 KiB of code at six bytes each it stays well below a frame's 2 MiB
MAX_GRANTS: Final = 64
GRANT_PATTERN: Final = r"^(\*|[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*(\.\*)?)$"
_GRANT: Final = re.compile(GRANT_PATTERN)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class TooLarge(InvalidRequest):
    """The request is larger than it may be."""

    def __init__(self, field: str, *, limit: str, most: int, value: int) -> None:
        message = f"{field}: {value} bytes are over the {most} allowed"
        super().__init__(message, field=field, limit=limit, most=most, value=value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRequest:
    """A program that someone wants to be run."""

    tenant: str
    key_id: str
    code: str
    context: Any = None
    """Any JSON value; the program's global `context`."""
    timeout_seconds: float | None = None
    """The wall-clock limit; None is the pool's."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """Others of `warmpool.protocol.Limits` that are to be lower than the pool's."""
    pool: str | None = None
    grants: tuple[str, ...] = ("*",)
    """Tools that the program may call: qualified names, `category.*` or `*`."""
    validate: bool = True
    weight: int = 1


def admit(request: ExecutionRequest, pool: PoolSettings) -> Program:
    """The program as it will be sent. Raises InvalidRequest, naming the field; TooLarge, naming the limit."""
    if request.pool not in (None, pool.name):
        raise InvalidRequest(f"pool: there is no pool {request.pool!r}, only {pool.name!r}", field="pool")
    _check_code(request.code, pool.limits.code_bytes)
    _check_grants(request.grants)
    lowered = dict(request.limits)
    if request.timeout_seconds is not None:
        if "wall_seconds" in lowered:
            raise InvalidRequest("timeout_seconds: limits.wall_seconds says it too", field="timeout_seconds")
        lowered["wall_seconds"] = request.timeout_seconds
    limits = _lower(pool.limits, lowered, by_timeout=request.timeout_seconds is not None)
    return Program(
        code=request.code,
        context=context_json(request.context),
        limits={name: getattr(limits, name) for name in lowered},
        wall_seconds=limits.wall_seconds,
        validate=request.validate,
    )


def _check_code(code: str, most: int) -> None:
    size = len(code.encode("utf-8", "surrogatepass"))
    if size > most:
        raise TooLarge("code", limit="code_bytes", most=most, value=size)
    nul = code.find("\x00")
    if nul >= 0:
        raise InvalidRequest(f"code: a NUL character at offset {nul}", field="code", offset=nul)
    if size != len(code) and (lone := _SURROGATE.search(code)):
        offset = lone.start()
        raise InvalidRequest(f"code: a lone surrogate at offset {offset}", field="code", offset=offset)


def context_json(value: Any) -> bytes:
    """A program's context as it will be sent. Raises InvalidRequest, or TooLarge, for what no sandbox would take."""
    context = json_bytes(value)
    if len(context) > CONTEXT_BYTES:
        raise TooLarge("context", limit="context_bytes", most=CONTEXT_BYTES, value=len(context))
    if context.count(b"[") + context.count(b"{") >= MAX_DEPTH and is_deep(value, MAX_DEPTH - 1):
        raise InvalidRequest(f"context: nested deeper than {MAX_DEPTH - 1} levels", field="context")
    if b"null" in context and _holds_infinity(value):  # 1e999 is read as one, and written as null
        raise InvalidRequest("context: a number that no double holds", field="context")
    return context


def _holds_infinity(value: Any) -> bool:
    match value:
        case float():
            return math.isinf(value)
        case list():
            return any(map(_holds_infinity, value))
        case dict():
            return any(map(_holds_infinity, value.values()))
        case _:
            return False


def _lower(limits: Limits, lowered: Mapping[str, float], *, by_timeout: bool) -> Limits:
    if not lowered:
        return limits
    try:
        return limits.lowered(lowered)
    except ValueError as fault:
        message = str(fault)
        if by_timeout:
            message = message.replace("limits.wall_seconds", "timeout_seconds", 1)
        raise InvalidRequest(message, field=message.partition(":")[0]) from fault


def _check_grants(grants: tuple[str, ...]) -> None:
    if len(grants) > MAX_GRANTS:
        raise InvalidRequest(f"grants: {len(grants)} are over the {MAX_GRANTS} allowed", field="grants")
    for number, grant in enumerate(grants):
        if not _GRANT.fullmatch(grant):
            message = f"grants.{number}: a tool (`search.search_products`), a category (`search.*`) or `*`"
            raise InvalidRequest(message, field=f"grants.{number}")

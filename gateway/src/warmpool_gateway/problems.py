"""Errors as RFC 9457 problem documents: the one place where the tree of `warmpool.errors` meets HTTP."""

import logging
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException

from warmpool.errors import (
    Forbidden,
    InvalidRequest,
    ModelRefused,
    NotFound,
    PlatformError,
    PoolExhausted,
    QuotaExceeded,
    RetryLater,
    ToolFailed,
    Unauthenticated,
    Unavailable,
    WarmpoolError,
)
from warmpool_gateway.admission import TooLarge
from warmpool_gateway.body import MalformedBody, SlowBody, WrongMediaType
from warmpool_gateway.encoding import json_bytes

MEDIA_TYPE: Final = "application/problem+json"

STATUSES: Final[Mapping[type[WarmpoolError], tuple[int, str]]] = {
    MalformedBody: (400, "The body is not JSON"),
    Unauthenticated: (401, "No valid API key"),
    Forbidden: (403, "Not allowed"),
    NotFound: (404, "Not found"),
    SlowBody: (408, "The body did not arrive in time"),
    TooLarge: (413, "Too large"),
    WrongMediaType: (415, "Not a media type that is understood"),
    InvalidRequest: (422, "The request is not of its form"),
    QuotaExceeded: (429, "The tenant's quota is used up"),
    PoolExhausted: (503, "No sandbox comes free in time"),
    Unavailable: (503, "Not available at the moment"),
    RetryLater: (503, "Try again later"),
    ToolFailed: (502, "A tool failed"),
    ModelRefused: (502, "The model's API refuses"),
    PlatformError: (500, "The platform failed"),
    WarmpoolError: (500, "The platform failed"),
}

logger = logging.getLogger(__name__)


def problem(
    status: int, title: str, detail: str, *, name: str, fields: Mapping[str, Any] | None = None, retry: float = 0.0
) -> Response:
    """A problem document; `fields` are its extension members, `retry` is in seconds."""
    document = {"type": f"urn:warmpool:problem:{name}", "title": title, "status": status, "detail": detail}
    headers = {}
    if retry:
        headers["Retry-After"] = str(max(1, math.ceil(retry)))
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="warmpool"'
    if status in (408, 413):
        headers["Connection"] = "close"  # the rest of the body is still on its way
    return Response(json_bytes({**(fields or {}), **document}), status, headers, MEDIA_TYPE)


def problem_of(fault: WarmpoolError) -> Response:
    status, title = next(STATUSES[kind] for kind in type(fault).__mro__ if kind in STATUSES)
    retry = fault.retry_after if isinstance(fault, RetryLater) else 0.0
    fields = {"retry_after_seconds": retry, **fault.fields} if retry else fault.fields
    return problem(status, title, fault.message, name=_snake(type(fault).__name__), fields=fields, retry=retry)


def invalid(errors: Sequence[ErrorDetails]) -> InvalidRequest:
    """What pydantic found, in the words of the request: `errors` is a list of {field, message}."""
    told = [
        {"field": ".".join(str(part) for part in error["loc"]) or "body", "message": error["msg"]} for error in errors
    ]
    first = told[0] if told else {"field": "body", "message": "not of its form"}
    return InvalidRequest(f"{first['field']}: {first['message']}", errors=told)


def install(app: FastAPI) -> None:
    """From here on every error of the app leaves as a problem document."""
    app.add_exception_handler(WarmpoolError, _warmpool)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(Exception, _unexpected)


async def _warmpool(_: Request, fault: Exception) -> Response:
    assert isinstance(fault, WarmpoolError)
    return problem_of(fault)


async def _http(_: Request, fault: Exception) -> Response:
    assert isinstance(fault, HTTPException)
    title = HTTPStatus(fault.status_code).phrase
    made = problem(fault.status_code, title, fault.detail, name=_snake(title.replace(" ", "")))
    made.headers.update(fault.headers or {})
    return made


async def _validation(_: Request, fault: Exception) -> Response:
    assert isinstance(fault, RequestValidationError)
    errors = [{**error, "loc": error["loc"][1:]} for error in fault.errors()]  # without "query" or "path"
    return problem_of(invalid(errors))  # type: ignore[arg-type]


async def _unexpected(_: Request, fault: Exception) -> Response:
    logger.error("request failed", exc_info=fault)
    return problem(500, "The platform failed", "An unexpected fault; it is in the log.", name="internal")


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")

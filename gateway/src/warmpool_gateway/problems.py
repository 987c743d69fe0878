"""Errors as RFC 9457 problem documents: the one place where the tree of `warmpool.errors` meets HTTP."""

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

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

CLIENT_GONE: Final = 499  # nobody reads it; it is for the metrics
MEDIA_TYPE: Final = "application/problem+json"

MOST_ERRORS: Final = 20  # told of one request
FIELD_CHARS: Final = 200  # of a field's name, which may be the caller's own

LINGER_SECONDS: Final = 1.0
LINGER_BYTES: Final = 16 * 1024 * 1024  # some 10 ms to take in

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
    status: int,
    title: str,
    detail: str,
    *,
    name: str,
    fields: Mapping[str, Any] | None = None,
    retry: float = 0.0,
    unread: bool = False,
) -> Response:
    """A problem document; `fields` are its extension members, `retry` is in seconds.

    `unread` says that the rest of the request's body is still on its way.
    """
    document = {"type": f"urn:warmpool:problem:{name}", "title": title, "status": status, "detail": detail}
    headers = {}
    if retry:
        headers["Retry-After"] = str(max(1, math.ceil(retry)))
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="warmpool"'
    kind = LastResponse if unread else Response
    return kind(json_bytes({**(fields or {}), **document}), status, headers, MEDIA_TYPE)


class LastResponse(Response):
    """Answers while the request still arrives, hears out the rest for a moment, and closes the connection.

    A connection that is closed over unread bytes is reset, and a client that sends before it reads then loses
    the answer too.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers["Connection"] = "close"
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                await _hear_out(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _hear_out(receive: Receive) -> None:
    heard, more = 0, True
    while more and heard < LINGER_BYTES:
        message = await receive()
        heard += len(message.get("body", b""))
        more = message.get("more_body", False)


def problem_of(fault: WarmpoolError) -> Response:
    status, title = next(STATUSES[kind] for kind in type(fault).__mro__ if kind in STATUSES)
    retry = fault.retry_after if isinstance(fault, RetryLater) else 0.0
    fields = {"retry_after_seconds": retry, **fault.fields} if retry else fault.fields
    name = _snake(type(fault).__name__)
    unread = isinstance(fault, SlowBody) or (isinstance(fault, TooLarge) and fault.fields["field"] == "body")
    return problem(status, title, fault.message, name=name, fields=fields, retry=retry, unread=unread)


def invalid(errors: Sequence[ErrorDetails]) -> InvalidRequest:
    """What pydantic found first, in the words of the request: `errors` is a list of {field, message}."""
    told = [{"field": _field(error), "message": error["msg"]} for error in errors[:MOST_ERRORS]]
    first = told[0] if told else {"field": "body", "message": "not of its form"}
    return InvalidRequest(f"{first['field']}: {first['message']}", errors=told)


def _field(error: ErrorDetails) -> str:
    return ".".join(str(part) for part in error["loc"])[:FIELD_CHARS] or "body"


def install(app: FastAPI) -> None:
    """From here on every error of the app leaves as a problem document."""
    app.add_exception_handler(WarmpoolError, _warmpool)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(ClientDisconnect, _gone)
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


async def _gone(_: Request, fault: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)


async def _unexpected(_: Request, fault: Exception) -> Response:
    logger.error("request failed", exc_info=fault)
    return problem(500, "The platform failed", "An unexpected fault; it is in the log.", name="internal")


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")

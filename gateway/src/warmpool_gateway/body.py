"""Reads a request's JSON body: bounded in size and time while it arrives, and parsed once.

Stricter than the standard library: NaN and infinities, lone surrogates and nesting past some 200 levels are refused.
"""

import asyncio
import json
import re
from typing import Any, Final

from fastapi import Request
from pydantic_core import from_json

from warmpool.errors import InvalidRequest
from warmpool.settings import ApiSettings
from warmpool_gateway.admission import TooLarge

_JSON: Final = re.compile(r"application/(json|[\w.+-]+\+json)\s*(;.*)?", re.IGNORECASE)


class MalformedBody(InvalidRequest):
    """The body is not JSON."""


class SlowBody(InvalidRequest):
    """The body did not arrive in time."""


class WrongMediaType(InvalidRequest):
    """The body must be JSON: send it with `Content-Type: application/json`."""


async def read_json(request: Request, settings: ApiSettings) -> Any:
    """The body's value. Raises InvalidRequest in one of its kinds, or starlette's ClientDisconnect."""
    media_type = request.headers.get("content-type", "application/json")
    if not _JSON.fullmatch(media_type):
        raise WrongMediaType(media_type=media_type)
    return parse_json(await _read(request, settings))


def parse_json(body: bytes | bytearray) -> Any:
    """Raises MalformedBody; a lone surrogate in the member `code` is left for whoever checks code."""
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as fault:
        malformed = MalformedBody(f"The body is not JSON: {fault}")
        return _with_surrogates(bytes(body), malformed)


def _with_surrogates(body: bytes, malformed: MalformedBody) -> dict[str, Any]:
    """For a body that would be JSON but for lone surrogates, which the standard library lets pass."""
    try:
        value = json.loads(body, parse_constant=_no_constant)
        whole = json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError) as fault:
        raise malformed from fault
    if _encodes(whole):
        raise malformed
    if isinstance(value, dict) and isinstance(value.get("code"), str) and not _encodes(value["code"]):
        return {"code": value["code"]}
    raise InvalidRequest("body: a lone surrogate, which no text can hold", field="body")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


async def _read(request: Request, settings: ApiSettings) -> bytearray:
    most = settings.max_body_bytes
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise TooLarge("body", limit="max_body_bytes", most=most, value=int(declared))
    body = bytearray()
    try:
        async with asyncio.timeout(settings.body_timeout_seconds):
            async for part in request.stream():
                body += part
                if len(body) > most:
                    raise TooLarge("body", limit="max_body_bytes", most=most, value=len(body))
    except TimeoutError as fault:
        raise SlowBody(seconds=settings.body_timeout_seconds, received=len(body)) from fault
    return body

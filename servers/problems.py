"""Faults as the words and the HTTP status that a caller gets. Nothing of ours leaks: no SQL, no path, no address."""

import difflib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
import psycopg.errors
import redis.exceptions
from pydantic import ValidationError

from servers.ledger import BudgetExceeded
from servers.tool import Arguments
from warmpool.errors import Forbidden, InvalidRequest, NotFound, PlatformError, RetryLater, ToolFailed

logger = logging.getLogger(__name__)

AWAY: Final = (psycopg.OperationalError, psycopg.InterfaceError, redis.exceptions.RedisError, OSError, RetryLater)
"""Something that the service needs cannot be reached. PoolTimeout is an OperationalError, TimeoutError an OSError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    status: int
    code: str
    message: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    retry_after: float | None = None
    """Seconds."""

    def body(self) -> dict[str, Any]:
        return {"error": {"code": self.code, "message": self.message, "fields": dict(self.fields)}}


def problem(fault: Exception) -> Problem:
    """What to tell a caller of a fault."""
    match fault:
        case BudgetExceeded():
            return Problem(status=429, code=fault.code, message=fault.message, fields=fault.fields)
        case ToolFailed():
            return Problem(status=422, code=fault.code, message=fault.message, fields=fault.fields)
        case Forbidden():
            return Problem(status=403, code="forbidden", message=fault.message, fields=fault.fields)
        case NotFound():
            return Problem(status=404, code="unknown_tool", message=fault.message, fields=fault.fields)
        case InvalidRequest():
            return Problem(status=400, code="malformed", message=fault.message, fields=fault.fields)
        case psycopg.errors.QueryCanceled() | TimeoutError():
            return _retry(fault, "timeout", "the tool took too long; ask for less, or try again")
        case PlatformError():
            return Problem(status=500, code="internal", message=fault.message)
    if isinstance(fault, AWAY):
        return _retry(fault, "unavailable", "something that the tool needs is away for the moment; try again")
    message = "the tool failed for a reason of ours, which is logged; the arguments were valid"
    return Problem(status=500, code="internal", message=message)


def log(fault: Exception, told: Problem) -> None:
    """Keeps what the caller was not told."""
    if told.status == 503:
        logger.warning("%s: %s: %s", told.code, type(fault).__name__, fault)
    elif told.status >= 500:
        logger.error("a tool call failed", exc_info=fault)


def invalid_arguments(fault: ValidationError, arguments: type[Arguments]) -> ToolFailed:
    """Every wrong field, each with what is wrong and what would be right."""
    fields = {_shortened(".".join(map(str, error["loc"]))): _remedy(error, arguments) for error in fault.errors()}
    message = "; ".join(f"{name}: {remedy}" for name, remedy in fields.items())
    return ToolFailed(message, code="invalid_arguments", arguments=fields)


def _remedy(error: Mapping[str, Any], arguments: type[Arguments]) -> str:
    name = _shortened(str(error["loc"][0])) if error["loc"] else ""
    if error["type"] == "missing":
        return "is required"
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, arguments.model_fields, n=1)
        return (
            f"did you mean {near[0]}?" if near else f"no such argument; known are {', '.join(arguments.model_fields)}"
        )
    text = str(error["msg"])
    return f"{text[0].lower()}{text[1:]}, got {_shown(error['input'])}"


def _shown(value: Any) -> str:
    return _shortened(repr(value))


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}..."


def _retry(fault: Exception, code: str, message: str) -> Problem:
    return Problem(status=503, code=code, message=message, retry_after=getattr(fault, "retry_after", 1.0))

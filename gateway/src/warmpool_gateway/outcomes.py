"""Reads an outcome off the wire with every part's type checked: what follows relies on them.

A supervisor is trusted once it has proved itself, but one of another version may be wrong.
"""

from collections.abc import Mapping
from types import NoneType
from typing import Any, Final

from warmpool.protocol import Outcome, ProgramError, ProtocolError, Stream, Usage

Types = type | tuple[type, ...]

_TEXT: Final = (str, NoneType)
_NUMBER: Final = (int, float)
_FORM: Final[Mapping[type, Mapping[str, Types]]] = {
    Outcome: {"execution": str, "clean": bool},
    Stream: {"head": str, "tail": str, "total_bytes": int, "truncated": bool},
    Usage: {
        "wall_seconds": _NUMBER,
        "cpu_seconds": _NUMBER,
        "memory_peak_bytes": int,
        "scratch_bytes": int,
        "tool_calls": int,
    },
    ProgramError: {
        "type": str,
        "message": str,
        "line": (int, NoneType),
        "column": (int, NoneType),
        "traceback": _TEXT,
        "remedy": _TEXT,
        "limit": _TEXT,
        "fields": (dict, NoneType),
    },
}


def read_outcome(message: Mapping[str, Any]) -> Outcome:
    """Raises ProtocolError where the message is not an outcome."""
    outcome = Outcome.from_message(message)
    for part in (outcome, outcome.stdout, outcome.stderr, outcome.usage):
        _check(part)
    if outcome.error is not None:
        _check(outcome.error)
    if not all(isinstance(residue, str) for residue in outcome.residue):
        raise ProtocolError("outcome: residue is not text")
    return outcome


def _check(part: object) -> None:
    for name, types in _FORM[type(part)].items():
        value = getattr(part, name)
        if not isinstance(value, types):
            raise ProtocolError(f"outcome: {type(part).__name__}.{name} is {type(value).__name__}")

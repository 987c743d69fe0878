"""Turns a program's value into JSON, honestly: what JSON cannot carry without loss of meaning is refused by name.

| Python | JSON |
|---|---|
| dict with string, number, boolean, None, UUID, path, date or enum keys | object; keys that clash are refused |
| list, tuple, set, frozenset, range, dict views, generators | array; sets in sorted order where they have one |
| str, bool, None, int | themselves; integers keep every digit |
| float | number; NaN and the infinities become the strings "NaN", "Infinity", "-Infinity" |
| Decimal, Fraction, UUID, Path | string, exactly |
| datetime, date, time | ISO 8601 string; timedelta: seconds |
| dataclass, named tuple | object of its fields |
| Enum | its value |
"""

import dataclasses
import datetime
import decimal
import enum
import fractions
import io
import json
import math
import pathlib
import uuid
from collections.abc import ItemsView, Iterator, KeysView, Mapping, Sequence, Set, ValuesView
from typing import Any, Final

MAX_DEPTH: Final = 64

_VIEWS: Final = (KeysView, ItemsView, ValuesView)
_NO_ARRAYS: Final = (bytes, bytearray, memoryview, io.IOBase)
"""Sequences and iterators that nobody means as arrays."""
_AS_TEXT: Final = (decimal.Decimal, fractions.Fraction, uuid.UUID, pathlib.PurePath)


class NotJson(Exception):
    """The program's value, or a part of it, has no JSON form."""

    def __init__(self, path: str, reason: str, remedy: str) -> None:
        super().__init__(f"{path} {reason}")
        self.remedy = remedy


def to_json(value: Any) -> str:
    """JSON text. Raises NotJson, naming the part and its type."""
    plain = _plain(value, "result", 0)  # apart: a generator of the program may raise a ValueError of its own
    try:
        return json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError as fault:
        raise _too_many_digits("result", fault) from fault


def _too_many_digits(path: str, fault: ValueError) -> NotJson:
    """Of an integer that CPython will not print."""
    return NotJson(path, f"has a number that cannot be written: {fault}", "return it as a string")


def _plain(value: Any, path: str, depth: int) -> Any:
    if value is None or type(value) in (str, bool, int):
        return value
    if depth > MAX_DEPTH:
        raise NotJson(path, f"is nested deeper than {MAX_DEPTH} levels, or contains itself", "return a flatter value")
    if isinstance(value, enum.Enum):
        return _plain(value.value, path, depth + 1)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, (str, int)):
        return str(value) if isinstance(value, str) else int(value)
    if isinstance(value, _AS_TEXT):
        return str(value)
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    return _container(value, path, depth)


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return float(value)
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _container(value: Any, path: str, depth: int) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return _object(value, path, depth)
    if isinstance(value, Set) and not isinstance(value, _VIEWS):
        value = _sorted(value)
    if isinstance(value, (Sequence, Iterator, *_VIEWS)) and not isinstance(value, _NO_ARRAYS):
        return [_plain(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    remedy = (
        "decode it to a string" if isinstance(value, (bytes, bytearray)) else "return strings, numbers, lists and dicts"
    )
    raise NotJson(path, f"is of type {type(value).__qualname__}, which has no JSON form", remedy)


def _sorted(value: Set[Any]) -> list[Any]:
    try:
        return sorted(value)
    except (TypeError, ArithmeticError):  # members of two types, or a Decimal that is not a number
        return list(value)


def _object(value: Mapping[Any, Any], path: str, depth: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, item in value.items():
        name = _key(key, path)
        if name in result:
            raise NotJson(path, f"has two keys that both become {name!r} in JSON", "make the keys strings")
        result[name] = _plain(item, f"{path}.{name}", depth + 1)
    return result


def _key(key: Any, path: str) -> str:
    if isinstance(key, enum.Enum):
        return _key(key.value, path)
    if isinstance(key, str):
        return str(key)
    if isinstance(key, bool) or key is None:
        return json.dumps(key)
    if isinstance(key, (int, float, datetime.date, datetime.time, *_AS_TEXT)):
        try:
            return str(_plain(key, path, 0))
        except ValueError as fault:
            raise _too_many_digits(path, fault) from fault
    raise NotJson(path, f"has a key of type {type(key).__qualname__}", "make the keys strings")

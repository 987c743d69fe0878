"""JSON as the gateway writes it: orjson where it can, the standard library for the few values that it cannot.

orjson refuses integers of more than 64 bits, nesting past 254 levels and lone surrogates; a program's
result may hold all three.
"""

import json
from typing import Any

import orjson

from warmpool.errors import InvalidRequest

Json = orjson.Fragment
"""Text that is JSON already, to be put into a larger document as it is."""


def json_bytes(value: Any) -> bytes:
    """UTF-8 JSON of a value made of JSON's own types; lone surrogates become question marks.

    Raises InvalidRequest where the value is nested too deeply to be written.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return _slowly(value)


def _slowly(value: Any) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except RecursionError as fault:
        raise InvalidRequest("The value is nested too deeply for JSON.") from fault
    return text.encode("utf-8", "replace")

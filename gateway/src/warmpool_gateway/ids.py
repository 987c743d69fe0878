"""Ids of executions: sortable by time, so that they page by themselves and tell which day's partition holds them."""

import re
import secrets
import time
from typing import Final

PATTERN: Final = r"^exe_[0-9a-f]{32}$"
_FORM: Final = re.compile(PATTERN)


def new_id(now: float | None = None) -> str:
    """`exe_`, 12 hex digits of milliseconds and 80 random bits."""
    milliseconds = int((time.time() if now is None else now) * 1000)
    return f"exe_{milliseconds:012x}{secrets.token_hex(10)}"


def created_at(id: str) -> float:
    """Unix seconds. Raises ValueError for what is no id."""
    if not _FORM.fullmatch(id):
        raise ValueError(f"{id!r} is not the id of an execution")
    return int(id[4:16], 16) / 1000

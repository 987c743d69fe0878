"""Waits on a condition, with a bound, and says what it was when it never came true."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

T = TypeVar("T")

LOOK_SECONDS: Final = 0.02


async def until(condition: Callable[[], T | Awaitable[T]], seconds: float, what: str = "") -> T:
    """The condition's first value that is true. Raises AssertionError, with the last one, past `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what or condition}; last: {value!r}")
        await asyncio.sleep(LOOK_SECONDS)

"""Calls the Lua scripts by their hash, and turns Redis's absence into a typed error. Decides nothing.

A script's text is sent once to a Redis, and again after that Redis came back without it.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final

from redis import exceptions
from redis.asyncio import Redis

from warmpool.errors import Unavailable
from warmpool.registry.pods import micros

AWAY: Final = (
    exceptions.ConnectionError,  # also: loading its data, authentication, no connection left in the client's pool
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,  # a replica that was the primary a moment ago
    exceptions.OutOfMemoryError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
)
REFUSALS: Final = re.compile(r"\b(OOM|READONLY|MISCONF|NOREPLICAS|MASTERDOWN|BUSY) ")
"""The same out of a script: Redis 6.2 wraps its error, so the client cannot tell the class."""

RETRY_AFTER_SECONDS: Final = 1.0  # about what a Redis that keeps nothing on disk takes to be back

PRELUDE: Final = "transitions"


def _texts() -> MappingProxyType[str, str]:
    """Every script by its name, with the shared part before its own."""
    folder = files("warmpool.registry") / "lua"
    texts = {file.name.removesuffix(".lua"): file.read_text("utf-8") for file in folder.iterdir()}
    prelude = texts.pop(PRELUDE)
    return MappingProxyType({name: prelude + text for name, text in texts.items()})


TEXTS: Final = _texts()  # read on import, so that no event loop waits for a disk


class Scripts:
    """The scripts of one pool. Without a clock they read Redis's own time."""

    def __init__(self, redis: Redis, root: str, clock: Callable[[], float] | None) -> None:
        self._root = root
        self._clock = clock
        self._scripts = {name: redis.register_script(text) for name, text in TEXTS.items()}

    async def call(self, name: str, *arguments: str | int) -> Any:
        """The reply, in the form that the script's header states. Raises Unavailable while Redis is away."""
        now = "" if self._clock is None else micros(self._clock())
        with redis_away():
            return await self._scripts[name](keys=[self._root], args=[now, *arguments])


@contextmanager
def redis_away() -> Iterator[None]:
    """Raises Unavailable in place of what the client raises while Redis is away."""
    try:
        yield
    except AWAY as fault:
        raise _unavailable() from fault
    except exceptions.ResponseError as fault:
        if REFUSALS.search(str(fault)):
            raise _unavailable() from fault
        raise


def _unavailable() -> Unavailable:
    """Callers are told it in these words; the client's own, in its cause, hold Redis's address."""
    return Unavailable("The pool's registry is away.", retry_after=RETRY_AFTER_SECONDS)

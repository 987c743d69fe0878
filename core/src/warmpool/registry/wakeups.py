"""The push that wakes waiting callers: one subscription that outlives its connection.

Delivery is at most once, as Redis's channels are; what it guarantees is that nobody sleeps through a
loss unknowingly: after every new connection there is an item, whatever was published meanwhile.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import TimeoutError

from warmpool.registry.scripts import AWAY

QUIET_SECONDS: Final = 10.0  # after such a silence Redis is asked whether it is still there
ANSWER_SECONDS: Final = 2.0  # it must answer within this: a host that vanished closes no connection
FIRST_DELAY_SECONDS: Final = 0.05
MAX_DELAY_SECONDS: Final = 1.0

WAKING: Final = ("message", "subscribe")  # the second: a client with retries of its own reconnected


class Wakeups(AsyncIterator[None]):
    """An endless iterator. A `__anext__` that was cancelled may be called again; no item is lost by it."""

    def __init__(self, redis: Redis, channel: str) -> None:
        self._redis = redis
        self._channel = channel
        self._pubsub: PubSub | None = None
        self._failures = 0

    async def open(self) -> None:
        """Subscribes. With Redis away it returns all the same; the first item then tells of the connection."""
        with suppress(*AWAY):
            self._pubsub = await self._subscribe()

    async def close(self) -> None:
        if self._pubsub is not None:
            pubsub, self._pubsub = self._pubsub, None
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def __anext__(self) -> None:
        while True:
            try:
                if self._pubsub is None:
                    self._pubsub = await self._subscribe()
                    return
                if await self._heard(self._pubsub):
                    return
            except AWAY:
                await self.close()
                await self._back_off()

    async def _subscribe(self) -> PubSub:
        pubsub = self._redis.pubsub()
        try:
            await pubsub.subscribe(self._channel)
            await self._next_type(pubsub, ANSWER_SECONDS)
        except BaseException:
            await pubsub.aclose()  # type: ignore[no-untyped-call]
            raise
        self._failures = 0
        return pubsub

    async def _heard(self, pubsub: PubSub) -> bool:
        """Whether there is reason to look for an idle pod."""
        try:
            type = await self._next_type(pubsub, QUIET_SECONDS)
        except TimeoutError:
            await pubsub.ping()
            type = await self._next_type(pubsub, ANSWER_SECONDS)
        return type in WAKING

    async def _next_type(self, pubsub: PubSub, seconds: float) -> str:
        message = await pubsub.get_message(timeout=seconds)
        if message is None:
            raise TimeoutError(f"nothing heard from Redis for {seconds} s")
        return str(message["type"])

    async def _back_off(self) -> None:
        """Grows to a second, and differs between gateways, so that they do not all come back at once."""
        delay = min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2**self._failures)
        self._failures = min(self._failures + 1, 10)
        await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311  jitter, no secret

"""The Redis client that the registry wants: bounded in time and connections, and without second tries.

A script that was sent may have run although no answer came, so the client never sends it again by
itself; what a lost answer leaves behind is a lease that expires.
"""

import asyncio
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig

# A burst waits for one; a script is 20 to 35 µs of a single-threaded Redis, so more would wait there.
CONNECTIONS: Final = 64

DRIVER: Final = DriverInfo()  # without it every new connection reads the package's metadata from disk

# Where a TCP client listens for a server's notices of maintenance, its pool hands out connections that Redis has
# closed: after a restart of Redis each of them would fail one more call, whenever its turn comes.
WITHOUT_NOTICES: Final = MaintNotificationsConfig(enabled=False)


def connect(url: str, *, timeout_seconds: float = 2.0, subscriptions: int = 1) -> Redis:
    """A client for `redis://`, `rediss://` or `unix://`. It connects on first use.

    `timeout_seconds` bounds a command, a connect, and the wait for a free connection. Each of so many `subscriptions`
    may hold a connection for good, beside those of commands.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS + subscriptions,
        timeout=timeout_seconds,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
        driver_info=DRIVER,
        maint_notifications_config=WITHOUT_NOTICES,
    )
    pool.connection_class = type("Connection", (_Cancellable, pool.connection_class), {})
    return Redis.from_pool(pool)


class _Cancellable(AbstractConnection):
    """Without the `asyncio.wait_for` around a send: before Python 3.12 it loses a cancellation that comes just as the
    send is done, and whoever waits for the cancelled task waits for ever."""

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        seconds, self.socket_timeout = self.socket_timeout, None
        try:
            async with asyncio.timeout(seconds):
                await super().send_packed_command(command, check_health)
        except TimeoutError as fault:  # what was sent in part is closed already
            raise RedisTimeoutError("Timeout writing to socket") from fault
        finally:
            self.socket_timeout = seconds

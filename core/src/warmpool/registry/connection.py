"""The Redis client that the registry wants: bounded in time and connections, and without second tries.

A script that was sent may have run although no answer came, so the client never sends it again by
itself; what a lost answer leaves behind is a lease that expires.
"""

from typing import Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo

# A burst waits for one; a script is 20 to 35 µs of a single-threaded Redis, so more would wait there.
CONNECTIONS: Final = 64

DRIVER: Final = DriverInfo()  # without it every new connection reads the package's metadata from disk


def connect(url: str, *, timeout_seconds: float = 2.0) -> Redis:
    """A client for `redis://`, `rediss://` or `unix://`. It connects on first use.

    `timeout_seconds` bounds a command, a connect, and the wait for a free connection.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=timeout_seconds,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
        driver_info=DRIVER,
    )
    return Redis.from_pool(pool)

"""The stand-in on a thread of this process, on loopback only."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn

from warmpool.local.standin.server import create_app

START_SECONDS: Final = 10.0
STOP_SECONDS: Final = 2
KEEP_ALIVE_SECONDS: Final = 60
"""More than the 5 s for which clients keep an idle connection: a request on one that was just closed is lost."""


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@contextmanager
def running(port: int = 0) -> Iterator[str]:
    """Yields the base URL for a client: `http://127.0.0.1:PORT/v1`. Port 0 is any free one.

    Raises OSError where the port is taken.
    """
    with socket.create_server(("127.0.0.1", port)) as listening:
        config = uvicorn.Config(
            create_app(),
            log_level="warning",
            lifespan="off",
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        server = _Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), name="stand-in", daemon=True)
        thread.start()
        try:
            if not server.ready.wait(START_SECONDS):
                raise RuntimeError(f"the stand-in did not start within {START_SECONDS:g} s")
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            thread.join(START_SECONDS)

"""The main function of an HTTP service: its arguments, its log, its server, its orderly end."""

import argparse
import gc
import logging
import math
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from types import FrameType
from typing import Any, Final

import uvicorn

from warmpool.errors import WarmpoolError
from warmpool.settings import Settings

BACKLOG: Final = 4096
"""Connections that the kernel holds while the loop is busy: a burst of 1,000 must not meet a full list."""

KEEP_ALIVE_SECONDS: Final = 75
"""For which a connection without requests is kept: longer than proxies and clients keep theirs, a minute as a rule, so
that no request meets one that is just being closed."""

UNREADY: Final = (
    b'{"type":"urn:warmpool:problem:not_ready","title":"Not ready","status":503,"detail":"The service is stopping."}'
)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class Lines(logging.Formatter):
    """Warnings and errors as lines, what was told beside a message behind it: `keys not refreshed fault='...'`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        beside = (f" {name}={value!r}" for name, value in vars(record).items() if name not in _OWN)
        return super().formatMessage(record) + "".join(beside)


class Readiness:
    """An application with an end: from there on it is not ready, and serves what comes all the same."""

    def __init__(self, app: Application) -> None:
        self.ended = False
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.ended or scope.get("path") != "/readyz":
            await self._app(scope, receive, send)
            return
        headers = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(UNREADY))]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": UNREADY})


class LingeringServer(uvicorn.Server):
    """Serves on for a while after SIGTERM: those who send requests here learn only then that they should not.

    Every answer asks its client to close the connection, so that nobody's next request meets a closed one.
    """

    def __init__(self, config: uvicorn.Config, app: Readiness, linger_seconds: float) -> None:
        super().__init__(config)
        self._app = app
        self._linger_seconds = linger_seconds
        self._closes_at = math.inf

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM once is an orderly end, twice or Ctrl-C ends the lingering too."""
        if sig != signal.SIGTERM or self._app.ended:
            super().handle_exit(sig, frame)
            return
        self._app.ended = True
        self._closes_at = time.monotonic() + self._linger_seconds
        close = (b"connection", b"close")
        self.config.encoded_headers.append(close)  # of these the next second's are made
        self.server_state.default_headers = [*self.server_state.default_headers, close]

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or time.monotonic() >= self._closes_at


def serve(name: str, what: str, port: int, make_app: Callable[[Settings], Application]) -> None:
    """Runs `make_app`, an ASGI application made from the environment's settings, until SIGTERM or Ctrl-C.

    `port` is the default of `--port`; `what` is for `--help`.
    """
    parser = argparse.ArgumentParser(prog=name, description=what)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=port, help="port (default: %(default)s)")
    parser.add_argument("--fd", type=int, help="inherited listening socket, instead of an address")
    options = parser.parse_args()
    log = logging.StreamHandler()
    log.setFormatter(Lines())
    logging.basicConfig(level=logging.WARNING, handlers=[log])
    try:
        settings = Settings.of_environment()
        app = Readiness(make_app(settings))
    except (WarmpoolError, ValueError) as fault:  # a setting that makes no sense, or a secret that is missing
        sys.exit(f"{name}: {fault}")
    config = uvicorn.Config(
        app, host=options.host, port=options.port, backlog=BACKLOG,
        loop="uvloop", http="httptools", access_log=False, log_level="warning",
        timeout_keep_alive=KEEP_ALIVE_SECONDS, timeout_graceful_shutdown=settings.stop.grace_seconds,
    )  # fmt: skip
    # What is loaded by now stays for good: a full collection that walks it stops the loop for 0.1 s, once a second.
    gc.collect()
    gc.freeze()
    # uvicorn takes a descriptor of its own `fd` for a unix socket; Nagle stays on then, and every answer waits 40 ms.
    inherited = None if options.fd is None else [socket.socket(fileno=options.fd)]
    with suppress(KeyboardInterrupt):  # Ctrl-C, after an orderly end
        LingeringServer(config, app, settings.stop.linger_seconds).run(sockets=inherited)

"""The main function of an HTTP service: its arguments, its log, its server, its orderly end."""

import argparse
import gc
import logging
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import uvicorn

from warmpool.errors import WarmpoolError
from warmpool.settings import Settings

BACKLOG: Final = 4096
"""Connections that the kernel holds while the loop is busy: a burst of 1,000 must not meet a full list."""
STOP_SECONDS: Final = 5

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class Lines(logging.Formatter):
    """Warnings and errors as lines, what was told beside a message behind it: `keys not refreshed fault='...'`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        beside = (f" {name}={value!r}" for name, value in vars(record).items() if name not in _OWN)
        return super().formatMessage(record) + "".join(beside)


def serve(name: str, what: str, port: int, make_app: Callable[[Settings], Any]) -> None:
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
        app = make_app(Settings.of_environment())
    except (WarmpoolError, ValueError) as fault:  # a setting that makes no sense, or a secret that is missing
        sys.exit(f"{name}: {fault}")
    config = uvicorn.Config(
        app, host=options.host, port=options.port, backlog=BACKLOG,
        loop="uvloop", http="httptools", access_log=False, log_level="warning", timeout_graceful_shutdown=STOP_SECONDS,
    )  # fmt: skip
    # What is loaded by now stays for good: a full collection that walks it stops the loop for 0.1 s, once a second.
    gc.collect()
    gc.freeze()
    # uvicorn takes a descriptor of its own `fd` for a unix socket; Nagle stays on then, and every answer waits 40 ms.
    inherited = None if options.fd is None else [socket.socket(fileno=options.fd)]
    with suppress(KeyboardInterrupt):  # Ctrl-C, after an orderly end
        uvicorn.Server(config).run(sockets=inherited)

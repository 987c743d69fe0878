"""`python -m warmpool_gateway`: the gateway, from the environment's settings."""

import argparse
import gc
import socket
from contextlib import suppress

import uvicorn

from warmpool.settings import Settings
from warmpool_gateway.app import create_app


def main() -> None:
    parser = argparse.ArgumentParser(prog="warmpool_gateway", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="port (default: %(default)s)")
    parser.add_argument("--fd", type=int, help="inherited listening socket, instead of an address")
    options = parser.parse_args()
    config = uvicorn.Config(
        create_app(Settings()), host=options.host, port=options.port, backlog=4096,
        loop="uvloop", http="httptools", access_log=False, log_level="warning", timeout_graceful_shutdown=5,
    )  # fmt: skip
    # What is loaded by now stays for good: a full collection that walks it stops the loop for 0.1 s, once a second.
    gc.collect()
    gc.freeze()
    # uvicorn takes a descriptor of its own `fd` for a unix socket; Nagle stays on then, and every answer waits 40 ms.
    inherited = None if options.fd is None else [socket.socket(fileno=options.fd)]
    with suppress(KeyboardInterrupt):  # Ctrl-C, after an orderly end
        uvicorn.Server(config).run(sockets=inherited)


if __name__ == "__main__":
    main()

"""`python -m servers`: the tool server, from the environment's settings."""

import argparse
import socket

import uvicorn

from servers.server import create_app
from warmpool.settings import Settings


def main() -> None:
    parser = argparse.ArgumentParser(prog="servers", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8081, help="port (default: %(default)s)")
    parser.add_argument("--fd", type=int, help="inherited listening socket, instead of an address")
    options = parser.parse_args()
    config = uvicorn.Config(
        create_app(Settings()), host=options.host, port=options.port,
        loop="uvloop", http="httptools", access_log=False, log_level="warning", backlog=4096,
        timeout_graceful_shutdown=5,
    )  # fmt: skip
    inherited = None if options.fd is None else [socket.socket(fileno=options.fd)]
    uvicorn.Server(config).run(sockets=inherited)


if __name__ == "__main__":
    main()

"""`python -m warmpool_gateway`: the gateway, from the environment's settings."""

import argparse

import uvicorn

from warmpool.settings import Settings
from warmpool_gateway.app import create_app


def main() -> None:
    parser = argparse.ArgumentParser(prog="warmpool_gateway", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="port (default: %(default)s)")
    parser.add_argument("--fd", type=int, help="inherited listening socket, instead of an address")
    options = parser.parse_args()
    uvicorn.run(
        create_app(Settings()), host=options.host, port=options.port, fd=options.fd, backlog=4096,
        loop="uvloop", http="httptools", access_log=False, log_level="warning", timeout_graceful_shutdown=5,
    )  # fmt: skip


if __name__ == "__main__":
    main()

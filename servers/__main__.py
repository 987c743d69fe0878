"""`python -m servers`: the tool server, from the environment's settings."""

from servers.server import create_app
from warmpool.http_service import serve

if __name__ == "__main__":
    serve("servers", __doc__, 8081, create_app)

"""`python -m warmpool_gateway`: the gateway, from the environment's settings."""

from warmpool.http_service import serve
from warmpool_gateway.app import create_app

if __name__ == "__main__":
    serve("warmpool_gateway", __doc__, 8080, create_app)

"""The gateway as an ASGI application: `create_app`, to be served by uvicorn with uvloop and httptools."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import warmpool
from warmpool.settings import Settings
from warmpool_gateway import api, chat, metrics, problems
from warmpool_gateway.gateway import Secrets, open_gateway
from warmpool_gateway.model import OpenAIModel, model_key
from warmpool_gateway.schemas import Problem

DESCRIPTION: Final = """
Runs the programs that a language model writes, each in an isolated sandbox that is already warm.

Every request needs an API key, `Authorization: Bearer wp_...`; `warmpool keys create` makes one.
Errors are RFC 9457 problem documents.
"""


def create_app(settings: Settings | None = None) -> FastAPI:
    """Raises ValueError where a secret is missing. Connects to nothing before the server starts it."""
    chosen = settings or Settings()
    secrets = Secrets.read(chosen.secrets)
    model = OpenAIModel(chosen.model, model_key(chosen.secrets.path))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_gateway(chosen, secrets) as gateway, chat.open_chat(chosen, model) as service:
            app.state.gateway, app.state.chat = gateway, service
            yield

    app = FastAPI(
        title="warmpool gateway",
        version=warmpool.__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False},
    )
    app.include_router(api.router)
    app.include_router(chat.router)
    problems.install(app)
    app.add_middleware(HttpMetrics)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, with the API key and the problem documents, which it cannot know of."""
    if app.openapi_schema is None:
        document = FastAPI.openapi(app)
        components = document.setdefault("components", {})
        components.setdefault("schemas", {})["Problem"] = Problem.model_json_schema(
            ref_template="#/components/schemas/{model}"
        )
        components["schemas"] |= components["schemas"]["Problem"].pop("$defs", {})
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": "An API key."}}
        for path, operations in document["paths"].items():
            if path.startswith("/v1/"):
                for operation in operations.values():
                    operation["security"] = [{"key": []}]
    assert app.openapi_schema is not None
    return app.openapi_schema


class HttpMetrics:
    """Counts and times requests by route: the path's pattern, never the path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        code = 500

        async def watched(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            metrics.requests.labels(route=route, code=str(code)).inc()
            metrics.request_time.labels(route=route).observe(time.perf_counter() - started)

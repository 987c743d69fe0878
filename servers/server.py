"""The tool server: HTTP around `servers.calls`.

Holds what a sandbox must not. Called by gateways only, behind a grant for each execution; it opens no
connection to a sandbox.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool
from redis.asyncio import Redis
from starlette.exceptions import HTTPException

from servers import tools as all_tools
from servers.calls import Calls, Metrics
from servers.embedding import Embedder, embedder
from servers.ledger import Ledger
from servers.problems import Problem
from warmpool.errors import PlatformError
from warmpool.registry.connection import connect
from warmpool.settings import Settings
from warmpool.storage.migrate import migrations
from warmpool.storage.pool import connection_pool
from warmpool.tools import catalogue_hash

logger = logging.getLogger(__name__)

MOST_BODY_BYTES: Final = 1024 * 1024
READY_SECONDS: Final = 2.0

SESSION: Final = {
    # A filter may leave few of an index scan's first neighbours: go on until the limit is full.
    "hnsw.iterative_scan": "relaxed_order",
    "hnsw.ef_search": "100",
    # The search's optional filters are parameters; only a plan that knows them drops the absent ones.
    "plan_cache_mode": "force_custom_plan",
}


def create_app(settings: Settings) -> FastAPI:
    """Raises ValueError where the settings cannot work: no grant key, contradicting embedding settings."""
    registry = CollectorRegistry()
    tools = {tool.definition.qualified: tool for tool in all_tools()}
    redis = connect(settings.redis.url, timeout_seconds=settings.redis.timeout_seconds)
    database = connection_pool(settings.postgres, SESSION)
    embedding = embedder(settings.embedding)
    calls = Calls(
        tools=tools,
        database=database,
        embedder=embedding,
        ledger=Ledger(redis),
        grant_key=settings.secrets.read("grant"),
        timeout_seconds=settings.tools.timeout_seconds,
        metrics=Metrics(registry),
    )
    app = FastAPI(title="warmpool tool server", lifespan=lambda app: _lifespan(redis, database, embedding))
    definitions = [tool.definition for tool in tools.values()]
    listing = {"hash": catalogue_hash(definitions), "tools": [definition.to_json() for definition in definitions]}
    _add_tools(app, calls, listing)
    _add_health(app, redis, database, registry)
    return app


@contextlib.asynccontextmanager
async def _lifespan(
    redis: Redis, database: AsyncConnectionPool[AsyncConnection], embedding: Embedder
) -> AsyncIterator[None]:
    await database.open()  # does not wait: without Postgres we start, and /readyz says what is missing
    try:
        yield
    finally:
        await embedding.aclose()
        await database.close()
        await redis.aclose()


def _add_tools(app: FastAPI, calls: Calls, listing: Mapping[str, Any]) -> None:
    @app.get("/v1/tools")
    async def list_tools() -> JSONResponse:
        """Every tool's definition, with a hash that changes with any of them."""
        return JSONResponse(listing)

    @app.post("/v1/tools/{qualified}")
    async def call_tool(qualified: str, request: Request) -> Response:
        """Calls a tool with the arguments object in the body, under the grant in `Authorization: Bearer`."""
        body = await _body(request)
        answer = await calls.answer(qualified, _bearer(request), body) if isinstance(body, bytes) else body
        if isinstance(answer, Problem):
            return _problem_response(answer)
        return Response(b'{"value":' + answer + b"}", media_type="application/json")

    @app.exception_handler(HTTPException)
    async def in_our_form(request: Request, fault: HTTPException) -> Response:
        return _problem_response(Problem(status=fault.status_code, code="no_such_route", message=str(fault.detail)))


def _add_health(
    app: FastAPI, redis: Redis, database: AsyncConnectionPool[AsyncConnection], registry: CollectorRegistry
) -> None:
    schema = [migration.name for migration in migrations()]

    @app.get("/healthz")
    async def healthy() -> JSONResponse:
        """The process answers."""
        return JSONResponse({"status": "ok"})

    @app.get("/readyz")
    async def ready() -> JSONResponse:
        """What the tools need answers too; 503 names what does not, `schema` where a migration has not run yet."""
        redis_up, postgres_lacks = await asyncio.gather(_answers(redis.ping()), _lacks(database, schema))
        away = [*([] if redis_up else ["redis"]), *postgres_lacks]
        return JSONResponse({"status": "unready" if away else "ready", "away": away}, 503 if away else 200)

    @app.get("/metrics")
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


async def _lacks(database: AsyncConnectionPool[AsyncConnection], schema: list[str]) -> list[str]:
    if not await _answers(_select(database)):
        return ["postgres"]
    return [] if await _answers(_check_schema(database, schema)) else ["schema"]


async def _select(database: AsyncConnectionPool[AsyncConnection]) -> None:
    async with database.connection() as connection:
        await connection.execute("SELECT 1")


async def _check_schema(database: AsyncConnectionPool[AsyncConnection], migrations: list[str]) -> None:
    """Raises where not all of them have run."""
    async with database.connection() as connection:
        rows = await connection.execute("SELECT name FROM schema_migrations WHERE name = ANY(%s)", (migrations,))
        if rows.rowcount < len(migrations):
            raise PlatformError("the database is older than this version; run `warmpool migrate`")


async def _answers(question: Awaitable[Any]) -> bool:
    try:
        await asyncio.wait_for(question, READY_SECONDS)
    except Exception as fault:
        logger.warning("not ready: %s: %s", type(fault).__name__, fault)
        return False
    return True


async def _body(request: Request) -> bytes | Problem:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BODY_BYTES:
            return Problem(status=400, code="malformed", message=f"the arguments are above {MOST_BODY_BYTES} bytes")
    return bytes(body)


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _problem_response(problem: Problem) -> JSONResponse:
    headers = {"Retry-After": str(max(1, round(problem.retry_after)))} if problem.retry_after is not None else None
    return JSONResponse(problem.body(), problem.status, headers)

"""The HTTP API: executions, health, metrics. Reads requests, asks the gateway, writes answers; decides nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, Protocol

from fastapi import APIRouter, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from warmpool.errors import Unavailable
from warmpool_gateway.body import read_json
from warmpool_gateway.encoding import json_bytes
from warmpool_gateway.gateway import Gateway
from warmpool_gateway.keys import Caller
from warmpool_gateway.problems import CLIENT_GONE, MEDIA_TYPE, problem
from warmpool_gateway.schemas import ExecutionBody, ExecutionView, Health, PageQuery, PageView, Readiness, RecordedView

Responses = dict[int | str, dict[str, Any]]

router = APIRouter()


def problems(*statuses: int) -> Responses:
    """The OpenAPI of the problem documents that an operation may answer with."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {status: {"description": DESCRIPTIONS[status], "content": {MEDIA_TYPE: schema}} for status in statuses}


DESCRIPTIONS: Final = {
    400: "The body is not JSON.",
    401: "No valid API key.",
    404: "There is no such execution, or it is another tenant's.",
    408: "The body did not arrive in time.",
    413: "The body or a part of it is too large; the problem names the limit.",
    415: "The body is sent as something else than JSON.",
    422: "Something in the request is not of its form; the problem names the field.",
    429: "The tenant runs as much at once as it may; `Retry-After` says when to try again.",
    502: "The model's API refuses the gateway's key or model name.",
    503: "No sandbox comes free in time, or something is away; `Retry-After` says when to try again.",
}


@router.post(
    "/v1/executions",
    summary="Run a program",
    description="Runs the program in a warm sandbox and answers when it has ended, however it ended: `status` says how."
    " Closing the connection cancels it.",
    tags=["executions"],
    response_model=None,
    responses={200: {"model": ExecutionView}, **problems(400, 401, 408, 413, 415, 422, 429, 503)},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": ExecutionBody.model_json_schema()}},
        }
    },
)
async def run_execution(request: Request) -> Response:
    gateway = gateway_of(request)
    caller, body = await caller_and_body(request)
    execution = gateway.executor.start(ExecutionBody.of(body).request(caller))
    return await answer_unless_gone(request, execution.response(), execution.cancel, execution=execution.id)


@router.get(
    "/v1/executions/{id}",
    summary="Get one execution",
    description="As it is recorded, its program included. One that has just ended may take 2 seconds to be found.",
    tags=["executions"],
    response_model=None,
    responses={200: {"model": RecordedView}, **problems(401, 404, 422, 503)},
)
async def get_execution(request: Request, id: str) -> Response:
    gateway = gateway_of(request)
    caller = gateway.keys.authenticate(request.headers.get("authorization"))
    return json_response(await gateway.store.get(caller.tenant, id))


@router.get(
    "/v1/executions",
    summary="List executions",
    description="Those of the key's tenant, the newest first.",
    tags=["executions"],
    response_model=None,
    responses={200: {"model": PageView}, **problems(401, 422, 503)},
)
async def list_executions(request: Request, page: Annotated[PageQuery, Query()]) -> Response:
    gateway = gateway_of(request)
    caller = gateway.keys.authenticate(request.headers.get("authorization"))
    found = await gateway.store.page(caller.tenant, limit=page.limit, cursor=page.cursor, status=page.status)
    return json_response(found)


@router.get(
    "/healthz",
    summary="Is the process alive?",
    description="503 where it must be restarted.",
    tags=["service"],
    response_model=None,
    responses={200: {"model": Health}, **problems(503)},
)
async def alive(request: Request) -> Response:
    if not gateway_of(request).alive:
        return problem(503, "Not alive", "Work in the background has ended; it is in the log.", name="not_alive")
    return json_response(json_bytes({"status": "alive"}))


@router.get(
    "/readyz",
    summary="Can it take requests?",
    description="Ready needs Redis and the API keys, read once, and for the first 30 s a way to the tool server."
    " Without a sandbox, the tool server or Postgres it is `degraded` then: callers are served, wait, or are told why"
    " not. Were that unready, one of them away would take every gateway out of service.",
    tags=["service"],
    response_model=None,
    responses={200: {"model": Readiness}, **problems(503)},
)
async def ready(request: Request) -> Response:
    checks = await gateway_of(request).checks()
    if missing := gateway_of(request).missing(checks):
        detail = f"Not ready: {', '.join(missing)}."
        return problem(503, "Not ready", detail, name="not_ready", fields={"checks": checks}, retry=1.0)
    status = "ready" if set(checks.values()) == {"ok"} else "degraded"
    return json_response(json_bytes({"status": status, "checks": checks}))


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    tags=["service"],
    response_model=None,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Text exposition."}},
)
async def metrics(request: Request) -> Response:
    gateway_of(request).observe()
    text = await asyncio.to_thread(generate_latest, REGISTRY)  # it reads /proc
    return Response(text, media_type=CONTENT_TYPE_LATEST)


def gateway_of(request: Request) -> Gateway:
    gateway = request.app.state.gateway
    assert isinstance(gateway, Gateway)
    return gateway


def json_response(body: bytes) -> Response:
    return Response(body, media_type="application/json")


async def caller_and_body(request: Request) -> tuple[Caller, Any]:
    """Who asks, and the JSON of what. Raises InvalidRequest, or starlette's ClientDisconnect."""
    gateway = gateway_of(request)
    caller = gateway.keys.authenticate(request.headers.get("authorization"))
    return caller, await read_json(request, gateway.settings.api)


class Answer(Protocol):
    def to_json(self) -> bytes: ...


async def answer_unless_gone(
    request: Request, answer: Awaitable[Answer], cancel: Callable[[object], object], **told: Any
) -> Response:
    """The answer. When the client hangs up first, `cancel` is called; `told` is said of what a shutdown ends."""
    hangs_up = asyncio.ensure_future(request.receive())  # the body has been read: what comes is the end
    hangs_up.add_done_callback(cancel)
    try:
        response = await answer
    except asyncio.CancelledError as fault:
        cancel(None)
        if hangs_up.done() and not hangs_up.cancelled():
            return Response(status_code=CLIENT_GONE)
        # else the server's patience at its end is over
        raise Unavailable("The gateway is shutting down; it ended this request.", **told) from fault
    finally:
        hangs_up.remove_done_callback(cancel)
        hangs_up.cancel()
    return json_response(response.to_json())

"""`POST /v1/chat` over HTTP: reads the question, lets the caller's programs run, writes the answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request, Response

from warmpool.errors import InvalidRequest
from warmpool.protocol import ProgramError, Status
from warmpool.settings import Settings
from warmpool_gateway.admission import ExecutionRequest
from warmpool_gateway.api import answer_unless_gone, caller_and_body, gateway_of, problems
from warmpool_gateway.chat_service import MOST_OF_A_TENANT, ChatService, Ran
from warmpool_gateway.chat_wire import ChatRequest, ChatResponse
from warmpool_gateway.executions import Executor
from warmpool_gateway.keys import Caller
from warmpool_gateway.model import ModelClient
from warmpool_gateway.signatures import ToolSignatures

router = APIRouter()


def _body_schema() -> dict[str, Any]:
    """Of a request, in one piece: an operation's own schema cannot hold definitions to refer to."""
    schema = ChatRequest.model_json_schema()
    schema["properties"]["history"]["items"] = schema.pop("$defs")["PastMessage"]
    return schema


@router.post(
    "/v1/chat",
    summary="Answer a question with a program",
    description="The model writes a program against the tools, the program runs in a sandbox, and the model puts its"
    " result into words. A program that fails is sent back once. Closing the connection cancels all of it.",
    tags=["chat"],
    response_model=None,
    responses={200: {"model": ChatResponse}, **problems(400, 401, 408, 413, 415, 422, 429, 502, 503)},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _body_schema()}},
        }
    },
)
async def chat(request: Request) -> Response:
    caller, body = await caller_and_body(request)
    service = request.app.state.chat
    assert isinstance(service, ChatService)
    programs = CallersPrograms(gateway_of(request).executor, caller)
    answering = asyncio.create_task(service.chat(caller.tenant, ChatRequest.of(body), programs))
    return await answer_unless_gone(request, answering, lambda _: answering.cancel())


class CallersPrograms:
    """A caller's programs on the executor; the chat's `Programs`."""

    def __init__(self, executor: Executor, caller: Caller) -> None:
        self._executor = executor
        self._caller = caller

    async def run(self, code: str, context: Any) -> Ran:
        request = ExecutionRequest(
            tenant=self._caller.tenant,
            key_id=self._caller.key_id,
            weight=self._caller.weight,
            code=code,
            context=context,
        )
        try:
            response = await self._executor.run(request)
        except InvalidRequest as fault:  # of the model's making, as all but the code was checked before
            error = ProgramError(type=type(fault).__name__, message=fault.message)
            return Ran(id=None, status=Status.REJECTED, value=None, stdout="", error=error, usage={})
        return Ran(
            id=response.id,
            status=response.status,
            value=response.result,
            stdout=response.stdout,
            error=response.error,
            usage=asdict(response.usage),
        )


@asynccontextmanager
async def open_chat(settings: Settings, model: ModelClient) -> AsyncIterator[ChatService]:
    """The chat of a gateway, with what it holds open; closes the model too."""
    signatures = ToolSignatures(settings.tools)
    most_of_a_tenant = min(MOST_OF_A_TENANT, settings.queue.tenant_quota)
    try:
        pool = settings.pool
        yield ChatService(model, signatures, pool.limits, tcp_ports=pool.tcp_ports, most_of_a_tenant=most_of_a_tenant)
    finally:
        await signatures.aclose()
        await model.close()

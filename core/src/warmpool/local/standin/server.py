"""The chat-completions API of the stand-in: requests, errors, usage and streams in the shapes that clients expect.

What it does not have it refuses instead of ignoring: several choices, tools, images. Nothing is stored.
"""

import itertools
import json
import re
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from warmpool.local.standin.conversation import Turn, reply_to

MODEL: Final = "warmpool-stand-in"
MAX_BODY_BYTES: Final = 1024 * 1024
CHARS_PER_TOKEN: Final = 4
"""The usual rule of thumb for English and code. The counts are an estimate and go by no tokenizer."""
MESSAGE_TOKENS: Final = 4
"""What a message's role and separators cost."""
_PIECE: Final = re.compile(r"\s*\S+\s*|\s+")


class TextPart(BaseModel):
    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(BaseModel):
    include_usage: bool = False


class ChatCompletionRequest(BaseModel):
    """The part of the API that is served; sampling parameters are accepted and change nothing."""

    model_config = ConfigDict(extra="ignore")

    model: str
    messages: list[ChatMessage] = Field(min_length=1, max_length=200)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    n: Literal[1] | None = None
    tools: None = None

    @property
    def most_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


class ApiError(Exception):
    """An error in the API's shape."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        self.status = status
        self.body = {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}
        super().__init__(message)

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status)


def create_app() -> FastAPI:
    app = FastAPI(title=MODEL, docs_url=None, redoc_url=None, openapi_url=None)
    numbers = itertools.count(1)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model_card()]}

    @app.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        _check_model(name)
        return _model_card()

    @app.post("/v1/chat/completions")
    async def chat_completions(request: ChatCompletionRequest) -> Response:
        _check_model(request.model)
        head = {"id": f"chatcmpl-stand-in-{next(numbers)}", "created": int(time.time()), "model": MODEL}
        text, finish = _finish(reply_to([Turn(m.role, m.text) for m in request.messages]), request.most_tokens)
        usage = _usage([message.text for message in request.messages], text)
        if request.stream:
            include_usage = request.stream_options is not None and request.stream_options.include_usage
            events = _events(head, text, finish, usage if include_usage else None)
            return StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-cache"})
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": usage})

    @app.middleware("http")
    async def bounded(request: Request, call_next: Any) -> Response:
        length = request.headers.get("content-length", "0" if request.method == "GET" else "")
        if not length.isdigit():
            return ApiError(411, "The body needs a content-length.").response()
        if int(length) > MAX_BODY_BYTES:
            return ApiError(413, f"The body is over {MAX_BODY_BYTES} bytes.").response()
        response: Response = await call_next(request)
        return response

    @app.exception_handler(ApiError)
    async def api_error(_: Request, fault: ApiError) -> JSONResponse:
        return fault.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, fault: RequestValidationError) -> JSONResponse:
        first = fault.errors()[0]
        param = ".".join(str(part) for part in first["loc"][1:]) or None
        return ApiError(400, f"{param or 'body'}: {first['msg']}", param=param).response()

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, fault: HTTPException) -> JSONResponse:
        return ApiError(fault.status_code, f"{fault.detail} ({request.method} {request.url.path})").response()

    return app


def _model_card() -> dict[str, Any]:
    return {"id": MODEL, "object": "model", "created": 0, "owned_by": "warmpool"}


def _check_model(name: str) -> None:
    if name != MODEL:
        raise ApiError(
            404, f"The model `{name}` does not exist; this is {MODEL}.", param="model", code="model_not_found"
        )


def tokens(text: str) -> int:
    """An estimate."""
    return -(-len(text) // CHARS_PER_TOKEN)


def _finish(text: str, most_tokens: int | None) -> tuple[str, str]:
    """The text within the token limit, and why it ends."""
    if most_tokens is None or tokens(text) <= most_tokens:
        return text, "stop"
    return text[: most_tokens * CHARS_PER_TOKEN], "length"


def _usage(messages: Sequence[str], reply: str) -> dict[str, Any]:
    prompt = sum(MESSAGE_TOKENS + tokens(message) for message in messages)
    completion = tokens(reply)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


async def _events(head: dict[str, Any], text: str, finish: str, usage: dict[str, Any] | None) -> AsyncIterator[str]:
    """The stream of server-sent events: role, pieces of text, the reason of the end, usage where asked for."""

    def chunk(choices: list[dict[str, Any]], counted: dict[str, Any] | None = None) -> str:
        with_usage = {"usage": counted} if usage is not None else {}
        body = {**head, "object": "chat.completion.chunk", "choices": choices, **with_usage}
        return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n"

    def choice(delta: dict[str, str], reason: str | None = None) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]

    yield chunk(choice({"role": "assistant", "content": ""}))
    for piece in _PIECE.findall(text):
        yield chunk(choice({"content": piece}))
    yield chunk(choice({}, finish))
    if usage is not None:
        yield chunk([], usage)
    yield "data: [DONE]\n\n"

"""What travels over the HTTP API, as the OpenAPI document shows it."""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from warmpool.protocol import Status
from warmpool_gateway.admission import GRANT_PATTERN, MAX_GRANTS, ExecutionRequest
from warmpool_gateway.forms import MOST_MEMBERS, Form, few_members
from warmpool_gateway.ids import PATTERN
from warmpool_gateway.keys import Caller

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

CODE = "from servers.search import search_products\n\nreturn [p['title'] for p in search_products(context['query'])]"


class ExecutionBody(Form):
    """A program to run."""

    model_config = ConfigDict(
        strict=True,
        json_schema_extra={"examples": [{"code": CODE, "context": {"query": "red shoes"}, "timeout_seconds": 5}]},
    )

    code: str = Field(description="Python, at most 64 KiB of UTF-8. Its value is a top-level `return`, or else its "
                      "last expression, as JSON.")  # fmt: skip
    context: Any = Field(None, description="Any JSON value; the program finds it as the global `context`.")
    timeout_seconds: Positive | None = Field(None, description="Wall-clock limit, at most the pool's.")
    limits: Annotated[dict[str, Positive], BeforeValidator(few_members)] = Field(
        {}, max_length=MOST_MEMBERS, description="Other limits to put lower than the pool's, by name."
    )
    pool: str | None = Field(None, description="Which pool of sandboxes; the default one if absent.")
    grants: list[Annotated[str, Field(pattern=GRANT_PATTERN)]] = Field(
        ["*"], max_length=MAX_GRANTS, description="Tools that the program may call: `search.search_products`, "
        "`search.*`, or `*` for all.",
    )  # fmt: skip

    @classmethod
    def of(cls, value: Any) -> Self:
        """Raises InvalidRequest."""
        code = value.get("code") if isinstance(value, dict) else None
        if isinstance(code, str):
            value = {**value, "code": ""}  # pydantic takes no lone surrogate; the admission says where one is
        return cls.read(value).model_copy(update={"code": code})

    def request(self, caller: Caller) -> ExecutionRequest:
        return ExecutionRequest(
            tenant=caller.tenant,
            key_id=caller.key_id,
            weight=caller.weight,
            code=self.code,
            context=self.context,
            timeout_seconds=self.timeout_seconds,
            limits=self.limits,
            pool=self.pool,
            grants=tuple(self.grants),
        )


class ErrorView(BaseModel):
    """Why a program did not end well, in words meant for its author."""

    type: str
    message: str
    line: int | None = None
    column: int | None = None
    traceback: str | None = Field(None, description="The program's own frames only, with its source lines.")
    remedy: str | None = None
    limit: str | None = Field(None, description="The limit that was reached.")
    fields: dict[str, Any] | None = Field(None, description="The fields of a tool's error.")


class UsageView(BaseModel):
    wall_seconds: float
    cpu_seconds: float
    memory_peak_bytes: int
    scratch_bytes: int
    tool_calls: int


class ToolCallView(BaseModel):
    tool: str
    seconds: float
    request_bytes: int
    response_bytes: int
    error: str | None = Field(None, description="The code of its error.")


class ExecutionView(BaseModel):
    """How a program ended."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "exe_019abcdef0123456789abcdef0123456",
                    "status": "ok",
                    "result": ["Red running shoe", "Crimson sneaker"],
                    "stdout": "",
                    "stderr": "",
                    "error": None,
                    "usage": {
                        "wall_seconds": 0.021,
                        "cpu_seconds": 0.004,
                        "memory_peak_bytes": 17825792,
                        "scratch_bytes": 0,
                        "tool_calls": 1,
                    },
                    "truncated": [],
                    "tool_calls": [
                        {
                            "tool": "search.search_products",
                            "seconds": 0.012,
                            "request_bytes": 21,
                            "response_bytes": 1480,
                            "error": None,
                        }
                    ],
                }
            ]
        }
    )

    id: str = Field(pattern=PATTERN)
    status: Status = Field(description="Only `platform_error` is the service's fault.")
    result: Any = Field(description="The program's value.")
    stdout: str = Field(description="Head and tail where it was long.")
    stderr: str
    error: ErrorView | None
    usage: UsageView
    truncated: list[str] = Field(description="Which of `stdout` and `stderr` were cut.")
    tool_calls: list[ToolCallView]


class RecordedView(ExecutionView):
    """An execution as it is recorded."""

    created_at: datetime
    pool: str
    queue_seconds: float = Field(description="From the request's arrival to its sandbox.")
    code: str
    limits: dict[str, float] = Field(description="Those that applied.")


class SummaryView(BaseModel):
    """An execution in a list, without its texts."""

    id: str = Field(pattern=PATTERN)
    created_at: datetime
    pool: str
    status: Status
    queue_seconds: float
    error: ErrorView | None
    usage: UsageView


class PageView(BaseModel):
    """Executions, the newest first."""

    executions: list[SummaryView]
    next_cursor: str | None = Field(description="For the next page; null at the end.")


class PageQuery(BaseModel):
    """Which executions to list."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(50, ge=1, le=200, description="How many.")
    cursor: str | None = Field(None, pattern=PATTERN, description="`next_cursor` of the page before.")
    status: Status | None = Field(None, description="Only those that ended so.")


class FieldError(BaseModel):
    field: str
    message: str


class Problem(BaseModel):
    """An RFC 9457 problem document. Further members say what the error is about."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:warmpool:problem:too_large",
                    "title": "Too large",
                    "status": 413,
                    "detail": "code: 65537 bytes are over the 65536 allowed",
                    "field": "code",
                    "limit": "code_bytes",
                    "most": 65536,
                    "value": 65537,
                }
            ]
        },
    )

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] | None = None
    retry_after_seconds: float | None = None


class Health(BaseModel):
    status: str


class Readiness(BaseModel):
    """`ready`, or `degraded`: executions run, and something that they do not need is away."""

    status: str
    checks: dict[str, str]

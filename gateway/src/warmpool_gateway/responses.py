"""What is said of an execution in the end: to its caller, and to the audit trail."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from warmpool.errors import InvalidRequest, PlatformError
from warmpool.protocol import Outcome, ProgramError, Status, Stream, Usage
from warmpool.records import ExecutionRecord, ToolCallRecord
from warmpool.registry import Lease
from warmpool_gateway.admission import ExecutionRequest
from warmpool_gateway.encoding import Json, json_bytes
from warmpool_gateway.ids import created_at

USAGE: Final = tuple(field.name for field in fields(Usage))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionResponse:
    """How an execution ended, for whoever asked for it."""

    id: str
    status: Status
    result: Any
    stdout: str
    stderr: str
    error: ProgramError | None
    usage: Usage
    truncated: tuple[str, ...]
    """The streams of which not everything was kept."""
    tool_calls: tuple[ToolCallRecord, ...]
    result_json: bytes
    """`result` as JSON, written once."""

    def to_json(self) -> bytes:
        """The body of the HTTP answer."""
        return json_bytes(
            {
                "id": self.id,
                "status": self.status,
                "result": Json(self.result_json),
                "stdout": self.stdout,
                "stderr": self.stderr,
                "error": None if self.error is None else Json(error_json(self.error)),
                "usage": self.usage,
                "truncated": self.truncated,
                "tool_calls": self.tool_calls,
            }
        )


def error_json(error: ProgramError) -> bytes:
    return json_bytes(asdict(error))


def lost(id: str, fault: PlatformError, *, gone: bool) -> Outcome:
    """Of an execution that was lost: nobody can say that its pod is clean.

    Of the fault's fields its caller is told the reason only: which pod it was, and what it said, is for the log.
    """
    reason = fault.fields.get("reason")
    return Outcome(
        execution=id,
        status=Status.CANCELLED if gone else Status.PLATFORM_ERROR,
        error=ProgramError(
            type="PlatformError", message=fault.message, fields=None if reason is None else {"reason": reason}
        ),
    )


def never_started(id: str) -> Outcome:
    """Of an execution whose caller went away before it reached a sandbox."""
    return Outcome(
        execution=id,
        status=Status.CANCELLED,
        error=ProgramError(type="Cancelled", message="The caller went away before the program started."),
        clean=True,
    )


def response_of(outcome: Outcome, tool_calls: Sequence[ToolCallRecord]) -> ExecutionResponse:
    status, result, error = outcome.status, outcome.value, outcome.error
    try:
        result_json = json_bytes(result)
    except InvalidRequest as fault:
        status, result, result_json = Status.USER_ERROR, None, b"null"
        error = ProgramError(type="NotJson", message=fault.message, remedy="return a flatter value")
    streams = {"stdout": outcome.stdout, "stderr": outcome.stderr}
    return ExecutionResponse(
        id=outcome.execution,
        status=status,
        result=result,
        stdout=_text(outcome.stdout),
        stderr=_text(outcome.stderr),
        error=error,
        usage=outcome.usage,
        truncated=tuple(name for name, stream in streams.items() if stream.truncated),
        tool_calls=tuple(tool_calls),
        result_json=result_json,
    )


def record_of(
    request: ExecutionRequest,
    outcome: Outcome,
    response: ExecutionResponse,
    *,
    pool: str,
    lease: Lease | None,
    queue_seconds: float,
    limits: dict[str, Any],
) -> ExecutionRecord:
    return ExecutionRecord(
        id=response.id,
        tenant=request.tenant,
        key_id=request.key_id,
        pool=pool,
        pod=None if lease is None else lease.pod,
        fence=None if lease is None else lease.fence,
        created_at=created_at(response.id),
        queue_seconds=round(queue_seconds, 6),
        code=request.code,
        code_sha256=hashlib.sha256(request.code.encode()).hexdigest(),
        status=response.status,
        result=response.result_json.decode(),
        stdout=_postgres_text(response.stdout),
        stderr=_postgres_text(response.stderr),
        truncated=list(response.truncated),
        error=None if response.error is None else error_json(response.error).decode(),
        limits=limits,
        usage={name: getattr(response.usage, name) for name in USAGE},
        clean=None if lease is None else outcome.clean,
        residue=list(outcome.residue),
        tool_calls=list(response.tool_calls),
    )


def _text(stream: Stream) -> str:
    """What was kept of a stream. Lone surrogates, which UTF-8 cannot carry, become question marks."""
    return stream.text.encode("utf-8", "replace").decode()


def _postgres_text(text: str) -> str:
    """Postgres holds no NUL in a text; replaced here, a batch of records need not be taken apart for it."""
    return text.replace("\x00", "\ufffd")

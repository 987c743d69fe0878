"""The audit trail's way from the hot path to Postgres: records on a Redis stream.

Writing a record is one XADD and never waits for Postgres; a consumer group drains the stream in
batches (`warmpool_gateway.audit`). Delivery is at least once: the record's id makes a second write a no-op.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final

STREAM: Final = "warmpool:audit"
GROUP: Final = "postgres"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallRecord:
    """One tool call, as the gateway saw it."""

    tool: str
    seconds: float
    request_bytes: int
    response_bytes: int
    error: str | None = None
    """The code of the tool's error, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRecord:
    """One execution: who, what, with which limits, and how it ended."""

    id: str
    tenant: str
    key_id: str
    pool: str
    pod: str | None
    fence: int | None
    created_at: float
    """Unix seconds."""
    queue_seconds: float
    code: str
    code_sha256: str
    status: str
    result: str | None
    """JSON in text, so that whoever parses the record leaves it as it is: Postgres would unescape its NULs."""
    stdout: str
    stderr: str
    truncated: list[str]
    error: str | None
    """JSON in text, likewise."""
    limits: dict[str, Any]
    usage: dict[str, Any]
    clean: bool | None
    residue: list[str]
    tool_calls: list[ToolCallRecord] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolAuditRecord:
    """One tool call, as the tool server saw it: written even where the gateway never heard the answer."""

    id: str
    """Unique; the same record may be delivered twice."""
    tenant: str
    execution: str
    tool: str
    at: float
    """Unix seconds, when it ended."""
    seconds: float
    request_bytes: int
    response_bytes: int
    error: str | None = None
    """The code of its error, or None."""

    def to_fields(self) -> dict[str, str]:
        """The fields of the stream's entry."""
        return {"kind": "tool_call", "record": json.dumps(asdict(self), separators=(",", ":"))}

"""One tool call from grant to answer: who may, how much is left, are the arguments right, run, is the result right."""

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

import orjson
import psycopg
from prometheus_client import CollectorRegistry, Counter, Histogram
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool
from pydantic import ValidationError

from servers.embedding import Embedder
from servers.ledger import Ledger
from servers.problems import Problem, invalid_arguments, log, problem
from servers.tool import Arguments, Context, Tool
from warmpool.errors import Forbidden, InvalidRequest, NotFound, ToolFailed
from warmpool.grants import Grant, verify
from warmpool.records import ToolAuditRecord

MOST_ARGUMENTS: Final = 100
"""Far more than any tool has. To say of 20,000 unknown ones what each was meant to be took 0.4 s of everyone's time."""


class Metrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.calls = Counter("warmpool_tool_calls", "Tool calls by their end.", ["tool", "outcome"], registry=registry)
        self.seconds = Histogram(
            "warmpool_tool_call_seconds",
            "Duration of a tool call, budget and audit included.",
            ["tool"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=registry,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """Everything a call needs, built once."""

    tools: Mapping[str, Tool]
    database: AsyncConnectionPool[AsyncConnection]
    embedder: Embedder
    ledger: Ledger
    grant_key: bytes
    timeout_seconds: float
    metrics: Metrics
    clock: Callable[[], float] = time.time

    async def answer(self, qualified: str, token: str | None, body: bytes) -> bytes | Problem:
        """The result as JSON, or what went wrong. Never raises but for cancellation."""
        began = time.monotonic()
        label = qualified if qualified in self.tools else "unknown"
        try:
            value = await self._granted(qualified, self._grant(token), body, began)
        except Exception as fault:
            told = problem(fault)
            log(fault, told)
            # A tool's own codes are its affair: as labels they would have no bound.
            outcome = "tool_failed" if isinstance(fault, ToolFailed) and told.status == 422 else told.code
            self.metrics.calls.labels(label, outcome).inc()
            return told
        else:
            self.metrics.calls.labels(label, "ok").inc()
            return value
        finally:
            self.metrics.seconds.labels(label).observe(time.monotonic() - began)

    def _grant(self, token: str | None) -> Grant:
        if not token:
            raise Forbidden("no grant: the gateway sends one as `Authorization: Bearer ...`")
        return verify(token, self.grant_key, self.clock())

    async def _granted(self, qualified: str, grant: Grant, body: bytes, began: float) -> bytes:
        await self.ledger.charge_call(grant)
        value, fault = b"", None
        try:
            value = await self._run(self._tool(qualified, grant), grant, body)
        except Exception as error:
            fault = error
        record = ToolAuditRecord(
            id=uuid.uuid4().hex,
            tenant=grant.tenant,
            execution=grant.execution,
            tool=qualified[:200],
            at=self.clock(),
            seconds=round(time.monotonic() - began, 6),
            request_bytes=len(body),
            response_bytes=len(value),
            error=problem(fault).code if fault else None,
        )
        await self.ledger.settle(grant, record)
        if fault:
            raise fault
        return value

    def _tool(self, qualified: str, grant: Grant) -> Tool:
        tool = self.tools.get(qualified)
        if tool is None:
            near = get_close_matches(qualified, self.tools, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(self.tools)}"
            raise NotFound(f"no tool {qualified[:200]!r}{hint}")
        if not grant.allows(qualified):
            raise Forbidden(f"the grant does not allow {qualified}; it allows {', '.join(grant.tools) or 'nothing'}")
        return tool

    async def _run(self, tool: Tool, grant: Grant, body: bytes) -> bytes:
        arguments = _arguments(tool, body)
        context = Context(tenant=grant.tenant, database=self.database, embedder=self.embedder)
        async with asyncio.timeout(self.timeout_seconds):
            try:
                value = await tool(context, arguments)
            except psycopg.OperationalError as fault:
                if not tool.definition.read_only or isinstance(fault, psycopg.errors.QueryCanceled):
                    raise
                # A restarted server leaves the pool with dead connections. Weed them out and read once more.
                await self.database.check()
                value = await tool(context, arguments)
        return tool.serialised(value)


def _arguments(tool: Tool, body: bytes) -> Arguments:
    try:
        given: Any = orjson.loads(body) if body.strip() else {}
    except orjson.JSONDecodeError as fault:
        raise InvalidRequest(f"the arguments are not JSON: {fault}") from fault
    if not isinstance(given, dict):
        raise InvalidRequest("the arguments must be a JSON object of names and values")
    if len(given) > MOST_ARGUMENTS:
        raise InvalidRequest(f"{len(given)} arguments are over the {MOST_ARGUMENTS} allowed")
    try:
        return tool.arguments.model_validate(given)
    except ValidationError as fault:
        raise invalid_arguments(fault, tool.arguments) from fault

"""One execution from request to answer: a pod, the program, its tool calls, the end of its lease, its record.

An accepted execution always ends in a response and a record, and its lease is always given back or its
pod retired, whatever fails and whenever the caller goes away. It is tried on another pod only where it
provably did not start.
"""

import asyncio
import logging
import time
from collections import Counter
from typing import Any, Final

from warmpool.errors import PlatformError, QuotaExceeded, RetryLater, ToolFailed, Unavailable
from warmpool.grants import Grant, sign
from warmpool.protocol import Outcome
from warmpool.records import ToolCallRecord
from warmpool.registry import Lease
from warmpool.settings import Settings
from warmpool_gateway import metrics
from warmpool_gateway.admission import ExecutionRequest, admit
from warmpool_gateway.audit import AuditConsumer
from warmpool_gateway.ids import new_id
from warmpool_gateway.pod_stream import NotStarted, Program
from warmpool_gateway.pods import PodConnections
from warmpool_gateway.queue import Ask, PoolQueue
from warmpool_gateway.responses import ExecutionResponse, lost, never_started, record_of, response_of
from warmpool_gateway.settlements import Settlements
from warmpool_gateway.tools import ToolServer

PODS_TRIED: Final = 3  # for a program that did not start; more would hide that the pool is broken
CLOSE_SECONDS: Final = 5.0

logger = logging.getLogger(__name__)


class Execution:
    """An accepted execution, under way or done."""

    def __init__(self, request: ExecutionRequest, program: Program, tools: "ToolCalls") -> None:
        self.id = tools.execution
        self.request = request
        self.program = program
        self.tools = tools
        self.arrived = time.monotonic()
        self.queue_seconds = 0.0
        self.lease: Lease | None = None
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[ExecutionResponse]

    def cancel(self, _: object = None) -> None:
        """The caller went away. The execution ends soon, and in order."""
        if not self.gone.done():
            self.gone.set_result(None)

    async def response(self) -> ExecutionResponse:
        """Raises RetryLater where no pod came free. Being cancelled here cancels nothing by itself."""
        return await asyncio.shield(self.task)


class Executor:
    """Runs programs in the sandboxes of one pool. `aclose` it before the things that it was given."""

    def __init__(
        self,
        settings: Settings,
        *,
        queue: PoolQueue,
        pods: PodConnections,
        tools: ToolServer,
        settlements: Settlements,
        audit: AuditConsumer,
        grant_key: bytes,
    ) -> None:
        self._pool = settings.pool
        self._settings = settings
        self._queue = queue
        self._pods = pods
        self._tools = tools
        self._settlements = settlements
        self._audit = audit
        self._grant_key = grant_key
        self._pool_limits = settings.pool.limits.as_dict()
        self._running: set[Execution] = set()
        self._tenants: Counter[str] = Counter()
        self._closing = False
        self._lease_wait = metrics.lease_wait.labels(pool=self._pool.name)
        self._run_time = metrics.run_time.labels(pool=self._pool.name)

    @property
    def in_flight(self) -> int:
        return len(self._running)

    async def run(self, request: ExecutionRequest) -> ExecutionResponse:
        """Runs a program to its end. Cancelling the call cancels the program.

        Raises InvalidRequest, or RetryLater where it did not come to run.
        """
        execution = self.start(request)
        try:
            return await execution.response()
        except asyncio.CancelledError:
            execution.cancel()
            raise

    def start(self, request: ExecutionRequest) -> Execution:
        """Accepts a program and sets it going. Raises what `run` raises, without having asked anyone anything."""
        program = admit(request, self._pool)
        try:
            self._check_room(request.tenant)
        except RetryLater as fault:
            self._count_refusal(fault)
            raise
        execution = Execution(request, program, self._tool_calls(request, program))
        self._running.add(execution)
        self._tenants[request.tenant] += 1
        execution.task = asyncio.get_running_loop().create_task(self._execute(execution))
        execution.task.add_done_callback(lambda task: self._leave(execution, task))
        return execution

    async def aclose(self) -> None:
        """Accepts nothing more, cancels what runs and waits for its end."""
        self._closing = True
        tasks = [execution.task for execution in self._running]
        for execution in self._running:
            execution.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)

    def _check_room(self, tenant: str) -> None:
        if self._closing:
            raise Unavailable("The gateway is shutting down.")
        if self._audit.full or self._settlements.overloaded:
            raise Unavailable("Too many audit records wait to be written.", retry_after=5.0)
        quota = self._settings.queue.tenant_quota
        if self._tenants[tenant] >= quota:
            raise QuotaExceeded(quota=quota)

    def _count_refusal(self, fault: RetryLater) -> None:
        metrics.refusals.labels(pool=self._pool.name, reason=type(fault).__name__).inc()

    def _tool_calls(self, request: ExecutionRequest, program: Program) -> "ToolCalls":
        budget = self._settings.tools
        id = new_id()
        grant = Grant(
            tenant=request.tenant,
            execution=id,
            tools=request.grants,
            expires_at=time.time() + self._settings.queue.max_wait_seconds + self._hold_seconds(program),
            max_calls=budget.max_calls,
            max_bytes=budget.max_bytes,
        )
        return ToolCalls(self._tools, grant, self._grant_key)

    def _hold_seconds(self, program: Program) -> float:
        return program.wall_seconds + self._pool.lease_grace_seconds

    def _leave(self, execution: Execution, task: asyncio.Task[ExecutionResponse]) -> None:
        self._running.discard(execution)
        tenant = execution.request.tenant
        self._tenants[tenant] -= 1
        if not self._tenants[tenant]:
            del self._tenants[tenant]
        if not task.cancelled():
            task.exception()  # seen: nobody may be left to hear of a refusal

    async def _execute(self, execution: Execution) -> ExecutionResponse:
        try:
            outcome = await self._outcome(execution)
        except RetryLater as fault:
            self._count_refusal(fault)
            raise
        except PlatformError as fault:
            logger.warning("execution lost: %s", fault, extra={**fault.fields, "execution": execution.id})
            outcome = lost(execution.id, fault, gone=execution.gone.done())
        except Exception as fault:
            logger.exception("execution failed", extra={"execution": execution.id})
            ours = PlatformError(f"{type(fault).__name__} in the gateway.")
            outcome = lost(execution.id, ours, gone=execution.gone.done())
        response = response_of(outcome, execution.tools.records)
        await self._settle(execution, outcome, response)
        metrics.executions.labels(pool=self._pool.name, status=response.status).inc()
        return response

    async def _outcome(self, execution: Execution) -> Outcome:
        """How the program ended. Raises RetryLater where it got no pod, PlatformError where a pod lost it."""
        deadline = execution.arrived + self._settings.queue.max_wait_seconds
        for left in reversed(range(PODS_TRIED)):
            lease = await self._lease(execution, deadline)
            if lease is None:
                break
            verdict = await self._on_pod(execution, lease)
            if isinstance(verdict, Outcome):
                return verdict
            metrics.not_started.labels(pool=self._pool.name, reason=verdict.reason).inc()
            await self._give_back(execution, verdict)
            if verdict.reason == "cancelled":
                break
            told = {"execution": execution.id, "pod": lease.pod, "reason": verdict.reason}
            logger.warning("a sandbox did not start the program: %s", verdict.message, extra=told)
            if not verdict.retry:  # the message may hold the pod's address: it is for the log
                raise PlatformError("The sandbox would not start the program.", reason=verdict.reason)
            if not left:
                raise Unavailable("No sandbox would start the program.", reason=verdict.reason)
        return never_started(execution.id)

    async def _lease(self, execution: Execution, deadline: float) -> Lease | None:
        request = execution.request
        ask = Ask(
            execution=execution.id,
            tenant=request.tenant,
            hold_seconds=self._hold_seconds(execution.program),
            deadline=deadline,
            weight=request.weight,
        )
        execution.lease = await self._queue.acquire(ask, execution.gone)
        execution.queue_seconds = time.monotonic() - execution.arrived
        self._lease_wait.observe(execution.queue_seconds)
        return execution.lease

    async def _on_pod(self, execution: Execution, lease: Lease) -> Outcome | NotStarted:
        started = time.monotonic()
        try:
            return await self._pods.run(lease, execution.program, execution.tools, execution.gone)
        finally:
            self._run_time.observe(time.monotonic() - started)

    async def _give_back(self, execution: Execution, verdict: NotStarted) -> None:
        """Whether it was used is not the pod's to say: it was, where anything was sent there."""
        lease, execution.lease = execution.lease, None
        if lease is not None:
            await self._settlements.settle(lease, clean=verdict.clean, used=verdict.reason != "cancelled")
            if not verdict.clean:
                self._pods.drop(lease.pod)

    async def _settle(self, execution: Execution, outcome: Outcome, response: ExecutionResponse) -> None:
        lease, record = execution.lease, None
        try:
            record = record_of(
                execution.request,
                outcome,
                response,
                pool=self._pool.name,
                lease=lease,
                queue_seconds=execution.queue_seconds,
                limits=self._pool_limits | dict(execution.program.limits),
            )
        except Exception:  # the lease must go back all the same
            logger.exception("no record of an execution", extra={"execution": execution.id})
        await self._settlements.settle(lease, clean=outcome.clean, record=record)
        if lease is not None and not outcome.clean:
            self._pods.drop(lease.pod)


class ToolCalls:
    """The tool calls of one execution; a `warmpool_gateway.pod_stream.CallTool`."""

    def __init__(self, server: ToolServer, grant: Grant, key: bytes) -> None:
        self.execution = grant.execution
        self.records: list[ToolCallRecord] = []
        self._server = server
        self._grant = grant
        self._key = key
        self._token: str | None = None

    async def __call__(self, tool: str, arguments: dict[str, Any]) -> bytes:
        if len(self.records) >= self._grant.max_calls:
            message = f"{self._grant.max_calls} tool calls are all that this execution has."
            raise ToolFailed(message, code="too_many_calls")
        if self._token is None:  # most programs of a burst call nothing, and a signature costs 0.03 ms
            self._token = sign(self._grant, self._key)
        started = time.perf_counter()
        error: str | None = "cancelled"
        sent = received = 0
        try:
            value = await self._server.call(self._grant.tenant, tool, arguments, self._token)
            error, sent, received = None, value.request_bytes, value.response_bytes
            return value.json
        except ToolFailed as fault:
            error = fault.code
            raise
        finally:
            self.records.append(
                ToolCallRecord(
                    tool="unknown" if error == "unknown_tool" else tool,
                    seconds=round(time.perf_counter() - started, 6),
                    request_bytes=sent,
                    response_bytes=received,
                    error=error,
                )
            )
            metrics.tool_calls.labels(outcome="ok" if error is None else "error").inc()

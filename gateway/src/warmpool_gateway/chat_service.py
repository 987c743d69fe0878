"""A question answered by a program: prompt, program, execution, at most one repair, answer.

Raw data stays in the sandbox: the model sees the program's value, cut to `result_chars`. The service
keeps nothing between chats; the caller sends the history.
"""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from warmpool.errors import QuotaExceeded, RetryLater, Unavailable
from warmpool.protocol import Limits, ProgramError, Status
from warmpool_gateway import metrics, prompt
from warmpool_gateway.chat_wire import (
    ChatExecution,
    ChatRequest,
    ChatResponse,
    ChatTimings,
    ChatTurn,
    TokenCounts,
)
from warmpool_gateway.model import Completion, Message, ModelClient, Tokens
from warmpool_gateway.reply import program_in

MOST_AT_ONCE: Final = 512
"""Chats under way in one gateway; one more is told to come back. Each holds a connection to the model's API."""

MOST_OF_A_TENANT: Final = MOST_AT_ONCE // 4
"""Of those, one tenant's: a burst of three tenants leaves a quarter to everyone else."""

RESULT_CHARS: Final = 4000
"""About 1,000 tokens: half of a chat's budget of 2,000, for the rare long result."""

NOT_THE_PROGRAMS_FAULT: Final = frozenset({Status.OK, Status.PLATFORM_ERROR, Status.CANCELLED})
"""Statuses after which another program would not help."""

Kind = Literal["program", "repair", "answer"]
Outcome = Literal["answered", "no_program", "program_failed", "platform_error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """An execution, as far as a chat needs it."""

    id: str | None
    """None where the program was refused before it became an execution."""
    status: Status
    value: Any
    stdout: str
    error: ProgramError | None
    usage: dict[str, Any]


class Programs(Protocol):
    """Where programs run."""

    async def run(self, code: str, context: Any) -> Ran:
        """Raises RetryLater where the program did not come to run."""
        ...


class Signatures(Protocol):
    """The tools' signature lines for the prompt."""

    async def signatures(self) -> str:
        """Raises Unavailable where they cannot be had."""
        ...


@dataclass(slots=True)
class _Chat:
    """What has happened in one chat so far."""

    turns: list[ChatTurn] = field(default_factory=list)
    tokens: Tokens = field(default_factory=Tokens)
    model: str = ""
    model_seconds: float = 0.0
    execution_seconds: float = 0.0
    program: str | None = None
    ran: Ran | None = None

    def add_turn(self, kind: Kind, completion: Completion) -> None:
        counted = completion.tokens
        self.turns.append(
            ChatTurn(
                kind=kind,
                tokens=TokenCounts(**counted.as_dict()) if counted else None,
                seconds=completion.seconds,
                retries=completion.retries,
            )
        )
        self.model = completion.model
        self.model_seconds += completion.seconds
        if counted is not None:
            self.tokens += counted
            for name, number in counted.as_dict().items():
                if name != "total":
                    metrics.chat_tokens.labels(turn=kind, kind=name).inc(number)

    def add_run(self, program: str, ran: Ran, seconds: float) -> None:
        self.program, self.ran = program, ran
        self.execution_seconds += seconds
        self.turns[-1] = self.turns[-1].model_copy(update={"execution": ran.id, "status": ran.status.value})


class ChatService:
    """Answers questions; built once and shared by all requests."""

    def __init__(
        self,
        model: ModelClient,
        tools: Signatures,
        limits: Limits,
        *,
        tcp_ports: Sequence[int] = (),
        result_chars: int = RESULT_CHARS,
        most_at_once: int = MOST_AT_ONCE,
        most_of_a_tenant: int = MOST_OF_A_TENANT,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._model = model
        self._tools = tools
        self._limits = limits
        self._tcp_ports = tcp_ports
        self._result_chars = result_chars
        self._most_at_once = most_at_once
        self._most_of_a_tenant = most_of_a_tenant
        self._under_way: Counter[str] = Counter()
        self._clock = clock

    async def chat(self, tenant: str, request: ChatRequest, programs: Programs) -> ChatResponse:
        """Raises what the model client, the tools and the executor raise, and RetryLater where there is no room."""
        try:
            self._check_room(tenant)
        except RetryLater:
            metrics.chats.labels(outcome="error").inc()
            raise
        self._under_way[tenant] += 1
        outcome: Outcome | Literal["error"] = "error"
        started = self._clock()
        chat = _Chat()
        try:
            answer, outcome = await self._answer(request, programs, chat)
        finally:
            self._leave(tenant)
            metrics.chats.labels(outcome=outcome).inc()
        total = self._clock() - started
        metrics.chat_time.observe(total)
        return _response(chat, answer, outcome, total)

    def _check_room(self, tenant: str) -> None:
        if self._under_way.total() >= self._most_at_once:
            raise Unavailable(f"{self._most_at_once} chats are under way in this gateway.", retry_after=2.0)
        quota = self._most_of_a_tenant
        if self._under_way[tenant] >= quota:
            raise QuotaExceeded("The tenant already has as many chats under way as it may.", quota=quota)

    def _leave(self, tenant: str) -> None:
        self._under_way[tenant] -= 1
        if not self._under_way[tenant]:
            del self._under_way[tenant]

    async def _answer(self, request: ChatRequest, programs: Programs, chat: _Chat) -> tuple[str, Outcome]:
        told = prompt.system(await self._tools.signatures(), self._limits, self._tcp_ports)
        system = Message(role="system", content=told)
        conversation = [system, *_said(request)]
        kinds: tuple[Kind, ...] = ("program", "repair")
        for kind in kinds:
            reply = await self._turn(chat, kind, conversation)
            program = program_in(reply.text)
            if program is None:
                return reply.text, "no_program"
            ran = await self._run(chat, program, request.context, programs)
            if ran.status is Status.OK:
                return await self._put_into_words(chat, request, program, ran), "answered"
            error = ran.error or ProgramError(type=ran.status.value, message="no further word")
            if ran.status in NOT_THE_PROGRAMS_FAULT:
                return _not_run(error), "platform_error"
            conversation += [_wrote(program), Message(role="user", content=prompt.repair(error))]
        return _failed_twice(error), "program_failed"

    async def _turn(self, chat: _Chat, kind: Kind, conversation: Sequence[Message]) -> Completion:
        completion = await self._model.complete(conversation)
        chat.add_turn(kind, completion)
        return completion

    async def _run(self, chat: _Chat, program: str, context: Any, programs: Programs) -> Ran:
        started = self._clock()
        ran = await programs.run(program, context)
        chat.add_run(program, ran, self._clock() - started)
        return ran

    async def _put_into_words(self, chat: _Chat, request: ChatRequest, program: str, ran: Ran) -> str:
        """Without tools and rules: the model needs the result, and its program to know what the result means."""
        shown = prompt.bounded(_seen(ran), self._result_chars)
        conversation = [
            Message(role="system", content=prompt.ANSWER),
            *_said(request),
            _wrote(program),
            Message(role="user", content=prompt.result(shown)),
        ]
        return (await self._turn(chat, "answer", conversation)).text


def _said(request: ChatRequest) -> list[Message]:
    history = [Message(role=past.role, content=past.content) for past in request.history]
    return [*history, Message(role="user", content=prompt.question(request.message, request.context))]


def _wrote(program: str) -> Message:
    return Message(role="assistant", content=f"```python\n{program}```")


def _seen(ran: Ran) -> Any:
    """The value; what was printed, where a model printed instead of returning."""
    return {"printed": ran.stdout} if ran.value is None and ran.stdout.strip() else ran.value


def _not_run(error: ProgramError) -> str:
    return (
        f"I could not answer: the program could not be run, through no fault of the question ({error.message}). "
        "Please ask again."
    )


def _failed_twice(error: ProgramError) -> str:
    return (
        "I could not answer: the program that was to find it out failed, and so did its correction "
        f"({error.type}: {prompt.shortened(error.message, 300)})."
    )


def _response(chat: _Chat, answer: str, outcome: Outcome, total: float) -> ChatResponse:
    return ChatResponse(
        id=f"chat_{uuid.uuid4().hex}",
        answer=answer,
        outcome=outcome,
        model=chat.model,
        turns=chat.turns,
        execution=_execution(chat.program, chat.ran) if chat.program is not None and chat.ran is not None else None,
        usage=TokenCounts(**chat.tokens.as_dict()),
        timings=ChatTimings(model=chat.model_seconds, execution=chat.execution_seconds, total=total),
    )


def _execution(program: str, ran: Ran) -> ChatExecution:
    error = ran.error
    shown = (
        {"type": error.type, "message": error.message, "line": error.line, "remedy": error.remedy} if error else None
    )
    return ChatExecution(
        id=ran.id, status=ran.status.value, program=program, result=ran.value, error=shown, usage=ran.usage
    )

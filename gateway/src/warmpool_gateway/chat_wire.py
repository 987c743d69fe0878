"""What `POST /v1/chat` takes and gives."""

from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from warmpool_gateway.admission import context_json
from warmpool_gateway.encoding import json_bytes
from warmpool_gateway.forms import Form

MESSAGE_CHARS: Final = 8000
HISTORY_MESSAGES: Final = 20
HISTORY_CHARS: Final = 16_000

QUESTION_EXAMPLE: Final[JsonDict] = {"message": "Which desk lamp under 30 euros is the cheapest one in stock?"}
CONTEXT_EXAMPLE: Final[JsonDict] = {
    "message": "What would these cost together?",
    "history": [
        {"role": "user", "content": "Do you have reading lamps?"},
        {"role": "assistant", "content": "Yes, three of them."},
    ],
    "context": {"cart": [{"sku": "LAMP-7", "quantity": 2}]},
}


class PastMessage(Form):
    role: Literal["user", "assistant"]
    content: str = Field(min_length=1, max_length=MESSAGE_CHARS)


class ChatRequest(Form):
    """A question, what was said before it, and data for the program."""

    model_config = ConfigDict(json_schema_extra={"examples": [QUESTION_EXAMPLE, CONTEXT_EXAMPLE]})

    message: str = Field(min_length=1, max_length=MESSAGE_CHARS, description="The question.")
    history: list[PastMessage] = Field(
        default_factory=list,
        max_length=HISTORY_MESSAGES,
        description=f"Oldest first; at most {HISTORY_CHARS} characters in all. The model reads it all on every turn.",
    )
    context: Any = Field(
        None,
        description="Any JSON, in the program as the global `context`. The model sees keys and types, never its data.",
    )

    @model_validator(mode="after")
    def _history_is_bounded(self) -> Self:
        chars = sum(len(message.content) for message in self.history)
        if chars > HISTORY_CHARS:
            raise ValueError(f"history: {chars} characters, {HISTORY_CHARS} are the most")
        return self

    @classmethod
    def of(cls, value: Any) -> Self:
        """Raises InvalidRequest, also for a context that no execution would take: before it costs a turn."""
        request = cls.read(value)
        context_json(request.context)
        return request


class TokenCounts(BaseModel):
    """As the model's API counted them; `cached` is part of `prompt`, `reasoning` is part of `completion`."""

    prompt: int
    completion: int
    total: int
    cached: int
    reasoning: int


class ChatTurn(BaseModel):
    """One call of the model."""

    kind: Literal["program", "repair", "answer"]
    tokens: TokenCounts | None = Field(description="null where the model's API sent no usage.")
    seconds: float
    retries: int = Field(description="Calls that failed before this one.")
    execution: str | None = Field(None, description="The execution of the program that this turn wrote.")
    status: str | None = Field(None, description="How that execution ended.")


class ChatExecution(BaseModel):
    """The last program, and how it ended."""

    id: str | None = Field(description="null where the program was refused before it became an execution.")
    status: str
    program: str
    result: Any
    error: dict[str, Any] | None
    usage: dict[str, Any]


class ChatTimings(BaseModel):
    """Seconds. What is missing from the total is the gateway's own work."""

    model: float
    execution: float = Field(description="Waiting for a sandbox included.")
    total: float


class ChatResponse(BaseModel):
    """The answer, with the whole way to it."""

    id: str
    answer: str
    outcome: Literal["answered", "no_program", "program_failed", "platform_error"] = Field(
        description="`no_program`: the model answered in words. `program_failed`: also after one repair; the answer "
        "says so. `platform_error`: the program could not be run, which is our fault."
    )
    model: str
    arm: Literal["code"] = "code"
    turns: list[ChatTurn]
    execution: ChatExecution | None = Field(description="null where no program ran.")
    usage: TokenCounts = Field(description="Of all turns together.")
    timings: ChatTimings

    def to_json(self) -> bytes:
        """The body of the HTTP answer."""
        return json_bytes(self.model_dump())

"""The language model, as the chat sees it: messages in, one text and its token counts out.

`OpenAIModel` speaks the chat-completions API through the openai package. Its retries are ours, not the
package's: that one sleeps as long as a Retry-After says (up to 120 s), while a chat whose time budget
cannot hold the wait should be told at once. The key is sent to the model's API and appears nowhere else.
"""

import asyncio
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal, Protocol
from urllib.parse import urlsplit

import openai
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel, ValidationError

from warmpool.errors import InvalidRequest, ModelRefused, Unavailable
from warmpool.settings import ModelSettings

BACKOFF_SECONDS: Final = 0.5
"""Before the first retry, doubling; a Retry-After of the API takes its place."""
AWAY_SECONDS: Final = 5.0
"""What a caller is told to wait where the API did not say."""

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """As the API counted them. `cached` is part of `prompt`, `reasoning` is part of `completion`."""

    prompt: int = 0
    completion: int = 0
    total: int = 0
    cached: int = 0
    reasoning: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(**{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)})

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One reply of a model."""

    text: str
    model: str
    """As the API names it."""
    tokens: Tokens | None
    """None where the API sent no usage."""
    seconds: float
    retries: int = 0


class ModelClient(Protocol):
    async def complete(self, messages: Sequence[Message]) -> Completion:
        """Raises Unavailable (away, slow, overloaded), InvalidRequest (too long for the model) or ModelRefused."""
        ...

    async def close(self) -> None: ...


def model_key(secrets: Path) -> str:
    """From `model.key` in the secrets folder, else OPENAI_API_KEY, else `none` for servers that ask for no key."""
    try:
        key = (secrets / "model.key").read_text().strip()
    except OSError:
        key = ""
    return key or os.environ.get("OPENAI_API_KEY", "") or "none"


class OpenAIModel:
    """Any server of the OpenAI chat-completions API.

    Making one imports modules and reads certificates (0.1 s): do it before the event loop runs, or in a thread.
    """

    def __init__(self, settings: ModelSettings, key: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._client = openai.AsyncOpenAI(
            api_key=key,
            base_url=settings.base_url,
            timeout=settings.timeout_seconds,
            max_retries=0,
            # A proxy of the environment cannot reach a server on this machine's loopback.
            http_client=openai.DefaultAsyncHttpxClient(trust_env=not _on_loopback(settings.base_url)),
        )
        self._completions = self._client.chat.completions

    async def close(self) -> None:
        await self._client.close()

    async def complete(self, messages: Sequence[Message]) -> Completion:
        started = self._clock()
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                reply, retries = await self._with_retries(messages, started)
        except TimeoutError as fault:
            raise Unavailable(
                f"The model gave no answer within {self._settings.timeout_seconds:g} s.", retry_after=AWAY_SECONDS
            ) from fault
        return _completion(reply, self._settings.name, retries=retries, seconds=self._clock() - started)

    async def _with_retries(self, messages: Sequence[Message], started: float) -> tuple["_Reply", int]:
        """The reply and how many retries it took; a wait that does not fit the time left is not begun."""
        retries = 0
        while True:
            try:
                return await self._ask(messages), retries
            except (openai.OpenAIError, ValueError) as fault:
                error, wait = _translated(fault), _wait_seconds(fault, retries)
                left = self._settings.timeout_seconds - (self._clock() - started)
                if not isinstance(error, Unavailable) or retries == self._settings.max_retries or wait >= left:
                    raise error from fault
            await asyncio.sleep(wait)
            retries += 1

    async def _ask(self, messages: Sequence[Message]) -> "_Reply":
        reply = await self._completions.create(
            model=self._settings.name, messages=[_param(message) for message in messages]
        )
        # The package believes what a server sends: fields may be missing or of another type.
        return _Reply.model_validate(reply, from_attributes=True)


class _CountDetails(BaseModel):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: _CountDetails | None = None
    completion_tokens_details: _CountDetails | None = None


class _Text(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Text


class _Reply(BaseModel):
    """What we need of a chat completion; servers differ in the rest."""

    model: str | None = None
    choices: list[_Choice]
    usage: _Usage | None = None


def _param(message: Message) -> ChatCompletionMessageParam:
    content = _encodable(message.content)
    match message.role:
        case "system":
            return {"role": "system", "content": content}
        case "user":
            return {"role": "user", "content": content}
        case "assistant":
            return {"role": "assistant", "content": content}


def _encodable(text: str) -> str:
    """Lone surrogates, which JSON escapes can bring in and UTF-8 cannot carry, become question marks."""
    return text.encode("utf-8", "replace").decode()


def _completion(reply: _Reply, asked: str, *, retries: int, seconds: float) -> Completion:
    """Raises Unavailable where the reply holds no text."""
    choice = reply.choices[0] if reply.choices else None
    text = (choice.message.content or choice.message.refusal) if choice else None
    if choice is None or not text or not text.strip():
        raise Unavailable("The model sent an empty reply.", retry_after=AWAY_SECONDS)
    return Completion(
        text=_encodable(text),
        model=reply.model or asked,
        tokens=_tokens(reply.usage) if reply.usage else None,
        seconds=seconds,
        retries=retries,
    )


def _tokens(usage: _Usage) -> Tokens:
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    return Tokens(
        prompt=usage.prompt_tokens,
        completion=usage.completion_tokens,
        total=usage.total_tokens,
        cached=(prompt.cached_tokens if prompt else None) or 0,
        reasoning=(completion.reasoning_tokens if completion else None) or 0,
    )


def _translated(fault: Exception) -> Unavailable | InvalidRequest | ModelRefused:
    """The API's words stay out of the message: a 401 quotes parts of the key."""
    match fault:
        case openai.APITimeoutError():
            return Unavailable("The model is too slow.", retry_after=AWAY_SECONDS)
        case openai.APIConnectionError():
            return Unavailable("The model cannot be reached.", retry_after=AWAY_SECONDS)
        case openai.APIStatusError(status_code=429):
            return Unavailable("The model's API limits the rate.", retry_after=_retry_after(fault) or AWAY_SECONDS)
        case openai.APIStatusError(status_code=408 | 409) | openai.InternalServerError():
            return Unavailable(
                f"The model's API failed ({fault.status_code}).", retry_after=_retry_after(fault) or AWAY_SECONDS
            )
        case openai.APIStatusError(code="context_length_exceeded"):
            return InvalidRequest("Message and history are too long for the model.")
        case openai.APIStatusError():
            return ModelRefused(
                f"The model's API refuses our request ({fault.status_code} {fault.code or fault.type or ''}".rstrip()
                + "): check model.name, model.base_url and the key."
            )
        case ValidationError() | openai.APIResponseValidationError():
            return ModelRefused("The model's address answers, but not as a chat-completions API: check model.base_url.")
        case _:
            return Unavailable("The model's API sent a broken reply.", retry_after=AWAY_SECONDS)


def _wait_seconds(fault: Exception, retry: int) -> float:
    told = _retry_after(fault) if isinstance(fault, openai.APIStatusError) else None
    return told if told is not None else BACKOFF_SECONDS * 2.0**retry


def _retry_after(fault: openai.APIStatusError) -> float | None:
    """Seconds from `retry-after-ms` or `Retry-After`; the form with a date is rare here and counts as absent."""
    headers = fault.response.headers
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            seconds = float(headers[name]) / unit
        except (KeyError, ValueError):
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    return None


def _on_loopback(base_url: str | None) -> bool:
    host = urlsplit(base_url or "").hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

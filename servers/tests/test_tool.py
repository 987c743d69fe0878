"""A function becomes a tool only if its types say what goes in and what comes out."""

from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

import servers
from servers import definitions
from servers.tool import Arguments, Context, Function, Record, tool
from warmpool.tools import signature_lines


class Ask(Arguments):
    word: str
    times: int = 1


class Told(Record):
    words: list[str]


async def echo(context: Context, arguments: Ask) -> Told:
    """Say it again. And again."""
    return Told(words=[arguments.word] * arguments.times)


def test_a_typed_function_becomes_a_tool() -> None:
    made = tool(category="talk", read_only=True)(echo)
    assert made.definition.qualified == "talk.echo"
    assert made.definition.description == "Say it again. And again."
    assert made.definition.input_schema["required"] == ["word"]
    assert signature_lines([made.definition]).splitlines() == [
        "# servers.talk",
        "Told = {words: list[str]}",
        "echo(word: str, *, times: int = 1) -> Told  # Say it again",
    ]


async def shapeless_dict(context: Context, arguments: Ask) -> dict:  # type: ignore[type-arg]
    """No."""
    return {}


async def shapeless_any(context: Context, arguments: Ask) -> Any:
    """No."""


async def nothing(context: Context, arguments: Ask) -> None:
    """No."""


async def untyped(context: Context, arguments: Ask):  # type: ignore[no-untyped-def]
    """No."""


async def loose(context: Context, word: str) -> Told:
    """No."""
    return Told(words=[word])


async def alone(context: Context) -> Told:
    """No."""
    return Told(words=[])


def blocking(context: Context, arguments: Ask) -> Told:
    """No."""
    return Told(words=[])


@pytest.mark.parametrize("function", [shapeless_dict, shapeless_any, nothing, untyped])
def test_a_tool_without_an_output_type_is_refused(function: Function) -> None:
    with pytest.raises(TypeError, match=rf"tool talk\.{function.__name__}: its result has no type"):
        tool(category="talk", read_only=True)(function)


@pytest.mark.parametrize("function", [loose, alone])
def test_a_tool_without_a_model_of_its_arguments_is_refused(function: Function) -> None:
    with pytest.raises(TypeError, match="must take a Context and one model derived from Arguments"):
        tool(category="talk", read_only=True)(function)


def test_a_tool_that_would_block_is_refused() -> None:
    with pytest.raises(TypeError, match="must be an async function"):
        tool(category="talk", read_only=True)(blocking)  # type: ignore[arg-type]


def test_a_result_of_another_type_is_not_sent() -> None:
    made = tool(category="talk", read_only=True)(echo)
    assert made.serialised(Told(words=["a"])) == b'{"words":["a"]}'
    with pytest.raises((ValidationError, PydanticSerializationError)):
        made.serialised({"words": "a"})
    with pytest.raises((ValidationError, PydanticSerializationError)):
        made.serialised(Told.model_construct(words=[1]))


def test_an_argument_with_a_nul_is_refused() -> None:
    with pytest.raises(ValidationError, match="must not contain a NUL"):
        Ask(word="a\0b")


def test_every_tool_stands_in_a_module_of_its_name() -> None:
    for each in servers.tools():
        expected = f"servers.{each.definition.category}.{each.definition.name}"
        assert each.function.__module__ == expected


def test_the_prompt_stays_within_its_budget() -> None:
    # 50-90 tokens a tool is the aim with shared records; four characters a token is a careful guess.
    characters = len(signature_lines(definitions(), "signatures"))
    assert characters / 4 / len(definitions()) < 120

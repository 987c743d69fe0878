"""What makes a typed function a tool: its definition, its validation in and out.

A tool is one module with one function. The function takes the call's context and one model of
arguments, and returns a model or a list of them; from the two come the schemas, and from those the
stub, the types and the prompt (`warmpool.tools`).
"""

import inspect
import typing
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel, ConfigDict, TypeAdapter, field_validator

from servers.embedding import Embedder
from warmpool.tools import ToolDefinition

SHAPELESS: Final = (Any, object, None, type(None), inspect.Signature.empty, dict, list, tuple, set)
"""Return annotations that tell a program nothing of the result."""


class Arguments(BaseModel):
    """Base of every tool's arguments: an unknown name is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*")
    @classmethod
    def holds_no_nul(cls, value: Any) -> Any:
        """PostgreSQL's texts cannot hold one."""
        if isinstance(value, str) and "\0" in value:
            raise ValueError("must not contain a NUL character")
        return value


class Record(BaseModel):
    """Base of what tools return."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a call is made with. The tenant comes from the grant and nowhere else."""

    tenant: str
    database: AsyncConnectionPool[AsyncConnection]
    embedder: Embedder


Function: TypeAlias = Callable[[Context, Any], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    definition: ToolDefinition
    function: Function
    arguments: type[Arguments]
    result: TypeAdapter[Any]

    async def __call__(self, context: Context, arguments: Arguments) -> Any:
        return await self.function(context, arguments)

    def serialised(self, value: Any) -> bytes:
        """The result as JSON. Raises pydantic's ValidationError or serialization error where it is not of its type."""
        return self.result.dump_json(self.result.validate_python(value), warnings="error")


def tool(*, category: str, read_only: bool) -> Callable[[Function], Tool]:
    """Makes a function a tool. Raises TypeError, at import, where its types do not say what goes in and out."""

    def declare(function: Function) -> Tool:
        name = f"{category}.{function.__name__}"
        arguments, returned = _types(name, function)
        result = TypeAdapter[Any](returned)
        definition = ToolDefinition(
            name=function.__name__,
            category=category,
            description=inspect.getdoc(function) or "",
            input_schema=arguments.model_json_schema(),
            output_schema=result.json_schema(mode="serialization"),
            read_only=read_only,
        )
        return Tool(definition=definition, function=function, arguments=arguments, result=result)

    return declare


def _types(name: str, function: Function) -> tuple[type[Arguments], Any]:
    hints = typing.get_type_hints(function)
    returned = hints.pop("return", inspect.Signature.empty)
    if returned in SHAPELESS:
        raise TypeError(
            f"tool {name}: its result has no type that a program could use; return a Record or a list of Records"
        )
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"tool {name}: must be an async function")
    match list(hints.values()):
        case [first, type() as arguments] if first is Context and issubclass(arguments, Arguments):
            return arguments, returned
    raise TypeError(f"tool {name}: must take a Context and one model derived from Arguments")

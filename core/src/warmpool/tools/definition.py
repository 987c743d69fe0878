"""What a tool is to everyone but the server that runs it."""

import hashlib
import json
import keyword
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolDefinition:
    """One tool. Raises ValueError where its names cannot be Python's or a schema is missing."""

    name: str
    category: str
    """Dotted where categories nest: `commerce.shopify`."""
    description: str
    """Its first sentence is all that the prompt shows."""
    input_schema: dict[str, Any]
    """JSON Schema of the arguments, an object."""
    output_schema: dict[str, Any]
    read_only: bool

    def __post_init__(self) -> None:
        for word in (self.name, *self.category.split(".")):
            if not word.isidentifier() or keyword.iskeyword(word) or word.startswith("_"):
                raise ValueError(f"tool {self.qualified}: {word!r} cannot be a public name in Python")
        if self.input_schema.get("type") != "object":
            raise ValueError(f"tool {self.qualified}: its input schema must be that of an object")
        if not self.output_schema:
            raise ValueError(f"tool {self.qualified}: without an output schema no program can use its result")
        if not self.description.strip():
            raise ValueError(f"tool {self.qualified}: it needs a description")

    @property
    def qualified(self) -> str:
        return f"{self.category}.{self.name}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ToolDefinition":
        """Raises ValueError where the value is not a definition."""
        try:
            return cls(**value)
        except (TypeError, AttributeError) as fault:
            raise ValueError(f"not a tool definition: {fault}") from fault


def catalogue_hash(definitions: Iterable[ToolDefinition]) -> str:
    """16 hexadecimal digits that change with anything a program could see of the tools."""
    ordered = sorted(
        (definition.to_json() for definition in definitions), key=lambda tool: (tool["category"], tool["name"])
    )
    return hashlib.sha256(json.dumps(ordered, sort_keys=True).encode()).hexdigest()[:16]

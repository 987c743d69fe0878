"""From JSON Schema to Python's annotations, as far as tools use it.

Objects with properties become named records, shared by all tools of a category. What has no
counterpart becomes `Any`: a stub must never refuse a value that the server would take.
"""

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

Schema: TypeAlias = Mapping[str, Any]

SIMPLE: Final = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}

TAKEN: Final = frozenset({"Any", "Literal", "NotRequired", "TypedDict", "None", "True", "False"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    name: str
    annotation: str
    required: bool
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    name: str
    annotation: str
    default: str | None
    """Python text, or None for a required one."""
    omitted_when_none: bool
    """Optional without a default in the schema: left out of the call unless given."""
    description: str


@dataclass(slots=True)
class Records:
    """The records of one category, by name, in the order in which they can be declared."""

    fields: dict[str, tuple[Field, ...]] = field(default_factory=dict)
    _schemas: dict[str, Schema] = field(default_factory=dict)

    def annotation(self, schema: Schema, root: Schema, hint: str) -> str:
        """The annotation of a value; `hint` names a record that has no title. Raises ValueError on a clash of names."""
        if "$ref" in schema:
            name, target = _resolve(schema["$ref"], root)
            return self.annotation({"title": name, **target}, root, name)
        if "const" in schema:
            return f"Literal[{schema['const']!r}]"
        if "enum" in schema:
            return f"Literal[{', '.join(map(repr, schema['enum']))}]"
        for choice in ("anyOf", "oneOf"):
            if choice in schema:
                return self._union([self.annotation(option, root, hint) for option in schema[choice]])
        if len(schema.get("allOf", ())) == 1:
            return self.annotation(schema["allOf"][0], root, hint)
        kind = schema.get("type")
        if isinstance(kind, list):
            return self._union([self.annotation({**schema, "type": one}, root, hint) for one in kind])
        return self._of_kind(kind, schema, root, hint)

    def _of_kind(self, kind: str | None, schema: Schema, root: Schema, hint: str) -> str:
        match kind:
            case "array":
                return f"list[{self.annotation(schema.get('items', {}), root, hint)}]"
            case "object" if schema.get("properties"):
                return self._record(schema, root, hint)
            case "object":
                values = schema.get("additionalProperties")
                inner = self.annotation(values, root, hint) if isinstance(values, Mapping) else "Any"
                return f"dict[str, {inner}]"
            case None:
                return "Any"
            case _:
                return SIMPLE.get(kind, "Any")

    @staticmethod
    def _union(options: list[str]) -> str:
        distinct = list(dict.fromkeys(options))
        if "Any" in distinct:
            return "Any"
        return " | ".join(sorted(distinct, key=lambda option: option == "None"))

    def _record(self, schema: Schema, root: Schema, hint: str) -> str:
        name = _class_name(schema.get("title") or hint)
        known = self._schemas.get(name)
        if known is not None:
            if known != schema["properties"]:
                raise ValueError(f"two different records of one category are named {name}; rename one of them")
            return name
        self._schemas[name] = schema["properties"]
        required = set(schema.get("required", ()))
        fields = tuple(
            Field(
                name=key,
                annotation=self.annotation(value, root, f"{name} {key}"),
                required=key in required,
                description=one_line(value.get("description", "")),
            )
            for key, value in schema["properties"].items()
        )
        self.fields[name] = fields  # after those it refers to
        return name

    def parameters(self, schema: Schema, hint: str) -> list[Parameter]:
        """Those of a tool, required ones first. Raises ValueError for a name that Python cannot take."""
        required = set(schema.get("required", ()))
        found = [
            self._parameter(name, value, schema, name in required, hint)
            for name, value in schema.get("properties", {}).items()
        ]
        return sorted(found, key=lambda parameter: parameter.default is not None)

    def _parameter(self, name: str, value: Schema, root: Schema, required: bool, hint: str) -> Parameter:
        if not _is_name(name):
            raise ValueError(f"{hint}: its parameter {name!r} cannot be a name in Python")
        annotation = self.annotation(value, root, f"{hint} {name}")
        omitted = not required and "default" not in value
        if omitted and "None" not in annotation.split(" | ") and annotation != "Any":
            annotation += " | None"
        return Parameter(
            name=name,
            annotation=annotation,
            default=None if required else repr(value.get("default")),
            omitted_when_none=omitted,
            description=one_line(value.get("description", "")),
        )


def one_line(text: str) -> str:
    return " ".join(text.split())


def is_plain_record(fields: tuple[Field, ...]) -> bool:
    """Whether a class statement can declare it: every key is a name."""
    return all(_is_name(field.name) for field in fields)


def _is_name(word: str) -> bool:
    return word.isidentifier() and not keyword.iskeyword(word)


def _class_name(title: str) -> str:
    words = re.findall(r"[A-Za-z0-9]+", title)
    name = "".join(word[0].upper() + word[1:] for word in words)
    if not _is_name(name) or name in TAKEN:
        name = f"Record{name}"
    return name


def _resolve(reference: str, root: Schema) -> tuple[str, Schema]:
    """The last part of a `#/$defs/Name` and what it points to. Raises ValueError for any other form."""
    target: Any = root
    parts = reference.removeprefix("#/").split("/")
    for part in parts:
        target = target.get(part) if isinstance(target, Mapping) else None
    if not reference.startswith("#/") or not isinstance(target, Mapping):
        raise ValueError(f"the schema refers to {reference!r}, which it does not hold")
    return parts[-1], target

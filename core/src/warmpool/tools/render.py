"""The texts of a tool at three levels of detail. The prompt's lines, the `.pyi` and the stub share every signature."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from warmpool.tools.definition import ToolDefinition
from warmpool.tools.types import Field, Parameter, Records, is_plain_record, one_line

Detail: TypeAlias = Literal["names", "signatures", "full"]

WORTH_SHARING: Final = 3
"""Fields that a record must have before another is written as an extension of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    tool: ToolDefinition
    parameters: list[Parameter]
    result: str

    @property
    def text(self) -> str:
        """`name(first: str, *, other: int = 1) -> list[Product]`: one positional parameter, the rest by keyword."""
        words = [_declared(parameter) for parameter in self.parameters]
        if len(words) > 1:
            words.insert(1, "*")
        return f"{self.tool.name}({', '.join(words)}) -> {self.result}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    name: str
    records: dict[str, tuple[Field, ...]]
    signatures: list[Signature]


def categories(definitions: Iterable[ToolDefinition]) -> list[Category]:
    """By name. Raises ValueError where two records of a category clash, or two tools have one name."""
    grouped: dict[str, dict[str, ToolDefinition]] = {}
    for tool in sorted(definitions, key=lambda tool: (tool.category, tool.name)):
        tools = grouped.setdefault(tool.category, {})
        if tool.name in tools:
            raise ValueError(f"two tools are named {tool.qualified}")
        tools[tool.name] = tool
    return [_category(name, tools.values()) for name, tools in grouped.items()]


def signature_lines(definitions: Iterable[ToolDefinition], detail: Detail = "signatures") -> str:
    """The tools as a model reads them; each shared record stands once per category."""
    return "\n".join(line for category in categories(definitions) for line in category_lines(category, detail))


def category_lines(category: Category, detail: Detail) -> Iterator[str]:
    if detail == "names":
        yield from (f"{item.tool.qualified}: {_summary(item.tool)}" for item in category.signatures)
        return
    yield f"# servers.{category.name}"
    if detail == "full":
        yield from declarations(category)
        return
    yield from _record_lines(category.records)
    yield from (f"{item.text}  # {_summary(item.tool)}" for item in category.signatures)


def declarations(category: Category) -> Iterator[str]:
    """The body of a `.pyi`."""
    yield from record_declarations(category)
    for item in category.signatures:
        yield from ("", f"def {item.text}:", *documentation(item), "    ...")


def record_declarations(category: Category) -> Iterator[str]:
    for name, fields in category.records.items():
        yield ""
        if not is_plain_record(fields):
            keys = ", ".join(f"{field.name!r}: {_annotated(field)!r}" for field in fields)
            yield f"{name} = TypedDict({name!r}, {{{keys}}})"
            continue
        yield f"class {name}(TypedDict):"
        yield from (f"    {field.name}: {_annotated(field)}{_remark(field)}" for field in fields)


def documentation(item: Signature) -> Iterator[str]:
    """The docstring, escaped: a description is data and may come from elsewhere."""
    described = [f"{one.name}: {one.description}" for one in item.parameters if one.description]
    text = "\n\n".join(filter(None, [item.tool.description.strip(), "\n".join(described)]))
    lines = text.replace("\\", "\\\\").replace('"', '\\"').splitlines()
    yield f'    """{lines[0]}'
    yield from (f"    {line}".rstrip() for line in lines[1:])
    yield '    """'


def _category(name: str, tools: Iterable[ToolDefinition]) -> Category:
    records = Records()
    signatures = [
        Signature(
            tool=tool,
            parameters=records.parameters(tool.input_schema, tool.name),
            result=records.annotation(tool.output_schema, tool.output_schema, f"{tool.name} result"),
        )
        for tool in tools
    ]
    return Category(name=name, records=records.fields, signatures=signatures)


def _record_lines(records: Mapping[str, tuple[Field, ...]]) -> Iterator[str]:
    """`Details = Product + {text: str}` where a record has all of another: half the tokens of such a pair."""
    printed: dict[str, list[str]] = {}
    for name, fields in sorted(records.items(), key=lambda item: len(item[1])):
        shown = [_shown(field) for field in fields]
        bases = [base for base, inherited in printed.items() if len(inherited) >= WORTH_SHARING]
        base = next((base for base in reversed(bases) if set(printed[base]) < set(shown)), None)
        own = [field for field in shown if base is None or field not in printed[base]]
        yield f"{name} = {f'{base} + ' if base else ''}{{{', '.join(own)}}}"
        printed[name] = shown


def _declared(parameter: Parameter) -> str:
    declared = f"{parameter.name}: {parameter.annotation}"
    return declared if parameter.default is None else f"{declared} = {parameter.default}"


def _shown(field: Field) -> str:
    return f"{field.name}{'' if field.required else '?'}: {field.annotation}"


def _annotated(field: Field) -> str:
    return field.annotation if field.required else f"NotRequired[{field.annotation}]"


def _remark(field: Field) -> str:
    return f"  # {field.description}" if field.description else ""


def _summary(tool: ToolDefinition) -> str:
    """The description's first sentence, and a word of warning where the tool changes something."""
    paragraph = one_line(tool.description.strip().split("\n\n")[0])
    sentence = paragraph.split(". ")[0].rstrip(".")
    return sentence if tool.read_only else f"{sentence} (writes)"

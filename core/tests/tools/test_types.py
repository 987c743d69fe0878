"""JSON Schema becomes the annotation that a program's author expects."""

import pytest

from warmpool.tools.types import Field, Records


@pytest.mark.parametrize(
    ("schema", "annotation"),
    [
        ({"type": "string"}, "str"),
        ({"type": "number"}, "float"),
        ({"type": ["string", "null"]}, "str | None"),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, "int | None"),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, "str | int"),
        ({"anyOf": [{"type": "string"}, {}]}, "Any"),
        ({"enum": ["a", 1, None]}, "Literal['a', 1, None]"),
        ({"const": "a"}, "Literal['a']"),
        ({"type": "array", "items": {"type": "array", "items": {"type": "boolean"}}}, "list[list[bool]]"),
        ({"type": "array"}, "list[Any]"),
        ({"type": "object"}, "dict[str, Any]"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "dict[str, int]"),
        ({"allOf": [{"type": "string"}]}, "str"),
        ({"type": "unheard-of"}, "Any"),
        ({}, "Any"),
    ],
)
def test_a_schema_becomes_an_annotation(schema: dict[str, object], annotation: str) -> None:
    assert Records().annotation(schema, schema, "hint") == annotation


def test_a_nested_object_without_a_title_is_named_after_its_field() -> None:
    inner = {"type": "object", "properties": {"x": {"type": "integer"}}}
    schema = {"type": "object", "title": "outer thing", "properties": {"the-point": inner}}
    records = Records()
    assert records.annotation(schema, schema, "hint") == "OuterThing"
    assert list(records.fields) == ["OuterThingThePoint", "OuterThing"]


def test_a_record_may_refer_to_itself() -> None:
    node = {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/Node"}}}}
    schema = {"$ref": "#/$defs/Node", "$defs": {"Node": node}}
    records = Records()
    assert records.annotation(schema, schema, "hint") == "Node"
    assert records.fields["Node"] == (Field(name="children", annotation="list[Node]", required=False, description=""),)


@pytest.mark.parametrize("reference", ["#/$defs/Missing", "https://example.com/schema", "#/title"])
def test_a_reference_to_nothing_is_refused(reference: str) -> None:
    with pytest.raises(ValueError, match="which it does not hold"):
        Records().annotation({"$ref": reference}, {"title": "x"}, "hint")


def test_a_parameter_that_cannot_be_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="'a-b' cannot be a name"):
        Records().parameters({"properties": {"a-b": {}}}, "tool")

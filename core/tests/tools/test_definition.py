"""A definition is refused early, where a stub made from it could not work."""

import json

import pytest

from warmpool.tools import ToolDefinition, catalogue_hash

OBJECT = {"type": "object", "properties": {}}


def tool(**changes: object) -> ToolDefinition:
    fields = {
        "name": "count",
        "category": "stock",
        "description": "Count things.",
        "input_schema": OBJECT,
        "output_schema": {"type": "integer"},
        "read_only": True,
    }
    return ToolDefinition(**(fields | changes))  # type: ignore[arg-type]


def test_a_definition_survives_json() -> None:
    assert ToolDefinition.from_json(json.loads(json.dumps(tool().to_json()))) == tool()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "get-order"}, "'get-order' cannot be a public name"),
        ({"name": "class"}, "'class' cannot be a public name"),
        ({"name": "_hidden"}, "'_hidden' cannot be a public name"),
        ({"category": "a..b"}, "'' cannot be a public name"),
        ({"output_schema": {}}, "without an output schema"),
        ({"input_schema": {"type": "array"}}, "must be that of an object"),
        ({"description": "  "}, "needs a description"),
    ],
)
def test_a_definition_that_no_stub_can_be_made_of_is_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        tool(**changes)


@pytest.mark.parametrize(
    "value", [{}, {"name": "x"}, {**tool().to_json(), "extra": 1}, {**tool().to_json(), "input_schema": None}]
)
def test_json_that_is_no_definition_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not a tool definition"):
        ToolDefinition.from_json(value)


def test_the_hash_ignores_order_and_notices_every_change() -> None:
    one, two = tool(), tool(name="other")
    assert catalogue_hash([one, two]) == catalogue_hash([two, one])
    changed = [tool(description="Count all."), tool(read_only=False), tool(output_schema={"type": "string"})]
    assert len({catalogue_hash([each]) for each in (one, *changed)}) == 4

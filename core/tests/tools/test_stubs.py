"""The prompt's lines, the `.pyi` and the stub say the same, type-check, and call what they should."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from warmpool.tools import ToolDefinition, signature_lines, stub_package

PRICE = {
    "type": "object",
    "title": "Price",
    "properties": {
        "amount_minor": {"type": "integer", "description": "In the smallest unit"},
        "currency": {"type": "string"},
    },
    "required": ["amount_minor", "currency"],
}
PRODUCT: dict[str, Any] = {
    "type": "object",
    "title": "Product",
    "properties": {
        "id": {"type": "string"},
        "price": {"anyOf": [{"$ref": "#/$defs/Price"}, {"type": "null"}]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "attributes": {"type": "object", "additionalProperties": {"type": "string"}},
        "note": {"type": "string"},
    },
    "required": ["id", "price", "tags", "attributes"],
}
DEFINITIONS = {"Price": PRICE, "Product": PRODUCT}

FIND = ToolDefinition(
    name="find",
    category="shop",
    description='Find products by "meaning". Best first.\n\nA backslash \\ and """ in the text.',
    input_schema={
        "type": "object",
        "properties": {
            "limit": {"type": "integer", "default": 20, "description": "At most 200"},
            "query": {"type": "string"},
            "sort": {"enum": ["price", "-price"], "default": "price"},
            "in_stock": {"type": "boolean"},
        },
        "required": ["query"],
    },
    output_schema={"type": "array", "items": {"$ref": "#/$defs/Product"}, "$defs": DEFINITIONS},
    read_only=True,
)
REPRICE = ToolDefinition(
    name="reprice",
    category="shop.admin",
    description="Set a price.",
    input_schema={
        "type": "object",
        "properties": {"id": {"type": "string"}, "price": PRICE},
        "required": ["id", "price"],
    },
    output_schema=PRICE,
    read_only=False,
)
TOOLS = [REPRICE, FIND]

LINES = """\
# servers.shop
Price = {amount_minor: int, currency: str}
Product = {id: str, price: Price | None, tags: list[str], attributes: dict[str, str], note?: str}
find(query: str, *, limit: int = 20, sort: Literal['price', '-price'] = 'price', in_stock: bool | None = None) \
-> list[Product]  # Find products by "meaning"
# servers.shop.admin
Price = {amount_minor: int, currency: str}
reprice(id: str, *, price: Price) -> Price  # Set a price (writes)"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    stub_package(TOOLS, tmp_path)
    fake = tmp_path / "warmpool_sandbox"
    fake.mkdir()
    (fake / "__init__.py").touch()
    (fake / "tools.py").write_text(
        "from typing import Any\n"
        "class ToolError(Exception):\n    code = 'x'\n    fields: dict[str, Any] = {}\n"
        "def call(name: str, arguments: Any) -> Any:\n    return [name, arguments]\n"
        "def parallel(function: Any, items: Any) -> Any:\n    return [function(item) for item in items]\n"
    )
    return tmp_path


def run(package: Path, code: str) -> str:
    """In an interpreter that sees the standard library and the package alone."""
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(package)!r}); {code}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def type_check(package: Path, program: str, *options: str) -> str:
    (package / "program.py").write_text(program)
    command = [sys.executable, "-m", "mypy", "--config-file=", "--no-incremental", "--cache-dir=/dev/null", *options]
    done = subprocess.run(
        [*command, "program.py"], cwd=package, capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout


def test_the_prompt_carries_signatures_with_result_fields_and_each_record_once() -> None:
    assert signature_lines(TOOLS, "signatures") == LINES


def test_names_are_one_line_a_tool() -> None:
    assert (
        signature_lines(TOOLS, "names")
        == 'shop.find: Find products by "meaning"\nshop.admin.reprice: Set a price (writes)'
    )


def signatures(source: str) -> dict[str, str]:
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    return {
        node.name: f"{node.name}({ast.unparse(node.args)}) -> {ast.unparse(node.returns or node)}" for node in functions
    }


@pytest.mark.parametrize(("folder", "tool"), [("shop", "find"), ("shop/admin", "reprice")])
def test_prompt_stub_and_types_agree(package: Path, folder: str, tool: str) -> None:
    stub = (package / "servers" / folder / "__init__.py").read_text()
    types = (package / "servers" / folder / "__init__.pyi").read_text()
    line = next(line for line in LINES.splitlines() if line.startswith(f"{tool}("))
    shown = signatures(f"def {line.split('  # ')[0]}: ...")
    assert signatures(stub) == signatures(types) == shown


def test_the_stub_imports_with_nothing_but_the_relay_and_calls_it(package: Path) -> None:
    code = "from servers.shop import find; print(find('red', limit=3))"
    assert run(package, code) == "['shop.find', {'query': 'red', 'limit': 3, 'sort': 'price'}]"


def test_an_optional_argument_without_a_default_travels_only_when_given(package: Path) -> None:
    code = "from servers.shop import find; print(find('red', in_stock=False)[1]['in_stock'])"
    assert run(package, code) == "False"


def test_the_docstring_is_the_description_to_the_letter(package: Path) -> None:
    documented = run(package, "from servers.shop import find; print(find.__doc__)")
    assert 'Find products by "meaning". Best first.' in documented
    assert 'A backslash \\ and """ in the text.' in documented
    assert "limit: At most 200" in documented


def test_many_calls_at_once_are_offered_beside_the_categories(package: Path) -> None:
    code = "from servers import parallel; from servers.shop import find; print(len(parallel(find, 'abc')))"
    assert run(package, code) == "3"


def test_the_error_of_a_tool_is_offered_beside_the_categories(package: Path) -> None:
    assert run(package, "import servers; print(issubclass(servers.ToolError, Exception))") == "True"


def test_tools_are_discovered_inside_the_sandbox(package: Path) -> None:
    code = "import servers; print(servers.list_categories(), servers.search_tools('PRODUCTS meaning'))"
    assert run(package, code) == "['shop', 'shop.admin'] ['shop.find']"
    described = run(package, "import servers; print(servers.describe('shop.find'))")
    assert "class Product(TypedDict):" in described
    assert "amount_minor: int  # In the smallest unit" in described
    assert run(package, "import servers; print(servers.list_tools('shop'))") == LINES.split("\n# servers.shop.admin")[0]


GOOD = """
import servers
from servers.shop import find
total: int = sum(product["price"]["amount_minor"] for product in find("red", limit=3) if product["price"])
names: list[str] = servers.list_categories()
counts: list[int] = [len(found) for found in servers.parallel(find, ["red", "blue"])]
try:
    find("red")
except servers.ToolError as error:
    word: str = error.code
    found = error.fields.get("id")
"""

BAD = """
from servers.shop import find, lose
find("red", sort="name")
find("red", 3)
find("red")[0]["prize"]
"""


def test_the_types_pass_strict_checking_and_find_a_programs_mistakes(package: Path) -> None:
    assert "Success" in type_check(package, GOOD, "--strict")
    found = type_check(package, BAD, "--strict")
    assert [f"program.py:{line}:" in found for line in (2, 3, 4, 5)] == [True] * 4


def test_the_stub_itself_type_checks(package: Path) -> None:
    for types in package.rglob("*.pyi"):
        types.unlink()
    assert "Success" in type_check(package, GOOD)


def test_records_that_clash_in_one_category_are_refused() -> None:
    other = {**PRICE, "properties": {"cents": {"type": "integer"}}}
    clash = ToolDefinition(
        name="cheapest",
        category="shop",
        description="The lowest price.",
        input_schema={"type": "object"},
        output_schema=other,
        read_only=True,
    )
    with pytest.raises(ValueError, match="two different records of one category are named Price"):
        signature_lines([FIND, clash])


def test_the_same_tool_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"two tools are named shop\.find"):
        signature_lines([FIND, FIND])


def test_a_record_that_has_all_of_another_is_shown_as_its_extension() -> None:
    details = {**PRODUCT, "title": "Details", "properties": {**PRODUCT["properties"], "text": {"type": "string"}}}
    describe = ToolDefinition(
        name="describe",
        category="shop",
        description="All of one.",
        input_schema={"type": "object"},
        output_schema={"$ref": "#/$defs/Details", "$defs": {**DEFINITIONS, "Details": details}},
        read_only=True,
    )
    assert "Details = Product + {text?: str}\n" in signature_lines([describe, FIND])

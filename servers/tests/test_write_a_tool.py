"""The example of docs/how-to/write-a-tool.md works as it stands."""

import re
from pathlib import Path
from types import ModuleType

from servers.tool import Context, Tool
from warmpool.tools import signature_lines

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "write-a-tool.md"


async def test_the_example_of_the_guide_is_a_tool(outdoor: None, context: Context) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    module = ModuleType("servers.search.count_products")
    exec(compile(code, str(PAGE), "exec"), module.__dict__)
    tool: Tool = module.count_products
    assert (await tool(context, tool.arguments())).products == 10
    assert (await tool(context, tool.arguments.model_validate({"in_stock": False}))).products == 1
    assert "count_products(*, in_stock" not in signature_lines([tool.definition])
    assert "count_products(in_stock: bool | None = None) -> Count  # Count the products" in signature_lines(
        [tool.definition]
    )

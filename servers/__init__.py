"""The tools that programs call, one module each, by category; and the server that runs them.

The tool server holds what a sandbox must not: the database, the keys, the tenant of a call.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from servers.tool import Tool
    from warmpool.tools import ToolDefinition


def tools() -> "list[Tool]":
    """Every tool. Imports them, so that importing this package alone stays cheap."""
    from servers import search

    return [*search.TOOLS]


def definitions() -> "list[ToolDefinition]":
    return [tool.definition for tool in tools()]

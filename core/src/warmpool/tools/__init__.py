"""Tools as data: what one is, and the texts that are made from it.

From a definition come the lines of the prompt, the stub that a sandbox imports, and its `.pyi`; one
renderer writes all three, so they cannot disagree. Running a tool is the tool server's affair.
"""

from warmpool.tools.definition import ToolDefinition, catalogue_hash
from warmpool.tools.render import Detail, signature_lines
from warmpool.tools.stubs import stub_package

__all__ = ["Detail", "ToolDefinition", "catalogue_hash", "signature_lines", "stub_package"]

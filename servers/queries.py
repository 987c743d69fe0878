"""SQL that stands in files of its own beside the code that runs it."""

from functools import cache
from importlib import resources


@cache
def query(package: str, name: str) -> str:
    """The text of `sql/<name>.sql` of a package. Reads a file: call it at import, or off the event loop."""
    return (resources.files(package) / "sql" / f"{name}.sql").read_text("utf-8")

"""`warmpool tools`: the tools that programs call, as the model and as a sandbox sees them."""

from pathlib import Path
from typing import get_args

import click

from servers import definitions
from warmpool.tools import Detail, signature_lines, stub_package


@click.group()
def tools() -> None:
    """The tools that programs call."""


@tools.command("show")
@click.option("--detail", type=click.Choice(get_args(Detail)), default="signatures", show_default=True)
def show_tools(detail: Detail) -> None:
    """Print them as the model's prompt does."""
    click.echo(signature_lines(definitions(), detail))


@tools.command("stubs")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def write_stubs(folder: Path) -> None:
    """Write the package `servers` that programs import, with its types, into FOLDER."""
    folder.mkdir(parents=True, exist_ok=True)
    stub_package(definitions(), folder)
    click.echo(f"wrote {folder / 'servers'}")

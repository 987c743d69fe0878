"""The small commands of `warmpool`: keys on disk, the database's schema, the tools that programs see."""

import asyncio
from pathlib import Path
from typing import get_args

import click
import psycopg

from servers import definitions
from warmpool.errors import WarmpoolError
from warmpool.local import secret_files
from warmpool.settings import Settings
from warmpool.storage.migrate import migrate as run_migrations
from warmpool.tools import Detail, signature_lines, stub_package


@click.group()
def secrets() -> None:
    """The keys that gateways, sandboxes and tool servers share."""


@secrets.command("create")
@click.option("--path", type=click.Path(path_type=Path, file_okay=False), help="Folder; default: secrets.path.")
def create_secrets(path: Path | None) -> None:
    """Make the keys that are missing. Those that exist are left as they are."""
    folder = path or Settings.of_environment().secrets.path
    try:
        made = secret_files.create(folder)
    except OSError as fault:
        raise click.ClickException(f"secrets.path: {fault}") from fault
    click.echo("\n".join(f"made {file}" for file in made) or f"nothing to do: {folder} has them all")


@click.command()
def migrate() -> None:
    """Bring the database of postgres.dsn to this version's schema."""
    dsn = Settings.of_environment().postgres.dsn
    try:
        applied = asyncio.run(run_migrations(dsn))
    except (WarmpoolError, psycopg.Error) as fault:
        raise click.ClickException(f"postgres.dsn: {fault}") from fault
    click.echo("\n".join(f"applied {name}" for name in applied) or "nothing to do: the schema is current")


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

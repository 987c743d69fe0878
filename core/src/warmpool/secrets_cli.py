"""`warmpool secrets`: the keys on disk."""

from pathlib import Path

import click

from warmpool import secret_files
from warmpool.settings import Settings


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

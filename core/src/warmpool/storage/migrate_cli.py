"""`warmpool migrate`: the database's schema."""

import asyncio

import click
import psycopg

from warmpool.errors import WarmpoolError
from warmpool.settings import Settings
from warmpool.storage.migrate import migrate as run_migrations


@click.command()
def migrate() -> None:
    """Bring the database of postgres.dsn to this version's schema."""
    dsn = Settings.of_environment().postgres.dsn
    try:
        applied = asyncio.run(run_migrations(dsn))
    except (WarmpoolError, psycopg.Error) as fault:
        raise click.ClickException(f"postgres.dsn: {fault}") from fault
    click.echo("\n".join(f"applied {name}" for name in applied) or "nothing to do: the schema is current")

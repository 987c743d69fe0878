"""`warmpool keys`: makes, lists and revokes API keys, straight in Postgres. The secret goes to stdout, once."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar

import click
import psycopg
from psycopg import AsyncConnection
from rich.console import Console
from rich.table import Table
from rich.text import Text

from warmpool.errors import WarmpoolError
from warmpool.settings import Settings
from warmpool_gateway.keys import create_key, list_keys, revoke_key

T = TypeVar("T")


@click.group()
def keys() -> None:
    """API keys of the gateway."""


@keys.command()
@click.option("--tenant", required=True, help="Whose executions, quota and catalogue the key opens.")
@click.option("--name", required=True, help="What or whom it is for.")
@click.option("--weight", default=1, show_default=True, help="Turns that the tenant gets in the queue, 1 to 100.")
def create(tenant: str, name: str, weight: int) -> None:
    """Make a key and print it. It cannot be printed again."""
    settings = _settings()
    try:
        pepper = settings.secrets.read("pepper")
    except ValueError as fault:
        raise click.ClickException(str(fault)) from fault
    key, text = _with_postgres(
        settings, lambda connection: create_key(connection, pepper, tenant=tenant, name=name, weight=weight)
    )
    click.echo(f"Key {key.id} of tenant {key.tenant}; gateways know it within 2 seconds.", err=True)
    click.echo(text)


@keys.command("list")
def list_() -> None:
    """Show every key, without secrets."""
    table = Table("ID", "TENANT", "NAME", "WEIGHT", "CREATED", "REVOKED")
    for key in _with_postgres(_settings(), list_keys):
        table.add_row(key.id, key.tenant, Text(key.name), str(key.weight), _day(key.created_at), _day(key.revoked_at))
    Console().print(table)


@keys.command()
@click.argument("id")
def revoke(id: str) -> None:
    """Make the key ID count no more."""
    key = _with_postgres(_settings(), lambda connection: revoke_key(connection, id))
    click.echo(f"Key {key.id} of tenant {key.tenant} is revoked; gateways refuse it within 2 seconds.")


def _settings() -> Settings:
    try:
        return Settings.of_environment()
    except WarmpoolError as fault:
        raise click.ClickException(str(fault)) from fault


def _with_postgres(settings: Settings, work: Callable[[AsyncConnection[Any]], Awaitable[T]]) -> T:
    async def connected() -> T:
        timeout = max(2, round(settings.postgres.timeout_seconds))
        async with await AsyncConnection.connect(settings.postgres.dsn, connect_timeout=timeout) as connection:
            return await work(connection)

    try:
        return asyncio.run(connected())
    except WarmpoolError as fault:
        raise click.ClickException(str(fault)) from fault
    except psycopg.errors.UndefinedTable as fault:
        raise click.ClickException("the database has no tables yet; run `warmpool migrate`") from fault
    except psycopg.Error as fault:
        raise click.ClickException(f"postgres.dsn: {fault}".strip()) from fault


def _day(moment: datetime | None) -> str:
    return "" if moment is None else moment.strftime("%Y-%m-%d %H:%M")

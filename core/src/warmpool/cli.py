"""The `warmpool` command. Each subcommand lives with the component that it needs and is imported when it is called.

So an installation that holds only some components, as an image does, has those commands that it can carry out.
"""

import importlib
import sys
from collections.abc import Sequence
from typing import Final

import click

import warmpool
from warmpool.errors import WarmpoolError

COMMANDS: Final = {
    "up": "warmpool.local.up:up",
    "demo": "warmpool.local.demo:demo",
    "catalog": "servers.catalogue_cli:catalog",
    "keys": "warmpool_gateway.keys_cli:keys",
    "secrets": "warmpool.secrets_cli:secrets",
    "pool": "warmpool_operator.pool_cli:pool",
    "migrate": "warmpool.storage.migrate_cli:migrate",
    "tools": "servers.tools_cli:tools",
}
"""Name → where its click command is."""


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        try:
            command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as fault:
            return _not_here(cmd_name, fault)
        assert isinstance(command, click.Command)
        return command


def _not_here(name: str, fault: ModuleNotFoundError) -> click.Command:
    """In place of a command whose component is not installed: says so, whatever its arguments, and is in no list."""

    def say() -> None:
        raise click.ClickException(f"`warmpool {name}` is not part of this installation: no module {fault.name}")

    anything = click.Argument(["words"], nargs=-1, type=click.UNPROCESSED, expose_value=False)
    permissive = {"ignore_unknown_options": True}
    return click.Command(name, permissive, say, params=[anything], add_help_option=False, hidden=True)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(warmpool.__version__, prog_name="warmpool")
def cli() -> None:
    """A pool of warm sandboxes for the code a language model writes.

    `warmpool up` starts everything on this machine; `warmpool demo` shows what it does.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; a failure of ours is one line and exit code 1."""
    try:
        cli.main(args=list(arguments) if arguments is not None else None, prog_name="warmpool")
    except WarmpoolError as fault:
        sys.exit(f"Error: {fault.message}")

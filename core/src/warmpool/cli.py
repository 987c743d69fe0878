"""The `warmpool` command. Each subcommand's code is imported when it is called, so that `--help` is quick."""

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
    "catalog": "warmpool.local.catalog:catalog",
    "keys": "warmpool_gateway.keys_cli:keys",
    "secrets": "warmpool.local.commands:secrets",
    "migrate": "warmpool.local.commands:migrate",
    "tools": "warmpool.local.commands:tools",
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
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


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

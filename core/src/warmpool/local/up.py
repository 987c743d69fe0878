"""`warmpool up`: the whole service on this machine, until Ctrl-C."""

import asyncio
import signal
import sys
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click
from rich.console import Console
from rich.markup import escape

from servers.catalogue.importer import Format
from warmpool.errors import PlatformError, WarmpoolError
from warmpool.local import stack

INTERRUPTED = 130


def until_interrupted(work: Coroutine[Any, Any, None]) -> int:
    """Runs `work` to its end, or to Ctrl-C or SIGTERM at any moment, which lets it clean up. The exit code.

    A second Ctrl-C changes nothing: the end takes seconds at most, and half of it would leave things behind.
    """
    console = Console(stderr=True)
    with asyncio.Runner() as runner:
        task = runner.get_loop().create_task(work)

        interrupted = asyncio.Event()

        def interrupt() -> None:
            if not interrupted.is_set():
                interrupted.set()
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            runner.get_loop().add_signal_handler(number, interrupt)
        try:
            runner.run(_finished(task))
        except asyncio.CancelledError:
            return INTERRUPTED
        except WarmpoolError as fault:
            # Ctrl-C goes to the whole job: a part that was just being started may have died of it before we heard.
            runner.run(asyncio.sleep(0))
            if interrupted.is_set():
                return INTERRUPTED
            console.print(f"[red]error:[/] {escape(fault.message)}", highlight=False)
            return 1
    return 0


async def _finished(task: "asyncio.Task[None]") -> None:
    await task


@click.command()
@click.option("--port", default=8080, show_default=True, help="Of the gateway; 0 takes a free one.")
@click.option("--pods", type=click.IntRange(1, 500), help="Warm sandboxes.  [default: two a core, at least 4]")
@click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), help="Keep Redis, Postgres and keys in this folder."
)
@click.option("--products", default=2000, show_default=True, help="Generated where there is no catalogue yet.")
@click.option("--seed", default=1, show_default=True, help="Of the generated catalogue.")
@click.option(
    "--catalog", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A file to import instead."
)
@click.option("--format", type=click.Choice(get_args(Format)), default="woocommerce-csv", show_default=True)
def up(
    port: int, pods: int | None, data: Path | None, products: int, seed: int, catalog: Path | None, format: Format
) -> None:
    """Start everything on this machine: Redis, Postgres, tools, sandboxes, gateway."""
    plan = stack.Plan(port=port, data=data, products=products, seed=seed, catalogue=catalog, format=format)
    if pods is not None:
        plan = replace(plan, pods=pods)
    code = until_interrupted(_up(plan))
    sys.exit(0 if code == INTERRUPTED else code)


async def _up(plan: stack.Plan) -> None:
    console = Console()
    async with stack.running(plan, lambda line: console.print(f"  {line}", highlight=False)) as running:
        console.print(_welcome(running), highlight=False, soft_wrap=True)
        raise PlatformError(await _failure(running))


async def _failure(running: stack.Stack) -> str:
    """Waits for a part that ends on its own, and says which and why."""
    services = {asyncio.create_task(service.ended()): service for service in (running.gateway, running.tools)}
    try:
        await asyncio.wait([*services, running.keeping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in services:
            task.cancel()
    for task, service in services.items():
        if task.done():
            return f"{service.module} ended on its own:\n{service.last_words()}"
    return f"the pool of sandboxes ended on its own: {running.keeping.exception()!r}"


def _welcome(running: stack.Stack) -> str:
    model = (
        "a stand-in that follows rules, not a language model (set OPENAI_API_KEY for one)"
        if running.has_stand_in
        else escape(running.settings.model.name)
    )
    return f"""
[bold green]warmpool is up[/] at {running.url}  (documentation: {running.url}/docs; Ctrl-C ends it)
Model: {model}

Run a program:
  [bold]curl -s {running.url}/v1/executions -H 'Authorization: Bearer {running.api_key}' \\
       -H 'Content-Type: application/json' -d '{{"code": "return sum(range(10))"}}'[/]
Ask a question:
  [bold]curl -s {running.url}/v1/chat -H 'Authorization: Bearer {running.api_key}' \\
       -H 'Content-Type: application/json' -d '{{"message": "What is the cheapest lamp in stock?"}}'[/]
Other commands talk to it after:
  [bold]. {running.folder}/environment[/]
"""

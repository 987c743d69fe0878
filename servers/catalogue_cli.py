"""`warmpool catalog`: import a shop's catalogue, or generate one for a trial.

Exit status 0: every row was used. 3: some rows were not, and each was reported. 2: the command or the
file is not what it should be. 1: the service failed.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, get_args

import click
import psycopg
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from servers.catalogue import importer
from servers.catalogue.generate import FEWEST, MOST, generate
from servers.catalogue.importer import Format, Report, import_catalogue
from servers.catalogue.rows import BadRow, UnreadableFile
from servers.embedding import embedder
from warmpool.errors import WarmpoolError
from warmpool.settings import Settings

SOME_ROWS_BAD: Final = 3

FORMAT: Final = click.option(
    "--format", "format", type=click.Choice(get_args(Format)), required=True, help="What the file is."
)
CURRENCY: Final = click.option(
    "--currency", default="EUR", show_default=True, help="Of the prices, where the file does not say."
)


@click.group()
def catalog() -> None:
    """The products that the search tools find."""


@catalog.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, readable=True))
@FORMAT
@CURRENCY
@click.option("--tenant", required=True, help="Whose catalogue it is.")
def import_file(file: Path, format: Format, currency: str, tenant: str) -> None:
    """Import FILE into the database of postgres.dsn.

    Products that are there already are updated; importing the same file twice changes nothing. Rows that cannot be
    used are reported on standard error with their line, and the rest is imported.
    """
    settings = Settings.of_environment()
    try:
        with _bar() as bar:
            report = import_catalogue(
                file,
                format=format,
                tenant=tenant,
                dsn=settings.postgres.dsn,
                embedder=embedder(settings.embedding),
                currency=currency,
                on_bad_row=_reporter(bar, file),
                on_progress=_follower(bar),
            )
    except UnreadableFile as fault:
        raise click.UsageError(f"{file}: {fault}") from fault
    except ValueError as fault:
        raise click.UsageError(str(fault)) from fault
    except psycopg.errors.UndefinedTable as fault:
        raise click.ClickException("the database has no tables yet; run `warmpool migrate`") from fault
    except (WarmpoolError, OSError, psycopg.Error) as fault:
        raise click.ClickException(str(fault)) from fault
    click.echo(_summary(report))
    sys.exit(SOME_ROWS_BAD if report.bad_rows else 0)


@catalog.command("generate")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, writable=True))
@FORMAT
@CURRENCY
@click.option("--products", type=click.IntRange(FEWEST, MOST), default=1000, show_default=True)
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same bytes.")
def generate_file(file: Path, format: Format, currency: str, products: int, seed: int) -> None:
    """Write an invented catalogue to FILE."""
    with _bar() as bar:
        task = bar.add_task("writing", total=products)
        generate(
            file,
            format=format,
            products=products,
            seed=seed,
            currency=currency,
            on_progress=lambda done: bar.update(task, completed=done),
        )
    click.echo(f"wrote {products} products to {file}")


@contextmanager
def _bar() -> Iterator[Progress]:
    """On standard error; where that is no terminal, nothing but the messages."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress


def _follower(bar: Progress) -> Callable[[importer.Progress], None]:
    """One task a stage."""
    tasks: dict[str, Any] = {}

    def follow(progress: importer.Progress) -> None:
        if progress.stage not in tasks:
            tasks[progress.stage] = bar.add_task(progress.stage, total=progress.total)
        bar.update(tasks[progress.stage], completed=progress.done)

    return follow


def _reporter(bar: Progress, file: Path) -> Callable[[BadRow], None]:
    def report(bad: BadRow) -> None:
        bar.console.print(f"{file}:{bad.line}: {bad.reason}", markup=False, highlight=False, soft_wrap=True)

    return report


def _summary(report: Report) -> str:
    changes = f"{report.created} new, {report.changed} changed, {report.unchanged} unchanged"
    nothing = "; nothing to do" if report.products and not report.created + report.changed else ""
    bad = f"; {report.bad_rows} rows could not be used" if report.bad_rows else ""
    return (
        f"{report.products} products with {report.variants} variants in {report.seconds:.1f} s: {changes}{nothing}{bad}"
    )

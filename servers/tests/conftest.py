"""Catalogues, imported by the importer itself, and a pool of connections to them."""

import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import psycopg.conninfo
import pytest
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from servers.catalogue.importer import Format, Report, import_catalogue
from servers.catalogue.rows import BadRow
from servers.embedding import HashedEmbedder
from servers.server import SESSION
from servers.tests.outdoor import OUTDOOR, Import, ImportProducts
from servers.tool import Context
from warmpool.settings import PostgresSettings
from warmpool.storage.pool import connection_pool

CopyOf: TypeAlias = Callable[[str], AbstractContextManager[str]]


@pytest.fixture
def import_file(database: str) -> Import:
    """Imports a file and returns the report with every bad row."""

    def run(file: Path, format: Format, *, tenant: str = "acme", **options: Any) -> tuple[Report, list[BadRow]]:
        bad: list[BadRow] = []
        options = {"embedder": HashedEmbedder(), "on_bad_row": bad.append} | options
        # In a thread, so that an async test may call it too; the test does nothing else meanwhile.
        with ThreadPoolExecutor(1) as thread:
            importing = partial(import_catalogue, format=format, tenant=tenant, dsn=database, **options)
            return thread.submit(importing, file).result(), bad

    return run


@pytest.fixture
def import_products(import_file: Import, tmp_path: Path) -> ImportProducts:
    def run(products: Iterable[dict[str, Any]], tenant: str = "acme") -> None:
        file = write_products(tmp_path / f"{tenant}.jsonl", products)
        _, bad = import_file(file, "jsonl", tenant=tenant)
        assert bad == []

    return run


@pytest.fixture(scope="session")
def outdoor_template(
    copy_of: CopyOf, postgres_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A database with the outdoor shop as tenant acme."""
    file = write_products(tmp_path_factory.mktemp("outdoor") / "outdoor.jsonl", OUTDOOR)
    with copy_of(postgres_template) as dsn:
        import_catalogue(file, format="jsonl", tenant="acme", dsn=dsn, embedder=HashedEmbedder())
        yield str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])


@pytest.fixture
def database(request: pytest.FixtureRequest, copy_of: CopyOf, postgres_template: str) -> Iterator[str]:
    """As everywhere; with the outdoor shop in it where the test asks for `outdoor`."""
    template = request.getfixturevalue("outdoor_template") if "outdoor" in request.fixturenames else postgres_template
    with copy_of(template) as dsn:
        yield dsn


@pytest.fixture
def outdoor(database: str) -> None:
    """The catalogue of tenant acme."""


@pytest.fixture
async def pool(database: str) -> AsyncIterator[AsyncConnectionPool[AsyncConnection]]:
    async with connection_pool(PostgresSettings(dsn=database), SESSION) as opened:
        yield opened


@pytest.fixture
def context(pool: AsyncConnectionPool[AsyncConnection]) -> Context:
    return Context(tenant="acme", database=pool, embedder=HashedEmbedder())


def write_products(file: Path, products: Iterable[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(each) + "\n" for each in products))
    return file

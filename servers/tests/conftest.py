"""Catalogues, imported by the importer itself, and a pool of connections to them."""

import json
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

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
        file = tmp_path / f"{tenant}.jsonl"
        file.write_text("".join(json.dumps(each) + "\n" for each in products))
        _, bad = import_file(file, "jsonl", tenant=tenant)
        assert bad == []

    return run


@pytest.fixture
def outdoor(import_products: ImportProducts) -> None:
    """The catalogue of tenant acme."""
    import_products(OUTDOOR)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[AsyncConnectionPool[AsyncConnection]]:
    async with connection_pool(PostgresSettings(dsn=database), SESSION) as opened:
        yield opened


@pytest.fixture
def context(pool: AsyncConnectionPool[AsyncConnection]) -> Context:
    return Context(tenant="acme", database=pool, embedder=HashedEmbedder())

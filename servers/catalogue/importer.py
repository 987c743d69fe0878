"""Imports a catalogue file: read, checked, compared, written. Twice the same file changes nothing.

The file is copied into temporary tables first, because a variation may stand before its parent; then
products are written in batches, each in a transaction together with its variants. Memory does not grow
with the file. An import adds and changes products; it removes only variants that a product no longer has.
"""

import datetime
import time
from asyncio import Runner
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TextIO, TypeAlias

import psycopg
from psycopg import Connection, sql

from servers.catalogue import jsonl, shopify, woocommerce
from servers.catalogue.rows import BadRow, Item, ProductRow, UnreadableFile, VariantRow
from servers.catalogue.staging import copy_products, copy_variants
from servers.embedding import Embedder, as_text, require_same_model
from servers.money import is_currency
from servers.queries import query

Format: TypeAlias = Literal["woocommerce-csv", "shopify-csv", "jsonl"]
Reader: TypeAlias = Callable[[TextIO, str, datetime.date], Iterator[Item]]

READERS: Final[dict[Format, Reader]] = {
    "woocommerce-csv": woocommerce.read,
    "shopify-csv": shopify.read,
    "jsonl": jsonl.read,
}

STAGED_AT_ONCE: Final = 2000
WRITTEN_AT_ONCE: Final = 1000
STATEMENT_SECONDS: Final = 3600
WORD_INDEXES: Final = ["products_words", "products_categories"]
LOCK: Final = 7_391_645_120_847
"""Advisory lock: one import at a time, so that two do not build one index twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    stage: Literal["reading", "writing", "indexing"]
    done: int
    total: int
    """Bytes while reading, products while writing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    created: int = 0
    changed: int = 0
    unchanged: int = 0
    variants: int = 0
    bad_rows: int = 0
    seconds: float = 0.0

    @property
    def products(self) -> int:
        return self.created + self.changed + self.unchanged


def import_catalogue(
    file: Path,
    *,
    format: Format,
    tenant: str,
    dsn: str,
    embedder: Embedder,
    currency: str = "EUR",
    today: datetime.date | None = None,
    on_bad_row: Callable[[BadRow], None] = lambda bad: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Report:
    """Blocks until done; never call it on an event loop's thread. Closes the embedder.

    `on_bad_row` hears of each row that was left out, by ascending line within each stage. Raises UnreadableFile
    where the file is not of its format, PlatformError where the catalogue has another embedding model.
    """
    if not is_currency(currency):
        raise UnreadableFile(f"currency {currency!r} is not a code such as EUR")
    if not tenant.strip():
        raise UnreadableFile("the tenant must not be empty")
    began = time.monotonic()
    options = f"-c statement_timeout={STATEMENT_SECONDS * 1000} -c maintenance_work_mem=256MB"
    with (
        file.open("rb") as raw,
        psycopg.connect(dsn, autocommit=True, connect_timeout=10, options=options) as connection,
        Runner() as runner,
    ):
        run = _Import(connection, runner, embedder, tenant, on_bad_row, on_progress)
        try:
            run.claim()
            run.stage(_items(raw, format, currency, today or datetime.datetime.now(datetime.UTC).date()), raw)
            run.check()
            run.write()
            run.index()
        finally:
            runner.run(embedder.aclose())  # its connections belong to this run's event loop
    return replace(run.report, seconds=time.monotonic() - began)


def _items(raw: BinaryIO, format: Format, currency: str, today: datetime.date) -> Iterator[Item]:
    # Bytes that are not UTF-8 become surrogates, which the readers report with their line.
    with open(raw.fileno(), encoding="utf-8-sig", errors="surrogateescape", newline="", closefd=False) as text:
        yield from READERS[format](text, currency, today)


class _Import:
    """One run: its connection, its counts."""

    def __init__(
        self,
        connection: Connection,
        runner: Runner,
        embedder: Embedder,
        tenant: str,
        on_bad_row: Callable[[BadRow], None],
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.report = Report()
        self._connection = connection
        self._runner = runner
        self._embedder = embedder
        self._tenant = tenant
        self._on_bad_row = on_bad_row
        self._on_progress = on_progress

    def claim(self) -> None:
        """Notes the embedding model in an empty catalogue; in another, insists on the one it has."""
        self._connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        with self._connection.transaction():
            if self._one("SELECT NOT EXISTS (SELECT FROM products)"):
                self._connection.execute("DELETE FROM catalogue_embedding")
                self._connection.execute("DROP INDEX IF EXISTS products_embedding")
            self._connection.execute(
                "INSERT INTO catalogue_embedding (model, dimensions) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                (self._embedder.model, self._embedder.dimensions),
            )
        stored = self._connection.execute("SELECT model, dimensions FROM catalogue_embedding").fetchone()
        require_same_model(stored, self._embedder)

    def stage(self, items: Iterable[Item], raw: BinaryIO) -> None:
        self._connection.execute(_query("staging"))
        size = raw.seek(0, 2)
        raw.seek(0)
        products: list[ProductRow] = []
        variants: list[VariantRow] = []
        for item in items:
            match item:
                case ProductRow():
                    products.append(item)
                case VariantRow():
                    variants.append(item)
                case BadRow():
                    self._bad(item)
            if len(products) + len(variants) >= STAGED_AT_ONCE:
                self._copy(products, variants)
                self._on_progress(Progress(stage="reading", done=raw.tell(), total=size))
        self._copy(products, variants)
        self._on_progress(Progress(stage="reading", done=size, total=size))

    def check(self) -> None:
        """Takes out what contradicts itself only when the whole file is known."""
        for line, key, first in self._last_result("repeated_products"):
            self._bad(BadRow(line, f"product {key!r} is already on line {first}; the first one counts"))
        for line, parent in self._last_result("orphaned_variants"):
            self._bad(BadRow(line, f"its parent {parent!r} is not in this file, or was refused"))
        for line, key, first in self._last_result("repeated_variants"):
            self._bad(BadRow(line, f"variant {key!r} of this product is already on line {first}; the first one counts"))

    def write(self) -> None:
        total = self._one("SELECT count(*) FROM staged_products")
        after: int | None = 0
        while after is not None:
            with self._connection.transaction():
                after = self._write_batch(after)
            self._on_progress(Progress(stage="writing", done=self.report.products, total=total))

    def index(self) -> None:
        self._on_progress(Progress(stage="indexing", done=0, total=1))
        if self.report.created + self.report.changed:
            dimensions = sql.SQL(str(int(self._embedder.dimensions)))
            self._connection.execute(
                sql.SQL(
                    "CREATE INDEX IF NOT EXISTS products_embedding ON products "
                    "USING hnsw ((embedding::halfvec({})) halfvec_cosine_ops)"
                ).format(dimensions)
            )
            # What an import adds to these waits in a list that every search would walk: 3 ms for 10,000 products.
            self._connection.execute(
                "SELECT gin_clean_pending_list(i) FROM unnest(%s::regclass[]) AS i", (WORD_INDEXES,)
            )
            self._connection.execute("ANALYZE products, variants")
        self._on_progress(Progress(stage="indexing", done=1, total=1))

    def _write_batch(self, after: int) -> int | None:
        """The last line of the batch, or None when nothing is left."""
        self._connection.execute(_query("batch"), {"tenant": self._tenant, "after": after, "size": WRITTEN_AT_ONCE})
        last, size = self._row("SELECT max(line), count(*) FROM batch")
        if last is None:
            return None
        self._embed()
        self._connection.execute(_query("write_products"), {"tenant": self._tenant})
        written, created = self._row("SELECT count(*), count(*) FILTER (WHERE created) FROM batch_written")
        variants = self._row("SELECT coalesce(sum(variant_count), 0) FROM batch")[0]
        self._connection.execute(_query("remove_variants"), {"tenant": self._tenant})
        self._connection.execute(_query("write_variants"), {"tenant": self._tenant})
        self.report = replace(
            self.report,
            created=self.report.created + created,
            changed=self.report.changed + written - created,
            unchanged=self.report.unchanged + size - written,
            variants=self.report.variants + int(variants),
        )
        return int(last)

    def _embed(self) -> None:
        rows = self._connection.execute("SELECT id, search_text FROM batch WHERE needs_embedding").fetchall()
        if not rows:
            return
        vectors = self._runner.run(self._embedder.embed([text for _, text in rows]))
        with self._connection.cursor().copy("COPY batch_embeddings (id, embedding) FROM STDIN") as copy:
            for (key, _), vector in zip(rows, vectors, strict=True):
                copy.write_row((key, as_text(vector)))

    def _copy(self, products: list[ProductRow], variants: list[VariantRow]) -> None:
        copy_products(self._connection, products)
        copy_variants(self._connection, variants)
        products.clear()
        variants.clear()

    def _bad(self, bad: BadRow) -> None:
        self.report = replace(self.report, bad_rows=self.report.bad_rows + 1)
        self._on_bad_row(bad)

    def _last_result(self, name: str) -> list[tuple[Any, ...]]:
        """Runs a file of several statements and returns the rows of the last, by line."""
        cursor = self._connection.execute(_query(name))
        while cursor.nextset():
            pass
        return sorted(cursor.fetchall())

    def _row(self, statement: str) -> tuple[Any, ...]:
        row = self._connection.execute(statement.encode()).fetchone()
        assert row is not None
        return row

    def _one(self, statement: str) -> Any:
        return self._row(statement)[0]


def _query(name: str) -> bytes:
    return query("servers.catalogue", name).encode()

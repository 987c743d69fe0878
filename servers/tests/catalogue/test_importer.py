"""An import writes what the file says, once, and tells what it could not use."""

import datetime
import itertools
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from servers.catalogue import importer
from servers.catalogue.generate import generate
from servers.catalogue.importer import Format, Progress
from servers.catalogue.rows import BadRow, UnreadableFile
from servers.embedding import HashedEmbedder, Matrix
from servers.tests.outdoor import Import
from warmpool.errors import PlatformError

WOO = """\
ID,Type,SKU,Name,Published,Stock,"In stock?","Sale price","Regular price",Categories,Parent,\
"Attribute 1 name","Attribute 1 value(s)"
79,variation,tee-red,,1,4,1,15,20,,tee,Color,Red
44,variable,tee,"V-Neck
Tee",1,,1,,,Clothing > Tees,,Color,"Red, Blue"
80,variation,tee-blue,,1,0,0,,22,,id:44,Color,Blue
45,simple,mug,Mug,1,3,1,,9.99,Kitchen,,,
46,simple,bad,Bad,1,3,1,,abc,Kitchen,,,
81,variation,x,,1,0,0,,22,,nowhere,Color,Blue
45,simple,mug,Again,1,3,1,,9.99,Kitchen,,,
80,variation,tee-blue-2,,1,1,1,,1,,tee,Color,Blue
47,variable,refused,,1,,1,,,Clothing,,,
82,variation,y,,1,1,1,,5,,refused,Color,Red
"""


WRITTEN = """
SELECT product.id, product.xmin::text, variant.id, variant.xmin::text
FROM products AS product LEFT JOIN variants AS variant ON variant.product_id = product.id ORDER BY 1, 3"""
"""Which transaction wrote each row."""


@pytest.fixture
def woo(tmp_path: Path) -> Path:
    file = tmp_path / "woo.csv"
    file.write_bytes(b"\xef\xbb\xbf" + WOO.encode())
    return file


def rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()


def test_variations_find_their_parents_before_and_after_themselves(
    import_file: Import, database: str, woo: Path
) -> None:
    report, _ = import_file(woo, "woocommerce-csv")
    assert (report.created, report.variants) == (2, 2)
    assert rows(
        database,
        "SELECT id, title, price_minor, regular_price_minor, stock, in_stock, variant_count FROM products ORDER BY id",
    ) == [
        ("44", "V-Neck Tee", 1500, 2000, 4, True, 2),
        ("45", "Mug", 999, None, 3, True, 0),
    ]
    assert rows(
        database, "SELECT product_id, id, sku, title, price_minor, in_stock FROM variants ORDER BY position"
    ) == [
        ("44", "79", "tee-red", "Red", 1500, True),
        ("44", "80", "tee-blue", "Blue", 2200, False),
    ]


def test_every_bad_row_is_reported_with_its_line_and_the_rest_imported(import_file: Import, woo: Path) -> None:
    report, bad = import_file(woo, "woocommerce-csv")
    assert report.bad_rows == 6
    assert sorted((each.line, each.reason) for each in bad) == [
        (7, "Regular price: 'abc' is not a price; write it like 19.99"),
        (8, "its parent 'nowhere' is not in this file, or was refused"),
        (9, "product '45' is already on line 6; the first one counts"),
        (10, "variant '80' of this product is already on line 5; the first one counts"),
        (11, "Name is empty"),
        (12, "its parent 'refused' is not in this file, or was refused"),
    ]


@pytest.mark.parametrize("format", ["woocommerce-csv", "shopify-csv", "jsonl"])
def test_the_same_file_twice_changes_nothing(
    import_file: Import, database: str, tmp_path: Path, format: Format
) -> None:
    generate(tmp_path / "file", format=format, products=300, seed=3)
    first, bad = import_file(tmp_path / "file", format)
    assert (bad, first.created, first.changed, first.unchanged) == ([], 300, 0, 0)
    before = rows(
        database,
        WRITTEN,
    )
    second, _ = import_file(tmp_path / "file", format)
    assert (second.created, second.changed, second.unchanged) == (0, 0, 300)
    assert second.variants == first.variants > 300
    after = rows(
        database,
        WRITTEN,
    )
    assert after == before


def test_the_formats_of_one_catalogue_agree(import_file: Import, database: str, tmp_path: Path) -> None:
    for format in ("woocommerce-csv", "shopify-csv", "jsonl"):
        generate(tmp_path / format, format=format, products=200, seed=5)
        _, bad = import_file(tmp_path / format, format, tenant=format, today=datetime.date(2026, 1, 1))
        assert bad == []
    seen = rows(
        database,
        "SELECT title, price_minor, regular_price_minor, stock, in_stock, visible, variant_count, count(*) "
        "FROM products GROUP BY 1, 2, 3, 4, 5, 6, 7",
    )
    assert {row[-1] % 3 for row in seen} == {0}
    assert len(seen) > 190


def write(file: Path, *products: dict[str, Any]) -> Path:
    file.write_text("".join(json.dumps({"title": "Thing"} | each) + "\n" for each in products))
    return file


class Counting(HashedEmbedder):
    """Knows how many texts it was asked for."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def embed(self, texts: Any) -> Matrix:
        self.texts += texts
        return await super().embed(texts)


def test_only_what_changed_is_written_and_only_changed_text_is_embedded(
    import_file: Import, database: str, tmp_path: Path
) -> None:
    embedder = Counting()
    file = write(tmp_path / "f", {"id": "a"}, {"id": "b", "price": "1"}, {"id": "c", "description": "old"})
    import_file(file, "jsonl", embedder=embedder)
    assert len(embedder.texts) == 3
    write(file, {"id": "new"}, {"id": "a"}, {"id": "b", "price": "2"}, {"id": "c", "description": "fresh"})
    report, _ = import_file(file, "jsonl", embedder=embedder)
    assert (report.created, report.changed, report.unchanged) == (1, 2, 1)
    assert embedder.texts[3:] == ["Thing\n", "Thing\nfresh"]
    assert rows(database, "SELECT price_minor FROM products WHERE id = 'b'") == [(200,)]


def test_a_products_variants_are_those_of_the_file_and_no_others(
    import_file: Import, database: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "f", {"id": "a", "variants": [{"id": "1", "price": "5"}, {"id": "2", "price": "4"}]})
    import_file(file, "jsonl")
    write(file, {"id": "a", "variants": [{"id": "2", "price": "4"}, {"id": "3", "price": "6"}]})
    report, _ = import_file(file, "jsonl")
    assert report.changed == 1
    assert rows(database, "SELECT id, position FROM variants ORDER BY position") == [("2", 1), ("3", 2)]


def test_a_file_of_part_of_the_catalogue_leaves_the_rest_alone(
    import_file: Import, database: str, tmp_path: Path
) -> None:
    import_file(write(tmp_path / "f", {"id": "a"}, {"id": "b"}), "jsonl")
    import_file(write(tmp_path / "f", {"id": "b", "stock": 1}), "jsonl")
    assert rows(database, "SELECT id FROM products ORDER BY id") == [("a",), ("b",)]


def test_tenants_do_not_touch_each_other(import_file: Import, database: str, tmp_path: Path) -> None:
    file = write(tmp_path / "f", {"id": "a", "variants": [{"id": "1"}]})
    import_file(file, "jsonl", tenant="one")
    write(file, {"id": "a", "title": "Other"})
    report, _ = import_file(file, "jsonl", tenant="two")
    assert (report.created, report.changed) == (1, 0)
    assert rows(database, "SELECT tenant, title, variant_count FROM products ORDER BY 1") == [
        ("one", "Thing", 1),
        ("two", "Other", 0),
    ]
    assert rows(database, "SELECT tenant FROM variants") == [("one",)]


def test_variants_that_stand_apart_from_their_product_are_joined_to_it(
    import_file: Import, database: str, tmp_path: Path
) -> None:
    file = tmp_path / "f"
    file.write_text(
        "Handle,Title,Option1 Name,Option1 Value,Variant Price\n"
        "tee,Tee,Size,S,5\nmug,Mug,Title,Default Title,9\ntee,,,M,6\nlost,,,L,7\n"
    )
    report, bad = import_file(file, "shopify-csv")
    assert (report.created, report.variants) == (2, 2)
    assert bad == [BadRow(5, "its parent 'lost' is not in this file, or was refused")]


def test_another_embedding_model_is_refused_unless_the_catalogue_is_empty(
    import_file: Import, database: str, tmp_path: Path
) -> None:
    class Other(HashedEmbedder):
        model = "other"

    file = write(tmp_path / "f", {"id": "a"})
    import_file(file, "jsonl", embedder=Other())
    with pytest.raises(PlatformError, match="imported with embedding model other"):
        import_file(file, "jsonl")
    with psycopg.connect(database) as connection:
        connection.execute("DELETE FROM products")
    import_file(file, "jsonl")
    assert rows(database, "SELECT model, dimensions FROM catalogue_embedding") == [("hashed-384", 384)]


def test_an_import_that_breaks_off_keeps_whole_batches_and_can_be_repeated(
    import_file: Import, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "WRITTEN_AT_ONCE", 10)

    class Breaking(Counting):
        async def embed(self, texts: Any) -> Matrix:
            if len(self.texts) >= 20:
                raise RuntimeError("away")
            return await super().embed(texts)

    file = write(tmp_path / "f", *({"id": str(n), "variants": [{"id": "v"}]} for n in range(35)))
    with pytest.raises(RuntimeError, match="away"):
        import_file(file, "jsonl", embedder=Breaking())
    assert rows(database, "SELECT (SELECT count(*) FROM products), (SELECT count(*) FROM variants)") == [(20, 20)]
    report, _ = import_file(file, "jsonl")
    assert (report.created, report.unchanged) == (15, 20)


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_imports_nothing(import_file: Import, tmp_path: Path, content: str) -> None:
    (tmp_path / "f").write_text(content)
    report, bad = import_file(tmp_path / "f", "jsonl")
    assert (report.products, bad) == (0, [])


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"currency": "euro"}, "currency 'euro'"), ({"tenant": " "}, "tenant must not be empty")],
)
def test_options_that_make_no_sense_are_refused(
    import_file: Import, woo: Path, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UnreadableFile, match=reason):
        import_file(woo, "woocommerce-csv", **options)


def test_a_file_of_another_format_is_refused_and_changes_nothing(import_file: Import, database: str, woo: Path) -> None:
    with pytest.raises(UnreadableFile, match="no column Handle, Title, Variant Price"):
        import_file(woo, "shopify-csv")
    assert rows(database, "SELECT count(*) FROM products") == [(0,)]


def test_bytes_that_are_not_utf8_cost_their_row_only(import_file: Import, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"ID,Type,Name\n1,simple,Caf\xe9\n2,simple,Caf\xc3\xa9\n")
    report, bad = import_file(file, "woocommerce-csv")
    assert report.created == 1
    assert bad == [BadRow(2, "name: is not UTF-8; export the file as UTF-8")]


def test_progress_reaches_the_end_of_every_stage(import_file: Import, woo: Path) -> None:
    seen: list[Progress] = []
    import_file(woo, "woocommerce-csv", on_progress=seen.append)
    last = {each.stage: each for each in seen}
    assert list(last) == ["reading", "writing", "indexing"]
    assert all(each.done == each.total for each in last.values())
    assert last["reading"].total == woo.stat().st_size


def test_memory_does_not_grow_with_the_file(
    import_file: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven times the products, at most a third more memory: what grows is counts, not rows."""
    monkeypatch.setattr(importer, "STAGED_AT_ONCE", 50)
    monkeypatch.setattr(importer, "WRITTEN_AT_ONCE", 50)

    def peak(products: int, tenant: str) -> int:
        generate(tmp_path / tenant, format="jsonl", products=products, seed=1)
        tracemalloc.start()
        try:
            import_file(tmp_path / tenant, "jsonl", tenant=tenant)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(60, "warm-up")
    small, large = peak(100, "small"), peak(700, "large")
    assert large < 1.33 * small + 200_000


def test_rows_are_staged_while_the_file_is_still_being_read(database: str, tmp_path: Path) -> None:
    taken = itertools.count()

    def items() -> Iterator[BadRow]:
        for line in taken:
            yield BadRow(line, "no")
            if line == 10:
                raise KeyboardInterrupt

    told: list[int] = []
    file = tmp_path / "f"
    file.touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(importer.READERS, "jsonl", lambda file, currency, today: items())
        with pytest.raises(KeyboardInterrupt):
            importer.import_catalogue(
                file,
                format="jsonl",
                tenant="t",
                dsn=database,
                embedder=HashedEmbedder(),
                on_bad_row=lambda bad: told.append(bad.line),
            )
    assert told == list(range(11))

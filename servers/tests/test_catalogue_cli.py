"""`warmpool catalog` does its work and says how it went by its exit status."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from servers.catalogue_cli import catalog
from warmpool.local.embedded import PostgresServer


@pytest.fixture
def command(database: str, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("WARMPOOL_POSTGRES__DSN", database)
    return CliRunner()


def run(command: CliRunner, *words: str | Path) -> Result:
    return command.invoke(catalog, [str(word) for word in words])


def test_a_generated_catalogue_is_imported_and_then_unchanged(command: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "shop.csv"
    made = run(command, "generate", file, "--format", "shopify-csv", "--products", "50", "--seed", "7")
    assert (made.exit_code, made.stdout) == (0, f"wrote 50 products to {file}\n")
    first = run(command, "import", file, "--format", "shopify-csv", "--tenant", "acme")
    assert first.exit_code == 0
    assert "50 new, 0 changed, 0 unchanged\n" in first.stdout
    second = run(command, "import", file, "--format", "shopify-csv", "--tenant", "acme")
    assert "0 new, 0 changed, 50 unchanged; nothing to do" in second.stdout


def test_bad_rows_are_printed_with_their_lines_and_give_status_3(command: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "shop.jsonl"
    file.write_text('{"id": "1", "title": "Good"}\n{"id": "2"}\n[oops [bold]\n')
    result = run(command, "import", file, "--format", "jsonl", "--tenant", "acme")
    assert result.exit_code == 3
    assert f"{file}:2: title: Field required\n" in result.stderr
    assert f"{file}:3: not JSON: " in result.stderr
    assert "1 new, 0 changed, 0 unchanged; 2 rows could not be used" in result.stdout


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--format", "jsonl"], "Missing option '--tenant'"),
        (["--tenant", "acme"], "Missing option '--format'"),
        (["--tenant", "acme", "--format", "xml"], "'xml' is not one of"),
        (["--tenant", "acme", "--format", "jsonl", "--currency", "euro"], "currency 'euro' is not a code"),
        (["--tenant", "acme", "--format", "woocommerce-csv"], "the header has no column Type, Name, ID or SKU"),
    ],
)
def test_a_command_that_makes_no_sense_gives_status_2(
    command: CliRunner, tmp_path: Path, words: list[str], reason: str
) -> None:
    file = tmp_path / "file"
    file.write_text("nothing\n")
    result = run(command, "import", file, *words)
    assert result.exit_code == 2
    assert reason in result.stderr


def test_a_file_that_is_not_there_gives_status_2(command: CliRunner, tmp_path: Path) -> None:
    result = run(command, "import", tmp_path / "none", "--format", "jsonl", "--tenant", "acme")
    assert result.exit_code == 2


def test_a_database_without_tables_gives_status_1_and_the_remedy(
    command: CliRunner, tmp_path: Path, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARMPOOL_POSTGRES__DSN", postgres_server.address)
    (tmp_path / "f").write_text("")
    result = run(command, "import", tmp_path / "f", "--format", "jsonl", "--tenant", "acme")
    assert result.exit_code == 1
    assert "run `warmpool migrate`" in result.stderr


def test_a_database_that_is_away_gives_status_1_without_a_traceback(
    command: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARMPOOL_POSTGRES__DSN", "postgresql://nobody@/x?host=/nonexistent")
    file = tmp_path / "shop.jsonl"
    file.write_text('{"id": "1", "title": "Good"}\n')
    result = run(command, "import", file, "--format", "jsonl", "--tenant", "acme")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")

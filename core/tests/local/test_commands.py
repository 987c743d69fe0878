"""What goes wrong at the command line is told in words, and half-made keys are no keys."""

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner

from warmpool import secret_files
from warmpool.cli import cli
from warmpool.errors import PlatformError
from warmpool.local import service, stack
from warmpool.local.service import Service
from warmpool.local.up import until_interrupted


@pytest.fixture
def command() -> CliRunner:
    return CliRunner()


def test_a_migration_of_a_database_that_is_away_says_so(command: CliRunner) -> None:
    nobody = {"WARMPOOL_POSTGRES__DSN": "postgresql://127.0.0.1:1/warmpool"}
    result = command.invoke(cli, ["migrate"], env=nobody)
    assert result.exit_code == 1
    assert result.output.startswith("Error: postgres.dsn: ")


def test_a_folder_that_cannot_hold_keys_is_named(command: CliRunner) -> None:
    result = command.invoke(cli, ["secrets", "create", "--path", "/proc/warmpool"])
    assert result.exit_code == 1
    assert "/proc/warmpool" in result.output


def test_keys_are_made_once_for_their_owner_only(command: CliRunner, tmp_path: Path) -> None:
    for words in ("made ", "nothing to do"):
        assert command.invoke(cli, ["secrets", "create", "--path", str(tmp_path)]).output.startswith(words)
    assert {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {
        "pool.key": 0o600, "grant.key": 0o600, "pepper.key": 0o600,
    }  # fmt: skip


def test_a_key_that_could_not_be_written_is_made_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as full:
        full.setattr(Path, "write_text", _raise_full)
        with pytest.raises(OSError, match="disk is full"):
            secret_files.create(tmp_path)
    assert len(secret_files.create(tmp_path)) == 3


def _raise_full(*_: object) -> None:
    raise OSError("disk is full")


def test_an_error_is_printed_to_the_letter(capsys: pytest.CaptureFixture[str]) -> None:
    async def fail() -> None:
        raise PlatformError("servers ended: [idle] [/tmp/b]")

    assert until_interrupted(fail()) == 1
    assert capsys.readouterr().err == "error: servers ended: [idle] [/tmp/b]\n"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [("WARMPOOL_QUEUE__MAX_WAITING", "many", "queue.max_waiting"), ("WARMPOOL_QUEUE__FOO", "1", "queue.foo")],
)
def test_a_setting_that_makes_no_sense_is_named(name: str, value: str, told: str) -> None:
    with pytest.raises(PlatformError, match=told):
        stack._settings({name: value})


async def test_a_service_that_never_gets_ready_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sleeper.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(service, "START_SECONDS", 0.5)
    sleeper = await asyncio.to_thread(Service, "sleeper", tmp_path / "log", {"PYTHONPATH": str(tmp_path)})
    await sleeper.start()
    try:
        with pytest.raises(PlatformError, match="sleeper is not ready"):
            await sleeper.ready()
    finally:
        await sleeper.stop()

"""Settings: from the environment, and connection strings from files too."""

from pathlib import Path

import pytest

from warmpool.errors import PlatformError
from warmpool.settings import RedisSettings, Settings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WARMPOOL_SECRETS__PATH", str(tmp_path))
    monkeypatch.delenv("WARMPOOL_REDIS__URL", raising=False)
    monkeypatch.delenv("WARMPOOL_POSTGRES__DSN", raising=False)
    return tmp_path


def test_connection_strings_are_read_from_files(folder: Path) -> None:
    (folder / "redis.url").write_text("redis://:word@redis:6379/0\n")
    (folder / "postgres.dsn").write_text("postgresql://warmpool:word@postgres/warmpool\n")
    settings = Settings.of_environment()
    assert settings.redis.url == "redis://:word@redis:6379/0"
    assert settings.postgres.dsn == "postgresql://warmpool:word@postgres/warmpool"


def test_without_files_the_defaults_hold(folder: Path) -> None:
    assert Settings.of_environment().redis == RedisSettings()


def test_a_folder_that_is_not_there_is_no_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMPOOL_SECRETS__PATH", str(folder / "absent"))
    assert Settings.of_environment().redis == RedisSettings()


def test_the_environment_wins_over_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "redis.url").write_text("redis://of-the-file")
    monkeypatch.setenv("WARMPOOL_REDIS__URL", "redis://of-the-environment")
    assert Settings.of_environment().redis.url == "redis://of-the-environment"


def test_a_file_goes_with_other_settings_of_its_group(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "redis.url").write_text("redis://of-the-file")
    monkeypatch.setenv("WARMPOOL_REDIS__TIMEOUT_SECONDS", "7")
    assert Settings.of_environment().redis == RedisSettings(url="redis://of-the-file", timeout_seconds=7)


def test_what_code_says_wins_over_a_file(folder: Path) -> None:
    (folder / "redis.url").write_text("redis://of-the-file")
    assert Settings(redis=RedisSettings(url="redis://of-the-code")).redis.url == "redis://of-the-code"


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff"], ids=["empty", "blank", "no text"])
def test_a_file_that_says_nothing_is_named(folder: Path, content: bytes) -> None:
    (folder / "postgres.dsn").write_bytes(content)
    with pytest.raises(PlatformError, match=str(folder / "postgres.dsn")):
        Settings.of_environment()


def test_a_file_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "redis.url").mkdir()
    with pytest.raises(PlatformError, match=str(folder / "redis.url")):
        Settings.of_environment()


def test_an_address_that_is_no_redis_is_named_before_anything_starts(folder: Path) -> None:
    (folder / "redis.url").write_text("http://:word@redis")
    with pytest.raises(PlatformError, match=r"^redis\.url: ") as told:
        Settings.of_environment()
    assert "word" not in str(told.value)

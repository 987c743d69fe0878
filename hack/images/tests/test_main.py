import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hack.images import __main__ as command
from hack.images.builders import Builder, ImageError
from hack.images.definitions import Image


class Recorder(Builder):
    """Builds nothing, and says what it was asked for."""

    def __init__(self) -> None:
        self.built: list[str] = []
        self.fault: str | None = None

    def base(self, say: Callable[[str], None]) -> str:
        return "localhost/base:1"

    def build(self, image: Image, tag: str, base: str, root: Path, *, anew: bool) -> None:
        if self.fault:
            raise ImageError(self.fault)
        self.built.append(image.name)

    def save(self, tag: str, into: Path) -> None:
        into.write_text(tag)

    def tidy(self) -> None: ...


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where references and archives are handed over."""
    monkeypatch.setattr(command, "ARCHIVES", tmp_path / "archives")
    monkeypatch.setattr(command, "OUT", tmp_path / "images")
    return tmp_path


@pytest.fixture
def builder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    made = Recorder()
    monkeypatch.setattr(command, "choose", lambda: made)
    return made


def test_what_has_not_changed_is_not_built_again(builder: Recorder) -> None:
    assert command.main(["gateway", "stores"]) == 0
    assert command.main(["gateway", "stores"]) == 0
    assert builder.built == ["gateway", "stores"]


def test_references_of_one_image_join_those_of_the_others(builder: Recorder, folder: Path) -> None:
    command.main(["gateway"])
    command.main(["stores"])
    references = json.loads((folder / "images.json").read_text())
    assert set(references) == {"gateway", "stores"}
    assert (folder / "images" / "gateway.tar").read_text() == references["gateway"]


def test_anew_builds_even_what_has_not_changed(builder: Recorder) -> None:
    command.main(["gateway"])
    command.main(["--anew", "gateway"])
    assert builder.built == ["gateway", "gateway"]


def test_a_failed_build_leaves_no_archive_and_names_the_dockerfile(
    builder: Recorder, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    builder.fault = "pip found no such version"
    assert command.main(["gateway"]) == 1
    assert "gateway/Dockerfile: pip found no such version" in capsys.readouterr().err
    assert not list((folder / "archives").iterdir())
    assert not (folder / "images.json").exists()


def test_only_a_few_archives_of_an_image_are_kept(builder: Recorder, folder: Path) -> None:
    archives = folder / "archives"
    archives.mkdir()
    for number in range(command.KEPT + 2):
        (archives / f"gateway@{number:012}.tar").touch()
    command.main(["gateway"])
    assert len(list(archives.glob("gateway@*.tar"))) == command.KEPT


def test_an_unknown_image_is_refused_with_the_names_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["gatewy"])
    assert "no image gatewy; there are operator, gateway" in capsys.readouterr().err

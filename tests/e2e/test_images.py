"""What the images hold, read from the archives that `make images` wrote; no cluster is asked."""

import io
import json
import os
import re
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(os.environ.get("IMAGES") or Path(__file__).parents[2] / ".cache" / "images.json").with_suffix("")
SANDBOXES = ("sandbox", "sandbox-data")
ALL = ("operator", "gateway", "servers", "stores", *SANDBOXES)
MEGABYTES = {"operator": 120, "gateway": 120, "servers": 170, "stores": 60}
"""Over the base, at most."""
SANDBOX_MEGABYTES = {"sandbox": 50, "sandbox-data": 165}
"""In all: below a sandbox lies no base."""

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the images come from elsewhere, without their archives")


@dataclass(frozen=True)
class Archive:
    config: dict[str, Any]
    layers: list[bytes]

    def files(self) -> Iterator[tuple[str, tarfile.TarInfo]]:
        for layer in self.layers:
            with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
                for entry in tar:
                    yield entry.name.rstrip("/"), entry


def archive(name: str) -> Archive:
    with tarfile.open(FOLDER / f"{name}.tar") as tar:
        (manifest,) = json.load(_member(tar, "manifest.json"))
        config = json.load(_member(tar, manifest["Config"]))
        return Archive(config, [_member(tar, layer).read() for layer in manifest["Layers"]])


def _member(tar: tarfile.TarFile, name: str) -> Any:
    content = tar.extractfile(name)
    assert content is not None
    return content


@pytest.fixture(scope="module", params=SANDBOXES)
def sandbox(request: pytest.FixtureRequest) -> Archive:
    return archive(request.param)


@pytest.mark.parametrize("name", ALL)
def test_an_image_runs_as_a_numbered_user_and_says_what_it_is(name: str) -> None:
    config = archive(name).config
    assert config["config"]["User"] == "65532:65532"
    assert config["config"]["Labels"]["org.opencontainers.image.title"] == f"warmpool-{name}"


@pytest.mark.parametrize("name", ALL)
def test_an_image_names_neither_the_machine_nor_the_hour_that_it_was_built_on(name: str) -> None:
    made = archive(name)
    assert not made.config["config"].get("Hostname")
    assert {entry["created"] for entry in made.config["history"]} == {"1970-01-01T00:00:00Z"}
    assert {entry.mtime for _, entry in made.files()} == {0}


@pytest.mark.parametrize("name", MEGABYTES)
def test_an_image_keeps_its_size_over_the_base(name: str) -> None:
    _base, *own = archive(name).layers
    assert sum(map(len, own)) < MEGABYTES[name] * 1e6


@pytest.mark.parametrize("name", SANDBOXES)
def test_a_sandbox_keeps_its_size(name: str) -> None:
    assert sum(map(len, archive(name).layers)) < SANDBOX_MEGABYTES[name] * 1e6


@pytest.mark.parametrize("name", ["operator", "gateway", "servers"])
def test_the_bytecode_of_packages_and_of_our_own_asks_for_no_time_stamps(name: str) -> None:
    flags = {}
    for layer in archive(name).layers[1:]:
        with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
            for entry in tar:
                if entry.name.startswith("opt/warmpool/bytecode/opt/warmpool/") and entry.name.endswith(".pyc"):
                    flags[entry.name] = int.from_bytes(_member(tar, entry.name).read(8)[4:], "little")
    assert any("/opt/warmpool/lib/" in file for file in flags)
    assert any("/opt/warmpool/packages/" in file for file in flags)
    assert set(flags.values()) == {0b01}  # by hash, unchecked


def test_a_sandbox_can_run_a_python_and_nothing_else(sandbox: Archive) -> None:
    """Of what may be executed there is the interpreter, the supervisor, and what these load."""
    programs = {
        name
        for name, entry in sandbox.files()
        if entry.isfile() and entry.mode & 0o111 and not re.search(r"\.so(\.|$)|\.py$", name)
    }
    assert {Path(name).name for name in programs if not re.fullmatch(r"python3\.\d+", Path(name).name)} == {
        "warmpool-sandbox"
    }


def test_a_sandbox_has_no_shell_no_compiler_no_package_manager(sandbox: Archive) -> None:
    names = {Path(name).name for name, _ in sandbox.files()}
    assert not names & {
        "sh",
        "bash",
        "dash",
        "busybox",
        "apt",
        "apt-get",
        "dpkg",
        "pip",
        "pip3",
        "ensurepip",
        "gcc",
        "cc",
        "as",
        "ld",
    }


def test_a_sandbox_has_no_way_to_become_somebody_else(sandbox: Archive) -> None:
    found = list(sandbox.files())
    assert not [name for name, entry in found if entry.mode & (stat.S_ISUID | stat.S_ISGID)]
    assert not [
        name for name, entry in found if any(key.startswith("SCHILY.xattr.security") for key in entry.pax_headers)
    ]
    assert not [
        name for name, entry in found if not (entry.isfile() or entry.isdir() or entry.issym() or entry.islnk())
    ]


def test_any_user_may_read_all_of_a_sandbox_and_write_none_of_it(sandbox: Archive) -> None:
    for name, entry in sandbox.files():
        if not entry.issym():
            assert entry.uid == 0, name
            assert not entry.mode & 0o022, name
            assert entry.mode & 0o004, name
            assert not entry.isdir() or entry.mode & 0o001, name


def test_a_sandbox_holds_the_protocol_of_the_core_and_no_more(sandbox: Archive) -> None:
    core = {
        Path(name).name
        for name, entry in sandbox.files()
        if name.startswith("opt/warmpool/lib/warmpool/") and name.endswith(".py")
    }
    assert core == {"__init__.py", "protocol.py"}


def test_a_sandbox_has_what_programs_reasonably_import(sandbox: Archive) -> None:
    names = {re.sub(r"^usr/(local/)?lib/python3\.\d+/", "", name) for name, _ in sandbox.files()}
    for module in (
        "json/__init__.py",
        "csv.py",
        "statistics.py",
        "decimal.py",
        "asyncio/__init__.py",
        "zoneinfo/__init__.py",
        "re/__init__.py",
    ):
        assert module in names
    assert "usr/share/zoneinfo/Europe/Berlin" in names
    assert any(name.startswith("lib-dynload/_sqlite3.") for name in names)


def test_only_the_data_variant_brings_packages() -> None:
    def packages(name: str) -> set[str]:
        start = "opt/warmpool/packages/"
        return {file.removeprefix(start).split("/")[0] for file, _ in archive(name).files() if file.startswith(start)}

    assert {"numpy", "pandas"} <= packages("sandbox-data")
    assert not packages("sandbox")


def test_the_data_variant_brings_the_libraries_that_its_packages_load() -> None:
    names = {Path(name).name for name, _ in archive("sandbox-data").files()}
    assert {"libstdc++.so.6", "libgcc_s.so.1", "libpthread.so.0"} <= names

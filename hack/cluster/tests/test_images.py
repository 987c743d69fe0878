import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from hack.cluster import images
from hack.cluster.instance import Instance
from hack.cluster.shell import ClusterError


def archive_of(folder: Path) -> Path:
    program = folder / "program"
    program.write_bytes(b"\x7fELF")
    images.write_archive(folder / "image.tar", "localhost/one:dev", program, ["/one", "-x"])
    return folder / "image.tar"


def test_an_image_is_one_program_described_as_docker_save_does(tmp_path: Path) -> None:
    with tarfile.open(archive_of(tmp_path)) as tar:
        (manifest,) = json.load(tar.extractfile("manifest.json"))
        image = json.load(tar.extractfile(manifest["Config"]))
        layer = tar.extractfile(manifest["Layers"][0]).read()
    assert manifest["RepoTags"] == ["localhost/one:dev"]
    assert image["config"]["Entrypoint"] == ["/one", "-x"]
    assert image["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]


def test_the_same_program_makes_the_same_image(tmp_path: Path) -> None:
    first = archive_of(tmp_path).read_bytes()
    (tmp_path / "image.tar").unlink()
    with tarfile.open(archive_of(tmp_path)) as tar:
        (manifest,) = json.load(tar.extractfile("manifest.json"))
    assert manifest["Config"].encode() in first


def test_a_file_that_is_no_archive_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "notes.txt"
    wrong.write_text("not an archive")
    for path in (wrong, tmp_path / "absent.tar"):
        with pytest.raises(ClusterError, match=rf"{path} is no archive"):
            images.names(path)


def test_without_a_cluster_loading_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="make cluster-up"):
        images.load(Instance("nowhere"), [archive_of(tmp_path)])

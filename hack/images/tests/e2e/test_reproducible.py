"""Builds the sandbox's image twice, every step anew: `pytest hack/images/tests/e2e`. Needs root; takes a minute."""

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from hack.cluster.instance import CHECKOUT
from hack.images.builders import Buildah, choose
from hack.images.definitions import IMAGES, inputs

IMAGE = next(image for image in IMAGES if image.name == "sandbox")


def checkout(folder: Path, *, umask: str) -> Path:
    """What goes in, elsewhere, as somebody with that umask would have it."""
    for file in inputs(IMAGE, CHECKOUT):
        copy = folder / file.relative_to(CHECKOUT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    subprocess.run(["chmod", "-R", umask, folder], check=True)
    return folder


def content(builder: Buildah, root: Path, archive: Path) -> tuple[str, list[str]]:
    """The hashes of its configuration, which names those of its layers, and of its layers."""
    tag = "localhost/warmpool-test:reproducible"
    builder.build(IMAGE, tag, builder.base(print), root, anew=True)
    builder.save(tag, archive)
    with tarfile.open(archive) as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        (image,) = json.load(manifest)
    return image["Config"], image["Layers"]


@pytest.mark.timeout(600)
def test_neither_folder_nor_umask_nor_hour_changes_what_is_built(tmp_path: Path) -> None:
    builder = choose()
    if not isinstance(builder, Buildah):
        pytest.skip("Docker stamps its images with the hour")
    one = checkout(tmp_path / "one", umask="u=rwX,go=rX")
    two = checkout(tmp_path / "another" / "folder", umask="u=rwX,g=rwX,o=")
    assert content(builder, one, tmp_path / "one.tar") == content(builder, two, tmp_path / "two.tar")

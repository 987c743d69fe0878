"""The two images that the node itself needs, and the loading of others.

Each is one file, so it is written here as an archive of the form that `docker save` has: no builder is needed.
"""

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from hack.cluster import config
from hack.cluster.instance import Instance
from hack.cluster.shell import ClusterError, run

CATATONIT: Final = Path("/usr/bin/catatonit")
"""An init that sleeps: Debian's stand-in for the pause binary."""


def write_archive(into: Path, name: str, program: Path, entrypoint: Sequence[str]) -> None:
    """An image of one program, at entrypoint[0]."""
    layer = into.with_suffix(".layer")
    with tarfile.open(layer, "w") as tar:
        entry = tarfile.TarInfo(entrypoint[0].lstrip("/"))
        entry.size, entry.mode = program.stat().st_size, 0o755
        with program.open("rb") as content:
            tar.addfile(entry, content)
    with layer.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    image = json.dumps({
        "architecture": _architecture(), "os": "linux", "config": {"Entrypoint": list(entrypoint)},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }).encode()  # fmt: skip
    configuration = f"{hashlib.sha256(image).hexdigest()}.json"
    manifest = json.dumps([{"Config": configuration, "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(into, "w") as tar:
        tar.add(layer, "layer.tar")
        for member, content_bytes in ((configuration, image), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(member)
            entry.size = len(content_bytes)
            tar.addfile(entry, io.BytesIO(content_bytes))
    layer.unlink()


def load_own(instance: Instance, binaries: Path) -> None:
    folder = instance.state / "images"
    folder.mkdir(exist_ok=True)
    own = (
        (config.PAUSE_IMAGE, CATATONIT, ["/pause", "-P"]),
        (config.COREDNS_IMAGE, binaries / "coredns", ["/coredns"]),
    )
    for name, program, entrypoint in own:
        archive = folder / "image.tar"
        write_archive(archive, name, program, entrypoint)
        load(instance, [archive])
    shutil.rmtree(folder)


def load(instance: Instance, archives: Iterable[Path]) -> None:
    """Imports docker archives, so that pods with imagePullPolicy IfNotPresent find them.

    What is there under the same names already is left as it is: give a changed image a changed tag.
    """
    if not instance.containerd_socket.exists():
        raise ClusterError("there is no cluster to load images into: run make cluster-up")
    known = set(ctr(instance, "images", "list", "--quiet").split())
    for archive in archives:
        if not set(names(archive)) <= known:
            ctr(instance, "images", "import", archive, timeout=300)


def names(archive: Path) -> list[str]:
    try:
        with tarfile.open(archive) as tar:
            manifest = tar.extractfile("manifest.json")
            assert manifest is not None
            return [name for image in json.load(manifest) for name in image["RepoTags"] or []]
    except (OSError, KeyError, tarfile.TarError) as fault:
        raise ClusterError(f"{archive} is no archive of the form that `docker save` writes") from fault


def ctr(instance: Instance, *words: str | Path, timeout: float = 60.0) -> str:
    return run("ctr", "--address", instance.containerd_socket, "--namespace", "k8s.io", *words, timeout=timeout)


def _architecture() -> str:
    return run("dpkg", "--print-architecture").strip()

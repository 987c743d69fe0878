"""Who builds: Docker where its daemon answers, else buildah, which needs neither daemon nor registry.

buildah starts from a base made here by debootstrap, a stand-in for the Dockerfiles' default, unless BASE_IMAGE names another.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final

from hack.cluster.instance import CACHE
from hack.cluster.shell import missing_packages
from hack.images.definitions import Image

SUITE: Final = "bookworm"
PACKAGES: Final = "ca-certificates,python3,python3-pip"
CERTIFICATES: Final = ("/etc/ssl/certs", "/etc/pip.conf")
"""Of this machine, lent to a build: behind a company's proxy pip would trust nobody."""


class ImageError(Exception):
    """An image could not be built; the message ends with the builder's last words."""


class Builder(ABC):
    """Builds from the repository's root."""

    name: str

    @abstractmethod
    def base(self) -> str:
        """The base image's reference; its content decides, with the tree's, about the tags."""

    @abstractmethod
    def build(self, image: Image, tag: str, base: str, root: Path) -> None:
        """Raises ImageError."""

    @abstractmethod
    def save(self, tag: str, into: Path) -> None:
        """Writes a docker archive."""


class Docker(Builder):
    name = "docker"
    _DEFAULT = "docker.io/library/python:3.13-slim-bookworm"

    def base(self) -> str:
        return os.environ.get("BASE_IMAGE") or self._DEFAULT

    def build(self, image: Image, tag: str, base: str, root: Path) -> None:
        target = ["--target", image.target] if image.target else []
        arguments = ["--build-arg", f"BASE_IMAGE={base}", "--build-arg", "SOURCE_DATE_EPOCH=0"]
        _run("docker", "build", "--quiet", *target, *arguments, "-t", tag, "-f", image.dockerfile, ".", cwd=root)

    def save(self, tag: str, into: Path) -> None:
        _run("docker", "save", "--output", str(into), tag)


class Buildah(Builder):
    name = "buildah"

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise ImageError("buildah needs root here; or start a Docker daemon")
        _install("buildah", "debootstrap")
        store = CACHE / "images" / "storage"
        self._buildah = (
            "buildah",
            "--storage-driver",
            "overlay",
            "--root",
            str(store),
            "--runroot",
            "/run/warmpool-images",
        )

    def base(self) -> str:
        given = os.environ.get("BASE_IMAGE")
        if given:
            return given
        key = hashlib.sha256(f"{SUITE} {PACKAGES}".encode()).hexdigest()[:12]
        tag = f"localhost/warmpool-base:{key}"
        if not _succeeds(*self._buildah, "inspect", "--type", "image", tag):
            self._bootstrap(tag)
        return tag

    def _bootstrap(self, tag: str) -> None:
        with tempfile.TemporaryDirectory(prefix="warmpool-base-") as folder:
            root = Path(folder, "root")
            _run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root))
            _run("chroot", str(root), "apt-get", "clean")
            shutil.rmtree(root / "var/lib/apt/lists")
            archive = Path(folder, "root.tar")
            _run("tar", "-C", str(root), "--exclude=./dev/*", "--sort=name", "-cf", str(archive), ".")
            container = _run(*self._buildah, "from", "scratch").strip()
            _run(*self._buildah, "add", container, str(archive), "/")
            _run(*self._buildah, "commit", "--quiet", "--rm", "--timestamp", "0", container, tag)

    def build(self, image: Image, tag: str, base: str, root: Path) -> None:
        target = ["--target", image.target] if image.target else []
        lent = [word for path in CERTIFICATES if Path(path).exists() for word in ("-v", f"{path}:{path}:ro")]
        _run(
            *self._buildah, "build", "--quiet", "--layers", "--isolation", "chroot", "--timestamp", "0", *lent, *target,
            "--build-arg", f"BASE_IMAGE={base}", "-t", tag, "-f", image.dockerfile, ".", cwd=root,
        )  # fmt: skip

    def save(self, tag: str, into: Path) -> None:
        _run(*self._buildah, "push", "--quiet", tag, f"docker-archive:{into}:{tag}")


def choose() -> Builder:
    return Docker() if _succeeds("docker", "info") else Buildah()


def _install(*packages: str) -> None:
    missing = missing_packages(packages)
    if missing:
        if not shutil.which("apt-get"):
            raise ImageError(f"images are built with docker, or with the Debian packages {' '.join(packages)}")
        _run("apt-get", "update", "-qq")
        _run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing)


def _run(*command: str, cwd: Path | None = None) -> str:
    ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=_environment())
    if ended.returncode != 0:
        said = "\n  ".join((ended.stderr or ended.stdout).strip().splitlines()[-15:])
        raise ImageError(f"{' '.join(command[:2])} failed ({ended.returncode}):\n  {said}")
    return ended.stdout


def _environment() -> dict[str, str]:
    return {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "BUILDAH_FORMAT": "docker"}


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False

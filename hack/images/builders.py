"""Who builds: Docker where its daemon answers, else buildah, which needs neither daemon nor registry.

buildah starts from a base made here by debootstrap, a stand-in for the Dockerfiles' default, unless BASE_IMAGE names
another.
"""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hack.cluster.instance import CACHE
from hack.cluster.shell import missing_packages
from hack.images.definitions import Image

DEFAULT_BASE: Final = "docker.io/library/python:3.13-slim-bookworm"

SUITE: Final = "bookworm"
PACKAGES: Final = "ca-certificates,python3,python3-pip"
LEFT_OUT: Final = ("./dev/*", "./etc/machine-id", "./var/cache/*", "./var/lib/apt/lists/*", "./var/log/*")
"""Of the stand-in: differs from one machine to the next, or weighs for nothing."""

LENT: Final = ("/etc/ssl/certs", "/etc/pip.conf")
"""Of this machine, to each build step: behind a company's proxy pip would trust nobody."""

STORED: Final = 200
"""Images and layers of earlier builds that buildah may reuse, 20 MB each on average; past it all go but the base."""

VERBS: Final = ("build", "from", "add", "push", "commit", "install", "update")
"""Of the builders' commands, to name the one that failed."""


class ImageError(Exception):
    """An image could not be built; the message ends with the builder's last words."""


class Builder(ABC):
    """Builds from the repository's root."""

    @abstractmethod
    def base(self, say: Callable[[str], None]) -> str:
        """The base image's reference, which decides with the tree's content about the tags."""

    @abstractmethod
    def build(self, image: Image, tag: str, base: str, root: Path, *, anew: bool) -> None:
        """Raises ImageError. `anew` takes no step from an earlier build."""

    @abstractmethod
    def save(self, tag: str, into: Path) -> None:
        """Writes an archive of the form that `docker save` has."""

    @abstractmethod
    def tidy(self) -> None:
        """Bounds what builds leave behind."""


class Docker(Builder):
    def base(self, say: Callable[[str], None]) -> str:
        return os.environ.get("BASE_IMAGE") or DEFAULT_BASE

    def build(self, image: Image, tag: str, base: str, root: Path, *, anew: bool) -> None:
        arguments = [*_target(image), *(["--no-cache"] if anew else []), "--build-arg", "SOURCE_DATE_EPOCH=0"]
        arguments += ["--build-arg", f"BASE_IMAGE={base}"]
        _run("docker", "build", "--quiet", *arguments, "-t", tag, "-f", image.dockerfile, ".", cwd=root)

    def save(self, tag: str, into: Path) -> None:
        _run("docker", "save", "--output", str(into), tag)

    def tidy(self) -> None:
        """Docker prunes on its user's word."""


class Buildah(Builder):
    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise ImageError("no Docker daemon answers, and buildah, which needs none, needs root here")
        _install("buildah", "debootstrap", "netavark")  # buildah only recommends netavark and will not start without
        store = ("--root", str(CACHE / "images" / "storage"), "--runroot", "/run/warmpool-images")
        self._buildah = ("buildah", "--storage-driver", "overlay", *store)

    def base(self, say: Callable[[str], None]) -> str:
        given = os.environ.get("BASE_IMAGE")
        if given:
            return given
        tag = _stand_in()
        if not _succeeds(*self._buildah, "inspect", "--type", "image", tag):
            say("the base, by debootstrap: two minutes, once")
            self._bootstrap(tag)
        return tag

    def _bootstrap(self, tag: str) -> None:
        with tempfile.TemporaryDirectory(prefix="warmpool-base-") as folder:
            root, archive = Path(folder, "root"), Path(folder, "root.tar")
            _run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root), *_mirror())
            left_out = [f"--exclude={pattern}" for pattern in LEFT_OUT]
            _run("tar", "-C", str(root), *left_out, "--sort=name", "--numeric-owner", "-cf", str(archive), ".")
            container = _run(*self._buildah, "from", "scratch").strip()
            _run(*self._buildah, "add", container, str(archive), "/")
            _run(*self._buildah, "commit", "--quiet", "--rm", "--timestamp", "0", container, tag)

    def build(self, image: Image, tag: str, base: str, root: Path, *, anew: bool) -> None:
        lent = [word for path in LENT if Path(path).exists() for word in ("-v", f"{path}:{path}:ro")]
        _run(
            *self._buildah, "build", "--quiet", "--isolation", "chroot", "--timestamp", "0",
            "--no-cache" if anew else "--layers", *lent, *_target(image),
            "--build-arg", f"BASE_IMAGE={base}", "-t", tag, "-f", image.dockerfile, ".", cwd=root,
        )  # fmt: skip

    def save(self, tag: str, into: Path) -> None:
        _run(*self._buildah, "push", "--quiet", tag, f"docker-archive:{into}:{tag}")

    def tidy(self) -> None:
        images = json.loads(_run(*self._buildah, "images", "--all", "--json"))
        if len(images) > STORED:
            others = {image["id"] for image in images if _stand_in() not in (image["names"] or [])}
            _run(*self._buildah, "rmi", "--force", *others)


def choose() -> Builder:
    return Docker() if _succeeds("docker", "info") else Buildah()


def _stand_in() -> str:
    recipe = json.dumps([SUITE, PACKAGES, LEFT_OUT])
    return f"localhost/warmpool-base:{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def _mirror() -> list[str]:
    """The one that this machine's own packages come from, for debootstrap; nothing leaves it to its default."""
    sources = _run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages")
    listed = (line.split() for line in sources.splitlines())
    return next(([uri] for uri, release, component in listed if (release, component) == (SUITE, "main")), [])


def _target(image: Image) -> list[str]:
    return ["--target", image.target] if image.target else []


def _install(*packages: str) -> None:
    missing = missing_packages(packages)
    if missing:
        _run("apt-get", "update", "-qq")
        _run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing)


def _run(*command: str, cwd: Path | None = None) -> str:
    ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=_environment())
    if ended.returncode != 0:
        said = "\n  ".join((ended.stderr or ended.stdout).strip().splitlines()[-15:])
        verb = next((word for word in command if word in VERBS), "")
        raise ImageError(f"{command[0]} {verb} failed ({ended.returncode}):\n  {said}")
    return ended.stdout


def _environment() -> dict[str, str]:
    """With the system's tools where `su` left them out of PATH."""
    return {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}


def _succeeds(*command: str) -> bool:
    return shutil.which(command[0]) is not None and (
        subprocess.run(command, capture_output=True, check=False).returncode == 0
    )

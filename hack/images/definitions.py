"""Which images there are, and from their Dockerfiles what goes into each: that is what its tag is made of."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Image:
    """One Dockerfile, or one target of it."""

    name: str
    dockerfile: str
    target: str | None = None

    @property
    def repository(self) -> str:
        return f"localhost/warmpool-{self.name}"


IMAGES: Final = (
    Image("operator", "operator/Dockerfile"),
    Image("gateway", "gateway/Dockerfile"),
    Image("servers", "servers/Dockerfile"),
    Image("stores", "core/Dockerfile"),
    Image("sandbox", "sandbox-image/Dockerfile", "sandbox"),
    Image("sandbox-data", "sandbox-image/Dockerfile", "data"),
)


def key(image: Image, root: Path, base: str) -> str:
    """12 hex digits of all that goes in: Dockerfile, target, base, and every file that it copies."""
    digest = hashlib.sha256(f"{image.target}\0{base}\0".encode())
    for file in inputs(image, root):
        digest.update(f"{file.relative_to(root)}\0{file.stat().st_mode & 0o111:o}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]


def inputs(image: Image, root: Path) -> list[Path]:
    """The Dockerfile, what is not ignored, and the files that it copies from the tree."""
    dockerfile = root / image.dockerfile
    copied = {file for source in _sources(dockerfile.read_text()) for file in _files(root / source)}
    return sorted({dockerfile, root / ".dockerignore", *copied})


def _sources(dockerfile: str) -> Iterator[str]:
    for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.MULTILINE):
        yield from line.split()[:-1]


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: a Dockerfile copies it, and it is not there")
    for file in path.rglob("*"):
        within = file.relative_to(path).parts
        if file.is_file() and "__pycache__" not in within and within[0] != "tests":
            yield file

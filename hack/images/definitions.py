"""Which images there are, and from their Dockerfiles what goes into each: that is what its tag is made of."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Image:
    """One target of a Dockerfile."""

    name: str
    dockerfile: str
    target: str | None = None
    """None: the last stage."""

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

IGNORED: Final = frozenset({"__pycache__", "tests", "Dockerfile"})
"""File and folder names that .dockerignore keeps from the builder."""


def key(image: Image, root: Path, base: str) -> str:
    """12 hex digits of all that goes in: the Dockerfile, the target, the base, and every file that is copied."""
    digest = hashlib.sha256(f"{image.target}\0{base}\0".encode())
    for file in inputs(image, root):
        executable = bool(file.stat().st_mode & 0o100)
        digest.update(f"{file.relative_to(root)}\0{executable}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]


def inputs(image: Image, root: Path) -> list[Path]:
    """The Dockerfile, and the files of the tree that the stages below the target copy."""
    dockerfile = root / image.dockerfile
    stages = _stages(dockerfile.read_text())
    copied = {
        file
        for stage in _needed(stages, image.target or list(stages)[-1])
        for source in stages[stage].sources
        for file in _files(root / source)
    }
    return sorted({dockerfile, root / ".dockerignore", *copied})


@dataclass
class _Stage:
    """What it copies from the tree, and the names that it begins from or copies from: stages and images."""

    sources: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def _stages(dockerfile: str) -> dict[str, _Stage]:
    """By name, or by number where there is none, in order."""
    stages: dict[str, _Stage] = {}
    for line in dockerfile.splitlines():
        match line.split():
            case ["FROM", origin, *rest]:
                name = rest[-1] if rest else str(len(stages))
                stages[name] = _Stage(others=[origin])
            case ["COPY", first, *_] if first.startswith("--from="):
                stages[next(reversed(stages))].others.append(first.removeprefix("--from="))
            case ["COPY", *sources, _]:
                stages[next(reversed(stages))].sources += sources
    return stages


def _needed(stages: dict[str, _Stage], target: str) -> set[str]:
    found: set[str] = set()
    waiting = [target]
    while waiting:
        name = waiting.pop()
        if name in stages and name not in found:
            found.add(name)
            waiting += stages[name].others
    return found


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: a Dockerfile copies it, and it is not there")
    for file in path.rglob("*"):
        if file.is_file() and IGNORED.isdisjoint(file.relative_to(path).parts):
            yield file

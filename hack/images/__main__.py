"""`python -m hack.images`: builds the images whose inputs changed and writes their references to .cache/images.json."""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from hack.cluster.instance import CACHE, CHECKOUT
from hack.cluster.shell import ClusterError, locked
from hack.images.builders import Builder, ImageError, choose
from hack.images.definitions import IMAGES, Image, key

ARCHIVES = CACHE / "images" / "archives"
OUT = CHECKOUT / ".cache" / "images"
KEPT = 4
"""Archives of one image: of the checkouts that one works in at a time."""

console = Console(stderr=True, highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="hack.images", description=__doc__)
    names = [image.name for image in IMAGES]
    parser.add_argument("image", nargs="*", metavar="IMAGE", help=f"of {', '.join(names)}; default: all")
    parser.add_argument("--anew", action="store_true", help="build even what has not changed, every step of it")
    options = parser.parse_args(arguments)
    unknown = set(options.image) - set(names)
    if unknown:
        parser.error(f"no image {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    wanted = [image for image in IMAGES if not options.image or image.name in options.image]
    try:
        ARCHIVES.mkdir(parents=True, exist_ok=True)
        with locked(ARCHIVES):
            references = _build(wanted, anew=options.anew)
    except (ImageError, ClusterError, OSError) as fault:
        sys.stderr.write(f"images: {fault}\n")
        return 1
    _hand_over(references)
    return 0


def _build(images: Sequence[Image], *, anew: bool) -> dict[str, str]:
    builder = choose()
    base = builder.base(lambda what: console.print(f"images: {what}"))
    tags = {image: f"{image.repository}:{key(image, CHECKOUT, base)}" for image in images}
    changed = [image for image, tag in tags.items() if anew or not _archive(tag).exists()]
    for number, image in enumerate(changed, start=1):
        with _shown(f"images: {image.name}, {number} of {len(changed)}"):
            _one(builder, image, tags[image], base, anew=anew)
    if changed:
        builder.tidy()
    return {image.name: tag for image, tag in tags.items()}


def _one(builder: Builder, image: Image, tag: str, base: str, *, anew: bool) -> None:
    began = time.monotonic()
    try:
        builder.build(image, tag, base, CHECKOUT, anew=anew)
    except ImageError as fault:
        raise ImageError(f"{image.dockerfile}: {fault}") from fault
    archive = _archive(tag)
    partial = archive.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    builder.save(tag, partial)
    partial.rename(archive)
    size = archive.stat().st_size / 1e6
    console.print(f"images: {tag} [dim]{time.monotonic() - began:.0f} s, {size:.0f} MB with its base[/dim]")
    of_this = sorted(ARCHIVES.glob(f"{image.name}@*.tar"), key=lambda file: file.stat().st_mtime)
    for old in of_this[:-KEPT]:
        old.unlink()


@contextmanager
def _shown(what: str) -> Iterator[None]:
    """A spinner with these words, or without a terminal a line of them."""
    if console.is_terminal:
        with console.status(what):
            yield
    else:
        console.print(what)
        yield


def _archive(tag: str) -> Path:
    name, _, digest = tag.removeprefix("localhost/warmpool-").partition(":")
    return ARCHIVES / f"{name}@{digest}.tar"


def _hand_over(references: dict[str, str]) -> None:
    """Puts references and archives where this checkout looks for them."""
    OUT.mkdir(parents=True, exist_ok=True)
    for name, tag in references.items():
        _archive(tag).touch()  # in use: the last to be removed
        link = OUT / f"{name}.tar"
        link.unlink(missing_ok=True)
        link.symlink_to(_archive(tag))
    listed = OUT.with_suffix(".json")
    known = json.loads(listed.read_text()) if listed.exists() else {}
    listed.write_text(json.dumps(known | references, indent=2) + "\n")
    sys.stdout.write(f"{listed}\n")


if __name__ == "__main__":
    sys.exit(main())

"""Lays out a root file system that holds a Python, its standard library, and nothing else that could be run.

Run in the image's build stage: `python3 rootfs.py /rootfs`. Takes the interpreter it runs on.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

LEFT_OUT = (
    "__pycache__", "test", "tests", "idlelib", "tkinter", "turtledemo", "turtle.py", "ensurepip", "lib2to3",
    "distutils", "pydoc_data", "venv", "site-packages", "dist-packages", "config-*", "_tkinter*", "_test*",
    "_ctypes_test*", "_xxtest*", "*.a",
)  # fmt: skip
"""Tools for developers, windows, tests: nothing that a program which computes would import."""

DATA = ("/usr/share/zoneinfo", "/usr/lib/locale/C.utf8", "/etc/ld.so.conf", "/etc/ld.so.conf.d")
LINKS = ("/bin", "/lib", "/lib64", "/sbin")
"""On a merged /usr; they are part of the paths by which programs name their loader."""


def main(root: Path) -> None:
    interpreter = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    for link in map(Path, LINKS):
        if link.is_symlink():
            _place(root, link).symlink_to(link.readlink())
    shutil.copytree(library, _place(root, library), ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=False)
    _copy(root, interpreter)
    python = root / "usr/bin/python3"
    if not python.exists():
        python.parent.mkdir(parents=True, exist_ok=True)
        python.symlink_to(interpreter)
    for needed in _libraries([interpreter, *_extensions(library)]):
        _copy(root, needed)
    for path in map(Path, DATA):
        if path.is_dir():
            shutil.copytree(path, _place(root, path), ignore=shutil.ignore_patterns("posix", "right"), symlinks=True)
        elif path.exists():
            _copy(root, path)
    for folder in ("tmp", "scratch", "tools", "proc", "sys", "dev"):
        (root / folder).mkdir(exist_ok=True)
    subprocess.run(["/sbin/ldconfig", "-r", root], check=True)
    shutil.rmtree(root / "var", ignore_errors=True)


def _extensions(library: Path) -> Iterator[Path]:
    for path in library.rglob("*.so"):
        if not any(re.match(pattern.replace("*", ".*"), path.name) for pattern in LEFT_OUT):
            yield path


def _libraries(binaries: list[Path]) -> set[Path]:
    """What the loader would load for them, the loader itself included."""
    said = subprocess.run(["/usr/bin/ldd", *binaries], capture_output=True, text=True, check=True).stdout
    return {Path(name) for name in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", said, re.MULTILINE)}


def _copy(root: Path, file: Path) -> None:
    """The file where its real name says, and a link under the name that it was asked for by."""
    real = file.resolve()
    target = _place(root, real)
    if not target.exists():
        shutil.copyfile(real, target)
        target.chmod(0o755 if os.access(real, os.X_OK) else 0o644)
    asked = _place(root, file.parent.resolve() / file.name)
    if not asked.exists():
        asked.symlink_to(real)


def _place(root: Path, path: Path) -> Path:
    target = root / path.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""The scratch folder: emptied of whatever a program can make, and measured."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.unprivileged import can_mount

from warmpool_sandbox.scratch import Scratch

DEPTH = 3000


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is room: thousands of folders on a disk take seconds."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else tmp_path) as path:
        yield Path(path)


@pytest.fixture
def folder(place: Path) -> Path:
    path = place / "scratch"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def scratch(folder: Path) -> Iterator[Scratch]:
    made = Scratch(folder)
    yield made
    if not folder.is_symlink():
        made.wipe()  # pytest could not remove the deep ones


@pytest.fixture
def outside(place: Path) -> Iterator[Path]:
    """A folder beside the scratch folder, which must stay as it is."""
    path = place / "outside"
    path.mkdir()
    (path / "kept").write_text("kept")
    yield path
    assert os.listdir(path) == ["kept"]
    assert (path / "kept").read_text() == "kept"


def dig(folder: Path, depth: int, name: str = "d") -> None:
    """Folders in folders, deeper than any path can name."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("leaf", os.O_CREAT, dir_fd=here))
    os.close(here)


def modes(folder: Path) -> None:
    closed = folder / "closed" / "inner"
    closed.mkdir(parents=True)
    (closed / "file").write_text("x")
    (closed / "file").chmod(0)
    closed.chmod(0)
    closed.parent.chmod(0)
    folder.chmod(0)


def odd_names(folder: Path) -> None:
    names = [b"\xff\xfe", b"a\nb", b" ", b"-rf", b"*", "é".encode(), b"n" * 255, b".hidden", b"..."]
    for name in names:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_text("x")
    os.mkdir(os.fsencode(folder) + b"/dir\xff\n")
    Path(os.fsdecode(os.fsencode(folder) + b"/dir\xff\n/x\xfe")).write_text("x")


def names_of_the_wipe_itself(folder: Path) -> None:
    for number in range(1, 6):
        (folder / f".wipe-{number}").mkdir()
        (folder / f".wipe-{number}" / f".wipe-{number + 1}" / "deep").mkdir(parents=True)
    (folder / ".wipe-6").write_text("a file")


def many_files(folder: Path) -> None:
    for number in range(2000):
        (folder / str(number)).touch()


def special_files(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(folder)  # a socket's path must be short
        try:
            listener.bind("socket")
        finally:
            os.chdir(here)
    (folder / "linked").write_text("x")
    os.link(folder / "linked", folder / "again")
    os.symlink("nowhere", folder / "dangling")
    os.symlink("loop", folder / "loop")


def wide_and_deep(folder: Path) -> None:
    for number in range(30):
        dig(folder, 20, f"d{number}")


KINDS: list[Callable[[Path], None]] = [
    modes,
    odd_names,
    names_of_the_wipe_itself,
    many_files,
    special_files,
    wide_and_deep,
]


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_whatever_a_program_makes_is_wiped(scratch: Scratch, folder: Path, make: Callable[[Path], None]):
    make(folder)
    scratch.wipe()
    assert scratch.is_empty()
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_tree_deeper_than_any_path_can_name_is_wiped(scratch: Scratch, folder: Path):
    dig(folder, DEPTH)
    assert sys.getrecursionlimit() < DEPTH
    scratch.wipe()
    assert scratch.is_empty()


def test_wiping_an_empty_folder_is_fine(scratch: Scratch):
    scratch.wipe()
    assert scratch.is_empty()


def test_links_out_of_the_folder_are_removed_and_not_followed(scratch: Scratch, folder: Path, outside: Path):
    (folder / "to_folder").symlink_to(outside)
    (folder / "to_file").symlink_to(outside / "kept")
    (folder / "inner").mkdir()
    (folder / "inner" / "up").symlink_to("../../outside")
    scratch.wipe()
    assert scratch.is_empty()


def test_a_scratch_folder_that_is_a_link_is_refused(scratch: Scratch, folder: Path, outside: Path):
    folder.rmdir()
    folder.symlink_to(outside)
    with pytest.raises(OSError, match="scratch"):
        scratch.wipe()


def test_a_file_makes_the_folder_not_empty(scratch: Scratch, folder: Path):
    (folder / ".hidden").touch()
    assert not scratch.is_empty()


# -- usage


def test_usage_counts_bytes_and_inodes_of_the_whole_tree(scratch: Scratch, folder: Path):
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "file").write_bytes(bytes(100_000))
    usage = scratch.usage(100)
    assert usage.inodes == 3
    assert 100_000 <= usage.bytes < 130_000


def test_usage_of_an_empty_folder_is_nothing(scratch: Scratch):
    assert (scratch.usage(100).bytes, scratch.usage(100).inodes) == (0, 0)


def test_a_file_of_holes_counts_what_it_takes_and_not_what_it_says(scratch: Scratch, folder: Path):
    with (folder / "holes").open("wb") as file:
        file.truncate(1 << 30)
    assert scratch.usage(100).bytes < 100_000


def test_usage_follows_no_link(scratch: Scratch, folder: Path, outside: Path):
    (folder / "link").symlink_to(outside)
    assert scratch.usage(100).inodes == 1


def test_counting_stops_soon_above_the_limit(scratch: Scratch, folder: Path):
    for number in range(10):
        (folder / str(number)).mkdir()
        for inner in range(20):
            (folder / str(number) / str(inner)).touch()
    assert 50 < scratch.usage(50).inodes < 100


def test_what_is_too_deep_to_be_counted_is_over_the_limit(scratch: Scratch, folder: Path):
    dig(folder, 25, "n" * 200)
    assert scratch.usage(10_000).inodes > 10_000


LEFT_BY_ANOTHER_LIFE = """
import sys
from pathlib import Path
from warmpool_sandbox.scratch import Scratch
folder = Path(sys.argv[1])
(folder / "left").write_bytes(bytes(1 << 20))
scratch = Scratch(folder)
scratch.wipe()
(folder / "new").write_bytes(bytes(1 << 20))
print(scratch.usage(10).bytes >> 20)
"""


@pytest.mark.skipif(not can_mount(), reason="no right to mount, which a file system of its own for scratch needs")
def test_what_an_earlier_life_left_on_its_file_system_is_not_the_next_ones_to_use(folder: Path) -> None:
    script = 'mount -t tmpfs -o size=8m none "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh"]
    ran = subprocess.run(
        [*command, str(folder), sys.executable, LEFT_BY_ANOTHER_LIFE],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        timeout=30,
        check=True,
    )
    assert ran.stdout == b"1\n"

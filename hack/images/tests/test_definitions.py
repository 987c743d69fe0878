from pathlib import Path

import pytest

from hack.cluster.instance import CHECKOUT
from hack.images.definitions import IGNORED, IMAGES, Image, inputs, key

BASE = "localhost/base:1"
DOCKERFILE = """\
ARG BASE_IMAGE=somewhere/python:3

FROM ${BASE_IMAGE} AS packages
COPY lock.txt /build/

FROM ${BASE_IMAGE} AS code
COPY code LICENSE /opt/

FROM scratch AS plain
COPY --from=code /opt /opt

FROM plain AS rich
COPY --from=packages /packages /packages

FROM plain
"""

PLAIN, RICH = Image("plain", "Dockerfile", "plain"), Image("rich", "Dockerfile", "rich")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {
        "Dockerfile": DOCKERFILE, ".dockerignore": "*\n", "lock.txt": "one==1\n", "LICENSE": "free", "README": "read",
        "code/main.py": "pass", "code/sql/select.sql": "SELECT 1", "code/tests/test_main.py": "pass",
        "code/__pycache__/main.pyc": "bytecode",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("changed", ["Dockerfile", ".dockerignore", "LICENSE", "code/main.py", "code/sql/select.sql"])
def test_a_changed_input_changes_the_key(tree: Path, changed: str) -> None:
    before = key(PLAIN, tree, BASE)
    (tree / changed).write_text((tree / changed).read_text() + "\n# changed\n")
    assert key(PLAIN, tree, BASE) != before


@pytest.mark.parametrize("changed", ["README", "code/tests/test_main.py", "code/__pycache__/main.pyc"])
def test_what_does_not_go_in_does_not_change_the_key(tree: Path, changed: str) -> None:
    before = key(PLAIN, tree, BASE)
    (tree / changed).write_text("changed")
    assert key(PLAIN, tree, BASE) == before


def test_a_file_that_is_added_renamed_or_made_executable_changes_the_key(tree: Path) -> None:
    keys = [key(PLAIN, tree, BASE)]
    (tree / "code/more.py").write_text("pass")
    keys.append(key(PLAIN, tree, BASE))
    (tree / "code/more.py").rename(tree / "code/other.py")
    keys.append(key(PLAIN, tree, BASE))
    (tree / "code/other.py").chmod(0o755)
    keys.append(key(PLAIN, tree, BASE))
    assert len(set(keys)) == 4


def test_the_base_and_the_target_change_the_key(tree: Path) -> None:
    assert len({key(PLAIN, tree, BASE), key(PLAIN, tree, "localhost/base:2"), key(RICH, tree, BASE)}) == 3


def test_neither_place_nor_umask_nor_time_changes_the_key(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    moved = tmp_path_factory.mktemp("elsewhere") / "tree"
    before = key(PLAIN, tree, BASE)
    tree.rename(moved)
    for file in moved.rglob("*.py"):
        file.chmod(0o600)
    assert key(PLAIN, moved, BASE) == before


def test_a_target_goes_by_what_its_own_stages_copy(tree: Path) -> None:
    lock = tree / "lock.txt"
    assert lock in inputs(RICH, tree)
    assert lock not in inputs(PLAIN, tree)
    assert lock not in inputs(Image("last", "Dockerfile"), tree)


def test_a_file_that_a_dockerfile_copies_and_is_not_there_is_named(tree: Path) -> None:
    (tree / "LICENSE").unlink()
    with pytest.raises(FileNotFoundError, match="LICENSE"):
        key(PLAIN, tree, BASE)


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_each_image_of_this_tree_has_its_inputs_and_nothing_private(image: Image) -> None:
    files = {str(file.relative_to(CHECKOUT)) for file in inputs(image, CHECKOUT)}
    assert image.dockerfile in files
    assert any(name.startswith(("core/src/", "requirements/")) for name in files)
    assert not any("/tests/" in name or "__pycache__" in name for name in files)


def test_what_is_ignored_here_is_what_the_builder_ignores() -> None:
    listed = (CHECKOUT / ".dockerignore").read_text().splitlines()
    ignored = {line.rpartition("/")[2] for line in listed if not line.startswith(("#", "!"))} - {"*"}
    assert ignored == IGNORED

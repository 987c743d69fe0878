import textwrap
from pathlib import Path

import pytest

from hack.cluster import binaries
from hack.cluster.binaries import KUBERNETES, KWOK
from hack.cluster.shell import ClusterError

GO = """\
    #!/bin/sh
    # Stands in for Go: notes each call, and makes an empty file for each package that it is given.
    echo "$1" >> "{calls}"
    case "$1" in
      env) echo go1.99.0 ;;
      list) echo one; echo two ;;
      build)
        while [ "$1" != -o ]; do shift; done
        out=$2; shift 2; mkdir -p "$out"
        for package; do
          echo "$package" >&2
          name=$(echo "$package" | sed -E 's:/v[0-9]+$::; s:.*/::')
          [ "$name" = "{refused}" ] && exit 1
          touch "$out/$name"
        done ;;
    esac
"""


class Go:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._calls = folder / "calls"
        self.fails_at("")

    def fails_at(self, refused: str) -> None:
        program = self._folder / "go"
        program.write_text(textwrap.dedent(GO.format(calls=self._calls, refused=refused)))
        program.chmod(0o755)

    def builds(self) -> int:
        return self._calls.read_text().split().count("build")


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Go:
    folder = tmp_path / "go"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setattr(binaries, "CACHE", tmp_path / "cache")
    return Go(folder)


def test_the_binaries_are_built_once(go: Go) -> None:
    built = KUBERNETES.ensure()
    assert {path.name for path in built.iterdir()} == KUBERNETES.tools().keys()
    assert KUBERNETES.ensure() == built
    assert go.builds() == 1


def test_a_build_that_failed_says_why_and_leaves_nothing_that_looks_built(go: Go) -> None:
    go.fails_at("kubelet")
    with pytest.raises(ClusterError, match="kubelet"):
        KUBERNETES.ensure()
    assert list(KUBERNETES.folder().parent.iterdir()) == []
    go.fails_at("")
    assert (KUBERNETES.ensure() / "kubelet").exists()


def test_a_build_that_was_killed_is_swept_away_by_the_next(go: Go) -> None:
    killed = KUBERNETES.folder().parent / "build-killed" / "bin"
    killed.mkdir(parents=True)
    assert [path.name for path in KUBERNETES.ensure().parent.iterdir()] == ["bin"]


def test_a_machine_without_go_is_told_which_version_to_get(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries.shutil, "which", lambda *_, **__: None)
    with pytest.raises(ClusterError, match=r"go is not installed.*Go 1\.25 or newer.*go\.dev"):
        KUBERNETES.go()


def test_a_go_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries.shutil, "which", lambda *_, **__: "/usr/bin/go")
    monkeypatch.setattr(binaries, "run", lambda *_: "go1.19.8\n")
    with pytest.raises(ClusterError, match=r"go1\.19\.8.*Go 1\.25 or newer"):
        KUBERNETES.go()


def test_the_key_follows_the_version_of_go() -> None:
    assert KUBERNETES.key("go1.25.0") != KUBERNETES.key("go1.25.1")


def test_etcd_is_named_as_people_know_it() -> None:
    assert KUBERNETES.tools()["etcd"] == "go.etcd.io/etcd/server/v3"


def test_versions_are_told_to_the_binaries_that_ask_for_them() -> None:
    flags = KUBERNETES.link_flags()
    assert f"gitVersion={KUBERNETES.version('k8s.io/kubernetes')}" in flags
    assert f"internal/version.version={KUBERNETES.version('helm.sh/helm/v3')}" in flags


def test_kwok_is_built_by_itself_and_only_where_it_is_asked_for(go: Go) -> None:
    cluster = KUBERNETES.ensure()
    assert not (cluster / "kwok").exists()
    assert [path.name for path in KWOK.ensure().iterdir()] == ["kwok"]
    assert KWOK.folder() != cluster

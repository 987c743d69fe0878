"""Binaries built from Go modules, Kubernetes' own and kwok, kept in the user's cache by what they were built from."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from hack.cluster.instance import CACHE
from hack.cluster.shell import ClusterError, locked, run

HERE: Final = Path(__file__).parent
LINE_SECONDS: Final = 15.0
"""Between two lines of progress where no terminal shows a bar."""
POLL_SECONDS: Final = 0.5

console = Console(stderr=True, highlight=False)


class Module:
    """A folder with a go.mod and no source: the tool block says what is built, the rest in which versions."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._folder = folder

    def tools(self) -> dict[str, str]:
        """Binary → package."""
        block = re.search(r"^tool (?:\((.*?)^\)|(\S+)$)", self._text(), re.DOTALL | re.MULTILINE)
        assert block is not None
        return {_binary(package): package for package in (block[1] or block[2]).split()}

    def version(self, module: str) -> str:
        """The version that go.mod requires, as `v1.2.3`."""
        found = re.search(rf"^\t{re.escape(module)} (v\S+)", self._text(), re.MULTILINE)
        assert found is not None
        return found[1]

    def link_flags(self) -> str:
        return ""

    def go(self) -> tuple[Path, str]:
        """The Go command and its version. Raises ClusterError where it is absent or too old for go.mod."""
        needed = re.search(r"^go (\d+\.\d+)", self._text(), re.MULTILINE)
        assert needed is not None
        remedy = (
            f"{self.name} is built from source and needs Go {needed[1]} or newer on PATH: https://go.dev/doc/install"
        )
        program = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
        if program is None:
            raise ClusterError(f"go is not installed. {remedy}")
        there = run(program, "env", "GOVERSION").strip()
        if _numbers(there) < _numbers(needed[1]):
            raise ClusterError(f"{program} is {there}. {remedy}")
        return Path(program), there

    def key(self, go_version: str) -> str:
        """Of everything that the binaries depend on."""
        parts = [(self._folder / name).read_bytes() for name in ("go.mod", "go.sum")]
        parts += [go_version.encode(), self.link_flags().encode()]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]

    def folder(self) -> Path:
        """Where the binaries are, or would be: below a folder named by what they are built from."""
        _, there = self.go()
        return CACHE / "cluster" / self.key(there) / "bin"

    def ensure(self) -> Path:
        """That folder, with the binaries in it, which takes minutes where they are not there yet."""
        program, _ = self.go()
        built = self.folder()
        built.parent.mkdir(parents=True, exist_ok=True)
        with locked(built.parent):
            if not all((built / name).is_file() for name in self.tools()):
                self._build(program, built)
        return built

    def _text(self) -> str:
        return (self._folder / "go.mod").read_text()

    def _build(self, program: Path, into: Path) -> None:
        for given_up in into.parent.glob("build-*"):
            shutil.rmtree(given_up)
        with tempfile.TemporaryDirectory(dir=into.parent, prefix="build-") as partial:
            out = Path(partial, "bin")
            environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local"}
            tools = self.tools()
            console.print(f"cluster: building {', '.join(tools)} from Go modules: minutes, once")
            flags = ["-trimpath", "-v", "-ldflags", self.link_flags()]
            total = self._packages(program, environment)
            _show([str(program), "build", *flags, "-o", f"{out}/", *tools.values()], self._folder, environment, total)
            for name, package in tools.items():
                made = out / _folder_name(package)  # as Go names it
                if not made.is_file():
                    raise ClusterError(f"go build made no {name}")
                made.rename(out / name)
            shutil.rmtree(into, ignore_errors=True)
            out.rename(into)

    def _packages(self, program: Path, environment: dict[str, str]) -> int:
        """How many packages there are to compile, at most."""
        console.print("cluster: fetching modules")
        listed = subprocess.run(
            [program, "list", "-deps", *self.tools().values()],
            cwd=self._folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if listed.returncode != 0:
            raise ClusterError(f"go list failed: is the module proxy within reach?\n{listed.stderr.strip()[-2000:]}")
        return len(listed.stdout.split())


class _Kubernetes(Module):
    def link_flags(self) -> str:
        """Without their versions kubeadm and helm misjudge the server's."""
        kubernetes = self.version("k8s.io/kubernetes")
        major, minor, _ = kubernetes.lstrip("v").split(".")
        said = {
            "gitVersion": kubernetes, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean",
            "gitCommit": "0000000", "buildDate": "1970-01-01T00:00:00Z",
        }  # fmt: skip
        flags = [f"-X k8s.io/component-base/version.{name}={value}" for name, value in said.items()]
        return " ".join([*flags, f"-X helm.sh/helm/v3/internal/version.version={self.version('helm.sh/helm/v3')}"])


KUBERNETES: Final = _Kubernetes("Kubernetes", HERE)
"""What the cluster runs: 12 minutes of 2 cores."""
KWOK: Final = Module("kwok", HERE / "kwok")
"""Plays nodes and their pods, for measurements: 3 minutes. It does not compile in one module with Kubernetes' own."""


def _binary(package: str) -> str:
    name = _folder_name(package)
    return "etcd" if name == "server" else name


def _folder_name(package: str) -> str:
    return re.sub(r"/v\d+$", "", package).rpartition("/")[2]


def _show(command: list[str], folder: Path, environment: dict[str, str], total: int) -> None:
    """Runs `go build -v`, which names each package that it compiles; shows how far it is."""
    said: list[str] = []
    with subprocess.Popen(
        command, cwd=folder, env=environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    ) as child, _progress(total) as advance:  # fmt: skip
        assert child.stderr is not None
        reader = Thread(target=lambda lines: said.extend(lines), args=(child.stderr,), daemon=True)
        reader.start()
        while reader.is_alive():
            reader.join(POLL_SECONDS)  # by the clock, not by the line: linking takes a minute and says nothing
            advance(len(said))
    if child.returncode != 0:
        raise ClusterError("go build failed:\n  " + "  ".join(said[-20:]))


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, else a line now and then."""
    if console.is_terminal:
        columns = (TextColumn("cluster: compiling"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
        with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
            task = progress.add_task("", total=total)
            yield lambda done: progress.update(task, completed=done)
        return
    began = last = time.monotonic()

    def line(done: int) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_SECONDS:
            last = time.monotonic()
            console.print(f"cluster: {done} of at most {total} packages compiled after {last - began:.0f} s")

    yield line


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])

"""The `warmpool` command in installations that hold only some of the components, as images do."""

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {"warmpool_gateway": ROOT / "gateway" / "src" / "warmpool_gateway", "servers": ROOT / "servers"}

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def installed(tmp_path: Path) -> Callable[..., Run]:
    """Makes an installation of core and the named components; returns what runs `warmpool` in it."""

    def install(*components: str) -> Run:
        folder = tmp_path / "lib"
        core = ROOT / "core" / "src" / "warmpool"
        shutil.copytree(core, folder / "warmpool", ignore=shutil.ignore_patterns("local", "__pycache__"))
        for component in components:
            (folder / component).symlink_to(FOLDERS[component])
        paths = [str(folder), sysconfig.get_path("platlib")]  # -S: else the .pth of this checkout adds every component
        program = f"import sys; sys.path[:0] = {paths!r}; from warmpool.cli import main; main(sys.argv[1:])"

        def run(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
            command = [sys.executable, "-ISB", "-c", program, *words]
            return subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/", timeout=30)

        return run

    return install


def listed(help: str) -> set[str]:
    return {line.split()[0] for line in help.partition("Commands:")[2].splitlines() if line.strip()}


@pytest.mark.parametrize(
    ("components", "commands"),
    [
        ((), {"secrets", "migrate"}),
        (("warmpool_gateway",), {"secrets", "migrate", "keys"}),
        (("servers",), {"secrets", "migrate", "catalog", "tools"}),
    ],
    ids=["core", "gateway", "servers"],
)
def test_help_lists_what_the_installation_can_do(installed, components: tuple[str, ...], commands: set[str]) -> None:
    help = installed(*components)("--help")
    assert (help.returncode, help.stderr) == (0, "")
    assert listed(help.stdout) == commands


@pytest.mark.parametrize(
    "words",
    [("up",), ("demo", "--help"), ("catalog", "import", "x.csv", "--format", "jsonl"), ("tools", "stubs", "/x")],
)
def test_a_command_of_an_absent_component_says_so_in_one_line(installed, words: tuple[str, ...]) -> None:
    result = installed("warmpool_gateway")(*words)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: `warmpool {words[0]}` is not part of this installation: no module ")
    assert result.stderr.count("\n") == 1


def test_keys_are_made_where_only_the_gateway_is(installed, database: str, tmp_path: Path) -> None:
    run = installed("warmpool_gateway")
    secrets = tmp_path / "secrets"
    assert run("secrets", "create", "--path", str(secrets)).returncode == 0
    (secrets / "postgres.dsn").write_text(database)
    made = run("keys", "create", "--tenant", "acme", "--name", "trial", WARMPOOL_SECRETS__PATH=str(secrets))
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("wp_")


def test_schema_catalogue_and_stubs_are_made_where_only_the_tool_server_is(
    installed, database: str, tmp_path: Path
) -> None:
    run = installed("servers")
    dsn = {"WARMPOOL_POSTGRES__DSN": database}
    file = str(tmp_path / "shop.jsonl")
    for words in (
        ("migrate",),
        ("catalog", "generate", file, "--format", "jsonl", "--products", "20"),
        ("catalog", "import", file, "--format", "jsonl", "--tenant", "acme"),
        ("tools", "stubs", str(tmp_path / "stubs")),
        ("tools", "show"),
    ):
        result = run(*words, **dsn)
        assert result.returncode == 0, (words, result.stderr)
    assert (tmp_path / "stubs" / "servers" / "search" / "__init__.py").exists()

"""The chart under test, and `helm` as an operator of a cluster runs it."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

CHART: Final = Path(__file__).parents[3] / "helm" / "warmpool"
SECONDS: Final = 240


def helm(*arguments: str, given: str | None = None) -> str:
    """Raises AssertionError with what it said, where it failed."""
    return command("helm", *arguments, given=given)


def kubectl(*arguments: str) -> str:
    return command("kubectl", *arguments)


def command(*words: str, given: str | None = None) -> str:
    ended = subprocess.run(words, input=given, capture_output=True, text=True, timeout=SECONDS + 30, check=False)
    assert ended.returncode == 0, f"{' '.join(words)}: {ended.stderr or ended.stdout}"
    return ended.stdout


def apply(release: str, namespace: str, values: Mapping[str, Any]) -> str:
    """Installs or upgrades, and waits until all of it is ready. Returns the chart's notes."""
    return helm(
        "upgrade", "--install", release, str(CHART), "--namespace", namespace,
        "--values", "-", "--wait", "--timeout", f"{SECONDS}s", given=json.dumps(values),
    )  # fmt: skip


def uninstall(release: str, namespace: str, *, wait: bool) -> str:
    """Returns what it said: the names of what it keeps. Its pools are drained in any case."""
    waiting = ["--wait"] if wait else []
    return helm("uninstall", release, "--namespace", namespace, *waiting, "--timeout", f"{SECONDS}s")


def is_installed(release: str, namespace: str) -> bool:
    return release in helm("list", "--namespace", namespace, "--all", "--short").split()

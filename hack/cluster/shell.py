"""Running the system's tools, with errors that say what failed and what it said."""

import subprocess
from collections.abc import Sequence
from pathlib import Path


class ClusterError(Exception):
    """The cluster could not be made or reached; the message says what to look at."""


def run(*command: str | Path, input: str | None = None, timeout: float = 120.0, check: bool = True) -> str:
    """Its standard output. Raises ClusterError with the end of what it said where it fails."""
    words = [str(word) for word in command]
    try:
        ended = subprocess.run(words, input=input, capture_output=True, text=True, timeout=timeout, check=False)
    except FileNotFoundError as fault:
        raise ClusterError(f"{words[0]} is not installed") from fault
    except subprocess.TimeoutExpired as fault:
        raise ClusterError(f"{' '.join(words[:4])} took more than {timeout:g} s") from fault
    if check and ended.returncode != 0:
        said = (ended.stderr or ended.stdout).strip().splitlines()[-8:]
        raise ClusterError(f"{' '.join(words[:6])} failed ({ended.returncode}):\n  " + "\n  ".join(said))
    return ended.stdout


def succeeds(*command: str | Path, timeout: float = 10.0) -> bool:
    try:
        ended = subprocess.run([str(word) for word in command], capture_output=True, timeout=timeout, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ended.returncode == 0


def inside(namespace: Path, *command: str | Path) -> list[str]:
    """The command within a network namespace. Not by `ip netns exec`, which remounts /sys and hides the cgroups."""
    return ["nsenter", f"--net={namespace}", "--", *map(str, command)]


def missing_packages(packages: Sequence[str]) -> list[str]:
    listed = subprocess.run(
        ["/usr/bin/dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *packages],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    installed = {line.split()[0] for line in listed.stdout.splitlines() if line.endswith(" installed")}
    return [package for package in packages if package not in installed]

"""Running the system's tools, with errors that say what failed and what it said."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


def missing_packages(packages: Sequence[str]) -> list[str]:
    """Of Debian. Raises ClusterError on any other system."""
    if not (shutil.which("dpkg-query") and shutil.which("apt-get")):
        raise ClusterError(f"this is made for Debian 12, with its packages {' '.join(packages)}")
    listed = run("dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *packages, check=False)
    installed = {line.split()[0] for line in listed.splitlines() if line.endswith(" installed")}
    return [package for package in packages if package not in installed]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One at a time, over all processes; others wait. The folder itself is the lock, so no file of it stays."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write(f"cluster: waiting for another command that holds {folder}\n")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)

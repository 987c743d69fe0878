"""Which interpreter a sandbox can be given."""

import os
import sys
from pathlib import Path

import pytest

from warmpool.errors import PlatformError
from warmpool.local.staging import stage


@pytest.fixture
def closed_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The interpreter, below a folder that is its owner's only."""
    python = tmp_path / "home" / "python3"
    python.parent.mkdir(mode=0o700)
    python.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    return python


def test_root_cannot_give_its_users_an_interpreter_that_is_closed_to_them(
    closed_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(PlatformError, match="other users may not enter"):
        stage(tmp_path / "sandbox")


def test_an_ordinary_user_runs_sandboxes_with_an_interpreter_of_their_own(
    closed_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert stage(tmp_path / "sandbox").python == str(closed_python)

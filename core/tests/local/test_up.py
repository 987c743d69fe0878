"""How work ends that runs until Ctrl-C."""

import os
import signal

import pytest

from warmpool.errors import PlatformError
from warmpool.local.up import INTERRUPTED, until_interrupted


async def fails() -> None:
    raise PlatformError("redis did not start")


async def fails_of_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    raise PlatformError("redis did not start")


def test_a_failure_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert until_interrupted(fails()) == 1
    assert capsys.readouterr().err == "error: redis did not start\n"


def test_what_failed_because_of_ctrl_c_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert until_interrupted(fails_of_ctrl_c()) == INTERRUPTED
    assert capsys.readouterr().err == ""

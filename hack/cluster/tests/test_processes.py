import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hack.cluster.processes import Process, wait_gone


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_process_is_known_again_until_it_ends(child: subprocess.Popen[bytes]) -> None:
    process = Process.of(child.pid)
    assert process is not None
    assert process.alive
    process.kill()
    wait_gone([process])
    assert not process.alive


def test_a_number_that_was_given_away_again_is_left_alone(child: subprocess.Popen[bytes]) -> None:
    process = Process.of(child.pid)
    assert process is not None
    earlier = replace(process, started=process.started - 1)
    earlier.kill()
    assert not earlier.alive
    assert process.alive


def test_a_number_that_nobody_has_is_no_process() -> None:
    assert Process.of(2**22 + 1) is None

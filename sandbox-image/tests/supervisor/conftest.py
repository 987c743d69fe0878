"""Supervisors that the tests of this folder speak to."""

from collections.abc import Iterator

import pytest
from support.serving import POD, Serving
from support.unprivileged import Place

from warmpool.protocol import Limits
from warmpool_sandbox import supervisor as supervisor_module
from warmpool_sandbox.slot import Slot
from warmpool_sandbox.supervisor import Supervisor


@pytest.fixture(scope="module")
def serving(sandbox_place: Place) -> Iterator[Serving]:
    """One process that many tests speak to; none may end it."""
    made = Serving(sandbox_place)
    yield made
    assert made.process.poll() is None, "it ended"
    made.close()


@pytest.fixture
def silent_supervisor(tmp_path, monkeypatch) -> Supervisor:
    """In this process, with a patience that a test can wait for; it runs nothing."""
    monkeypatch.setattr(supervisor_module, "_HANDSHAKE_SECONDS", 0.1)
    return Supervisor(Slot(tmp_path), pod=POD, pool="default", key=b"k" * 32, limits=Limits())

"""Real sandboxes for the tests: each in a process of its own, under a user of its own."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # `support`, which no test folder's import mode would find

from support.sandbox import Sandbox
from support.serving import Serving
from support.unprivileged import Home, Place, place


@pytest.fixture(scope="session")
def sandbox_place() -> Iterator[Place]:
    """The code where any user can read it."""
    with place() as made:
        yield made


@pytest.fixture
def sandbox_home(sandbox_place: Place) -> Home:
    """A user with a scratch folder and a key file."""
    return sandbox_place.home()


@pytest.fixture(scope="session")
def sandbox(sandbox_place: Place) -> Iterator[Sandbox]:
    """One sandbox that many tests run programs in."""
    made = Sandbox(sandbox_place, sandbox_place.home())
    yield made
    made.close()


@pytest.fixture
def start(sandbox_place: Place) -> Iterator[Callable[..., Serving]]:
    """Starts processes that a test may end."""
    started: list[Serving] = []

    def start(*options: str) -> Serving:
        started.append(Serving(sandbox_place, *options))
        return started[-1]

    yield start
    for made in started:
        made.close()

"""One process that the tests of this folder speak to."""

from collections.abc import Iterator

import pytest
from support.serving import Serving
from support.unprivileged import Place


@pytest.fixture(scope="module")
def serving(sandbox_place: Place) -> Iterator[Serving]:
    """One process that many tests speak to; none may end it."""
    made = Serving(sandbox_place)
    yield made
    assert made.process.poll() is None, "it ended"
    made.close()

from collections.abc import Iterator

import pytest

from warmpool.local import standin


@pytest.fixture(scope="session")
def base_url() -> Iterator[str]:
    """The stand-in over real HTTP."""
    with standin.running() as url:
        yield url

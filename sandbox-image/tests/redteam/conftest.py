"""One site for each set of walls that some attack wants down, kept for all of them."""

from collections.abc import Callable, Iterator

import pytest
from redteam.site import Site
from support.unprivileged import Place

SiteOf = Callable[[frozenset[str], str], Site]


@pytest.fixture(scope="session")
def site_of(sandbox_place: Place) -> Iterator[SiteOf]:
    sites: dict[tuple[frozenset[str], str], Site] = {}

    def site(down: frozenset[str], scratch: str) -> Site:
        if (down, scratch) not in sites:
            sites[down, scratch] = Site(sandbox_place, down, tmpfs=scratch == "tmpfs")
        return sites[down, scratch]

    yield site
    for made in sites.values():
        made.close()

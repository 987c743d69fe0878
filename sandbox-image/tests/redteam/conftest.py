"""One site for each set of walls that some attack wants down, kept for all of them."""

from collections.abc import Callable, Iterator

import pytest
from redteam.site import Site
from redteam.table import Trial
from support.unprivileged import Place

SiteOf = Callable[[Trial, str], Site]


@pytest.fixture(scope="session")
def site_of(sandbox_place: Place) -> Iterator[SiteOf]:
    sites: dict[tuple[frozenset[str], str, bool], Site] = {}

    def site(trial: Trial, scratch: str) -> Site:
        key = trial.down, scratch, trial.tcp
        if key not in sites:
            sites[key] = Site(sandbox_place, trial.down, tmpfs=scratch == "tmpfs", tcp=trial.tcp)
        return sites[key]

    yield site
    for made in sites.values():
        made.close()

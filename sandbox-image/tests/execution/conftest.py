"""Programs in a real slot."""

from textwrap import dedent

import pytest
from support.sandbox import Run, Sandbox


@pytest.fixture
def run(sandbox: Sandbox):
    """Runs a program and sees to it that nothing is left of it."""

    def run(code: str, context=None, **options) -> Run:
        ran = sandbox.run(dedent(code), context, **options)
        assert ran.outcome.clean, ran.outcome
        assert ran.outcome.residue == ()
        return ran

    return run

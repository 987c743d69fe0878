"""Programs run in this process, with nothing confined."""

import json
import linecache
import sys
from textwrap import dedent

import pytest

from warmpool.protocol import Limits
from warmpool_sandbox import program

LIMITS = Limits()


@pytest.fixture
def run(monkeypatch):
    """Runs a program; its VALUE message. The test's own `__main__` is put back."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.setitem(linecache.cache, program.FILENAME, (0, None, [], program.FILENAME))

    def run(code, context=None, *, validate=True, limits=LIMITS):
        return json.loads(program.run(dedent(code), context, validate=validate, limits=limits))

    return run


@pytest.fixture
def value(run):
    """Runs a program that ends well; its value."""

    def value(code, context=None):
        said = run(code, context)
        assert said["status"] == "ok", said
        return said["value"]

    return value


@pytest.fixture
def error(run):
    """Runs a program that does not end well; its error with the status beside it."""

    def error(code, **options):
        said = run(code, **options)
        assert said["status"] != "ok", said
        return said["error"] | {"status": said["status"]}

    return error

"""`python -m warmpool_gateway`."""

import runpy
import socket
import sys

import pytest
import uvicorn


@pytest.fixture
def served(monkeypatch, secrets_folder):
    """What the server was given to serve on."""
    given = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets=None: given.append(sockets))
    monkeypatch.setenv("WARMPOOL_SECRETS__PATH", str(secrets_folder))
    return given


def run() -> None:
    runpy.run_module("warmpool_gateway", run_name="__main__")


def test_an_inherited_socket_is_served_as_the_tcp_socket_that_it_is(served, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        descriptor = listener.detach()
        monkeypatch.setattr(sys, "argv", ["warmpool_gateway", "--fd", str(descriptor)])
        run()
    ((inherited,),) = served
    with inherited:
        assert inherited.family is socket.AF_INET  # else Nagle stays on, and an answer waits 40 ms


def test_without_one_it_listens_by_itself(served, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["warmpool_gateway", "--port", "0"])
    run()
    assert served == [None]


def test_a_missing_secret_is_named(served, monkeypatch, secrets_folder):
    (secrets_folder / "grant.key").unlink()
    monkeypatch.setattr(sys, "argv", ["warmpool_gateway"])
    with pytest.raises(SystemExit, match=r"grant\.key.* `warmpool secrets create`"):
        run()

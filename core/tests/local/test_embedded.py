"""The embedded servers start, restart in place, and leave nothing behind, however their parent ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from warmpool.errors import PlatformError
from warmpool.local import embedded
from warmpool.local.embedded import PostgresServer, RedisServer, postgres_server, redis_server, service_folder

DEADLINE_SECONDS = 20


@pytest.fixture
def folder() -> Iterator[Path]:
    with service_folder() as path:
        yield path


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def value_of(url: str, key: str) -> object:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return client.get(key)


def set_value(url: str, key: str, value: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.set(key, value)


def test_a_throwaway_redis_answers_and_takes_its_folder_along(folder: Path) -> None:
    with redis_server(folder) as url:
        set_value(url, "k", "v")
        assert value_of(url, "k") == "v"
    assert not folder.exists()


def test_a_persistent_redis_remembers(folder: Path) -> None:
    for _ in range(2):
        with redis_server(folder, persistent=True) as url:
            remembered = value_of(url, "k")
            set_value(url, "k", "v")
    assert remembered == "v"


def test_a_persistent_redis_remembers_after_a_crash(folder: Path) -> None:
    server = RedisServer(folder, persistent=True)
    server.start()
    set_value(server.address, "k", "v")
    server.kill()
    server.start()
    assert value_of(server.address, "k") == "v"
    server.stop()


def test_a_restarted_redis_has_the_same_address_and_is_another_process(folder: Path) -> None:
    server = RedisServer(folder)
    server.start()
    before = server.address, server.pid
    server.restart()
    assert server.address == before[0]
    assert server.pid not in (None, before[1])
    server.stop()
    assert server.pid is None


def test_a_throwaway_postgres_has_pgvector_and_takes_its_folder_along(folder: Path) -> None:
    with postgres_server(folder) as dsn, psycopg.connect(dsn) as connection:
        connection.execute("CREATE EXTENSION vector")
        assert connection.execute("SELECT '[1,2]'::halfvec <=> '[2,4]'::halfvec").fetchone() == (0.0,)
        connection.close()
    assert not folder.exists()


def test_a_persistent_postgres_remembers_and_is_durable(folder: Path) -> None:
    with postgres_server(folder, persistent=True) as dsn, psycopg.connect(dsn) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    with postgres_server(folder, persistent=True) as dsn, psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes its user")
def test_as_root_the_servers_run_as_an_unprivileged_user_who_alone_may_enter(folder: Path) -> None:
    server = RedisServer(folder)
    server.start()
    assert psutil.Process(server.pid).uids().effective != 0
    assert folder.stat().st_mode & 0o077 == 0
    server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes its user")
def test_programs_that_the_service_user_cannot_reach_are_copied(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reachable = embedded._reachable
    monkeypatch.setattr(embedded, "_reachable", lambda path: "pgserver" not in str(path) and reachable(path))
    with postgres_server(folder) as dsn, psycopg.connect(dsn) as connection:
        program = Path(f"/proc/{connection.info.backend_pid}/exe").resolve()
        assert program.is_relative_to(folder)


def test_a_folder_too_deep_for_a_socket_is_refused_with_the_remedy(folder: Path) -> None:
    with pytest.raises(PlatformError, match="too long a path for a socket"):
        RedisServer(folder / ("x" * 90)).start()


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    server = PostgresServer(folder)
    server.data.mkdir()
    (server.data / "PG_VERSION").write_text("9.0")
    with pytest.raises(PlatformError, match="postgres did not start"):
        server.start()
    assert server.pid is None


@pytest.mark.parametrize("kind", [RedisServer, PostgresServer])
def test_a_folder_serves_one_server_at_a_time(
    folder: Path, kind: type[RedisServer | PostgresServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "LOCK_SECONDS", 0.1)
    first, second = kind(folder), kind(folder)
    first.start()
    with pytest.raises(PlatformError, match="is in use by another server"):
        second.start()
    assert first.answers()
    first.stop()
    second.start()
    second.stop()


def test_a_postgres_that_crashed_starts_again_with_what_it_had(folder: Path) -> None:
    server = PostgresServer(folder, persistent=True)
    server.start()
    with psycopg.connect(server.address) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    server.kill()
    # A number that is surely in use, as after a restart of the machine.
    (server.data / "postmaster.pid").write_text(f"{os.getpid()}\n")
    server.start()
    with psycopg.connect(server.address) as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)
    server.stop()


def test_an_interrupted_first_start_is_begun_anew(folder: Path) -> None:
    (folder / "data.partial").mkdir()
    (folder / "data.partial" / "PG_VERSION").write_text("18")
    with postgres_server(folder) as dsn, psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


PARENT = """
import sys, time
from pathlib import Path
from warmpool.local.embedded import PostgresServer, RedisServer
servers = [kind(Path(folder)) for kind, folder in zip((RedisServer, PostgresServer), sys.argv[1:])]
for server in servers:
    server.start()
print(*(server.pid for server in servers), flush=True)
time.sleep(600)
"""


def test_both_servers_die_with_a_parent_that_is_killed(folder: Path) -> None:
    with service_folder() as other:
        arguments = [sys.executable, "-c", PARENT, str(folder), str(other)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            pids = [int(word) for word in parent.stdout.readline().split()]
            assert len(pids) == 2
            parent.send_signal(signal.SIGKILL)
        wait_until(lambda: not any(map(is_running, pids)))


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

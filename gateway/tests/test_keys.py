"""API keys in a real Postgres, their command, and what the gateway keeps of them in memory."""

import asyncio
import re
from collections.abc import AsyncIterator

import psycopg
import pytest
from click.testing import CliRunner
from psycopg_pool import AsyncConnectionPool

from warmpool.errors import InvalidRequest, NotFound, Unauthenticated, Unavailable
from warmpool.settings import PostgresSettings
from warmpool.storage.pool import connection_pool
from warmpool_gateway.keys import KeyRing, create_key, list_keys, revoke_key
from warmpool_gateway.keys_cli import keys as keys_command

PEPPER = b"p" * 32


@pytest.fixture
async def postgres(database) -> AsyncIterator[AsyncConnectionPool]:
    async with connection_pool(PostgresSettings(dsn=database, timeout_seconds=2)) as pool:
        yield pool


@pytest.fixture
async def connection(database) -> AsyncIterator[psycopg.AsyncConnection]:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as made:
        yield made


@pytest.fixture
async def ring(postgres) -> KeyRing:
    return KeyRing(postgres, PEPPER)


async def test_a_key_opens_its_tenant(ring, connection):
    key, text = await create_key(connection, PEPPER, tenant="acme", name="backend", weight=3)
    await ring.refresh()
    caller = ring.authenticate(f"Bearer {text}")
    assert (caller.tenant, caller.key_id, caller.weight) == ("acme", key.id, 3)
    assert ring.authenticate(f"bearer  {text}") == caller


async def test_only_a_keyed_hash_is_stored(connection):
    _, text = await create_key(connection, PEPPER, tenant="acme", name="backend")
    cursor = await connection.execute("SELECT api_keys::text FROM api_keys")
    (row,) = await cursor.fetchone()
    assert text.split("_")[2] not in row


async def test_a_hash_under_another_pepper_opens_nothing(postgres, connection):
    _, text = await create_key(connection, PEPPER, tenant="acme", name="backend")
    ring = KeyRing(postgres, b"another" * 8)
    await ring.refresh()
    with pytest.raises(Unauthenticated):
        ring.authenticate(f"Bearer {text}")


WRONG = {
    "nothing": None,
    "empty": "",
    "no scheme": "{key}",
    "another scheme": "Basic {key}",
    "an unknown id": "Bearer wp_000000000000_" + "0" * 48,
    "a wrong secret": "Bearer wp_{id}_" + "0" * 48,
    "no form": "Bearer wp_{id}",
    "upper case": "Bearer WP_{id}_{secret}",
    "a tail": "Bearer {key}0",
    "no text": "Bearer \udcff\x00",
}


@pytest.mark.parametrize("header", WRONG.values(), ids=WRONG)
async def test_whatever_is_not_a_key_is_refused(ring, connection, header):
    key, text = await create_key(connection, PEPPER, tenant="acme", name="backend")
    await ring.refresh()
    with pytest.raises(Unauthenticated):
        ring.authenticate(header and header.format(key=text, id=key.id, secret=text.split("_")[2]))


async def test_a_revoked_key_opens_nothing_after_the_refresh(ring, connection):
    key, text = await create_key(connection, PEPPER, tenant="acme", name="backend")
    _, other = await create_key(connection, PEPPER, tenant="acme", name="another")
    await ring.refresh()
    revoked = await revoke_key(connection, key.id)
    assert revoked == await revoke_key(connection, key.id)
    await ring.refresh()
    with pytest.raises(Unauthenticated):
        ring.authenticate(f"Bearer {text}")
    assert ring.authenticate(f"Bearer {other}").tenant == "acme"
    assert [key.name for key in await list_keys(connection)] == ["another", "backend"]


async def test_an_unknown_key_cannot_be_revoked(connection):
    with pytest.raises(NotFound):
        await revoke_key(connection, "000000000000")


@pytest.mark.parametrize("tenant", ["", "A", "-a", "a" * 64, "a\x00", "a b", "a{b}"])
async def test_a_tenant_has_a_form(connection, tenant):
    with pytest.raises(InvalidRequest):
        await create_key(connection, PEPPER, tenant=tenant, name="x")


async def test_before_the_first_load_the_gateway_says_so(postgres):
    with pytest.raises(Unavailable):
        KeyRing(postgres, PEPPER).authenticate("Bearer x")


async def test_keys_stay_known_while_postgres_is_away(ring, connection, postgres, caplog):
    _, text = await create_key(connection, PEPPER, tenant="acme", name="backend")
    await ring.refresh()
    await postgres.close()
    task = asyncio.create_task(ring.run())
    async with asyncio.timeout(5):
        while "API keys not refreshed" not in caplog.text:
            await asyncio.sleep(0)
    task.cancel()
    assert ring.authenticate(f"Bearer {text}").tenant == "acme"


@pytest.fixture
def command(database, tmp_path, monkeypatch):
    (tmp_path / "pepper.key").write_bytes(PEPPER)
    monkeypatch.setenv("WARMPOOL_POSTGRES__DSN", database)
    monkeypatch.setenv("WARMPOOL_SECRETS__PATH", str(tmp_path))
    return lambda *arguments: CliRunner().invoke(keys_command, arguments)


def test_the_command_prints_the_secret_once_and_on_stdout_only(command):
    made = command("create", "--tenant", "acme", "--name", "backend")
    assert made.exit_code == 0, made.output
    assert re.fullmatch(r"wp_[0-9a-f]{12}_[0-9a-f]{48}\n", made.stdout)
    secret = made.stdout.strip().split("_")[2]
    assert secret not in made.stderr
    listed = command("list")
    assert "acme" in listed.output
    assert secret not in listed.output


def test_the_command_revokes(command):
    id = command("create", "--tenant", "acme", "--name", "backend").stdout.split("_")[1]
    assert command("revoke", id).exit_code == 0
    assert command("revoke", "none").exit_code == 1


def test_a_name_that_looks_like_markup_is_listed_as_it_is(command):
    assert command("create", "--tenant", "acme", "--name", "[/x]").exit_code == 0
    listed = command("list")
    assert (listed.exit_code, "[/x]" in listed.output) == (0, True)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [("WARMPOOL_QUEUE__TICK_SECONDS", "bad", "queue.tick_seconds: "), ("WARMPOOL_QUEUE", "bad", '"queue"')],
)
def test_the_command_says_which_setting_makes_no_sense(command, monkeypatch, name, value, told):
    monkeypatch.setenv(name, value)
    listed = command("list")
    assert (listed.exit_code, told in listed.stderr) == (1, True), listed.stderr


def test_the_command_says_what_is_wrong(command, monkeypatch):
    bad = command("create", "--tenant", "Not A Tenant", "--name", "x")
    assert (bad.exit_code, "tenant:" in bad.stderr) == (1, True)
    monkeypatch.setenv("WARMPOOL_POSTGRES__DSN", "postgresql:///x?host=/nowhere")
    away = command("list")
    assert (away.exit_code, "postgres.dsn" in away.stderr) == (1, True)

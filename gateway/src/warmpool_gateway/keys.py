"""API keys: `wp_<id>_<secret>`, stored as a keyed hash, held in memory so that no request waits for Postgres.

A key that was made or revoked counts within `REFRESH_SECONDS`. While Postgres is away the keys stay as
they were last known. The secret is shown once, when the key is made, and is nowhere after that.
"""

import asyncio
import hashlib
import hmac
import logging
import random
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from warmpool.errors import InvalidRequest, NotFound, Unauthenticated, Unavailable

REFRESH_SECONDS: Final = 2.0
MAX_KEYS: Final = 100_000  # held in memory, about 400 bytes each; the newest where there are more
TENANT: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_FORM: Final = re.compile(r"wp_([0-9a-f]{12})_([0-9a-f]{48})")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An API key, without its secret."""

    id: str
    tenant: str
    name: str
    weight: int
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Known:
    mac: bytes
    tenant: str
    weight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who sent a request."""

    tenant: str
    key_id: str
    weight: int


async def create_key(
    connection: AsyncConnection[Any], pepper: bytes, *, tenant: str, name: str, weight: int = 1
) -> tuple[Key, str]:
    """The new key and its text, which nobody can be told again. Raises InvalidRequest."""
    if not TENANT.fullmatch(tenant):
        raise InvalidRequest("tenant: 1 to 63 of a-z, 0-9, '.', '_', '-', a letter or digit first", field="tenant")
    if not 1 <= weight <= 100:
        raise InvalidRequest(f"weight: {weight} is not between 1 and 100", field="weight")
    id, secret = secrets.token_hex(6), secrets.token_hex(24)
    async with connection.cursor(row_factory=class_row(Key)) as cursor:
        await cursor.execute(
            "INSERT INTO api_keys (id, tenant, name, mac, weight) VALUES (%s, %s, %s, %s, %s)"
            " RETURNING id, tenant, name, weight, created_at, revoked_at",
            (id, tenant, name, _mac(pepper, secret), weight),
        )
        key = await cursor.fetchone()
    assert key is not None
    return key, f"wp_{id}_{secret}"


async def list_keys(connection: AsyncConnection[Any]) -> list[Key]:
    """Every key, the newest first, revoked ones included."""
    async with connection.cursor(row_factory=class_row(Key)) as cursor:
        await cursor.execute(
            "SELECT id, tenant, name, weight, created_at, revoked_at FROM api_keys ORDER BY created_at DESC, id"
        )
        return await cursor.fetchall()


async def revoke_key(connection: AsyncConnection[Any], id: str) -> Key:
    """The key counts no more. Harmless the second time. Raises NotFound."""
    async with connection.cursor(row_factory=class_row(Key)) as cursor:
        await cursor.execute(
            "UPDATE api_keys SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE id = %s"
            " RETURNING id, tenant, name, weight, created_at, revoked_at",
            (id,),
        )
        key = await cursor.fetchone()
    if key is None:
        raise NotFound(f"There is no key {id}; `warmpool keys list` shows them all.")
    return key


class KeyRing:
    """The keys that count, in memory."""

    def __init__(self, postgres: AsyncConnectionPool[Any], pepper: bytes) -> None:
        self._postgres = postgres
        self._pepper = pepper
        self._known: Mapping[str, _Known] | None = None
        self._stamp: tuple[Any, ...] | None = None

    @property
    def loaded(self) -> bool:
        return self._known is not None

    def authenticate(self, authorization: str | None) -> Caller:
        """The caller behind an Authorization header. Raises Unauthenticated, or Unavailable before the first load."""
        if self._known is None:
            raise Unavailable("The API keys have not been loaded yet.", retry_after=REFRESH_SECONDS)
        scheme, _, text = (authorization or "").partition(" ")
        form = _FORM.fullmatch(text.strip())
        if scheme.lower() != "bearer" or form is None:
            raise Unauthenticated
        id, secret = form.groups()
        known = self._known.get(id)
        # An unknown id takes as long as a wrong secret.
        if not hmac.compare_digest(_mac(self._pepper, secret), b"" if known is None else known.mac) or known is None:
            raise Unauthenticated
        return Caller(tenant=known.tenant, key_id=id, weight=known.weight)

    async def refresh(self) -> None:
        """Reads the keys where any was made or revoked since the last time."""
        async with self._postgres.connection() as connection:
            cursor = await connection.execute(
                "SELECT count(*), count(revoked_at), max(created_at), max(revoked_at) FROM api_keys"
            )
            stamp = await cursor.fetchone()
            if stamp == self._stamp:
                return
            cursor = await connection.execute(
                "SELECT id, mac, tenant, weight FROM api_keys WHERE revoked_at IS NULL"
                " ORDER BY created_at DESC LIMIT %s",
                (MAX_KEYS,),
            )
            self._known = {id: _Known(*rest) async for id, *rest in cursor}
        self._stamp = stamp

    async def run(self) -> None:
        """Keeps the keys fresh, until cancelled."""
        while True:
            try:
                await self.refresh()
            except (psycopg.Error, PoolTimeout, OSError) as fault:
                logger.warning("API keys not refreshed", extra={"fault": str(fault)})
            await asyncio.sleep(REFRESH_SECONDS * random.uniform(0.9, 1.0))  # noqa: S311  jitter, no secret


def _mac(pepper: bytes, secret: str) -> bytes:
    return hmac.new(pepper, secret.encode(), hashlib.sha256).digest()

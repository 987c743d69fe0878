"""API keys of further tenants, made and revoked as `warmpool keys` does."""

import psycopg

from warmpool.settings import Settings
from warmpool_gateway.keys import create_key, revoke_key


async def new_key(settings: Settings, tenant: str) -> str:
    async with await _connected(settings) as connection:
        _, text = await create_key(connection, settings.secrets.read("pepper"), tenant=tenant, name="test")
        return text


async def end_key(settings: Settings, id: str) -> None:
    async with await _connected(settings) as connection:
        await revoke_key(connection, id)


async def _connected(settings: Settings) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(settings.postgres.dsn, autocommit=True, connect_timeout=5)

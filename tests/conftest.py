"""The whole service for its tests: faults and bad input come from outside, as in service.

Every test that touches the stack must leave it whole; one helper, `assert_whole`, checks that after each.
"""

import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from redis.asyncio import Redis

sys.path.append(str(Path(__file__).parent))  # `harness`, which no test folder's import mode would find

from harness.caller import Caller, NewTenant
from harness.running import RunningStack, Stacks
from harness.waiting import until
from harness.wholeness import assert_whole

from warmpool.registry import Registry, connect

TIMEOUT = aiohttp.ClientTimeout(total=45)


@pytest.fixture(autouse=True)
def no_blocking_calls() -> None:
    """Not here: the services are processes of their own, and the single-machine mode may block to start them."""


@pytest.fixture(scope="session")
def stacks() -> Iterator[Stacks]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("WARMPOOL_", "OPENAI_"))]:
            patch.delenv(name)
        made = Stacks()
        made.get()
    yield made
    made.end()


@pytest.fixture
async def stack_redis(running: RunningStack) -> AsyncIterator[Redis]:
    client = connect(running.parts.settings.redis.url)
    yield client
    await client.aclose()


@pytest.fixture
def registry(running: RunningStack, stack_redis: Redis) -> Registry:
    settings = running.parts.settings.pool
    return Registry(stack_redis, settings.name, heartbeat_seconds=settings.heartbeat_seconds)


@pytest.fixture
async def session(running: RunningStack) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(running.parts.url, timeout=TIMEOUT) as session:
        yield session


@pytest.fixture
def running(stacks: Stacks) -> RunningStack:
    return stacks.get()


@pytest.fixture
async def caller(
    stacks: Stacks, running: RunningStack, registry: Registry, stack_redis: Redis, session: aiohttp.ClientSession
) -> AsyncIterator[Caller]:
    """A caller of the stack, which must be whole when the test is over."""
    caller = Caller(session, running.parts.api_key)
    yield caller
    try:
        await assert_whole(running, registry, stack_redis, caller)
    except BaseException:
        stacks.end()  # the next test gets another
        raise


@pytest.fixture
def new_tenant(running: RunningStack, session: aiohttp.ClientSession, caller: Caller) -> NewTenant:
    async def make() -> Caller:
        tenant, key = running.tenants.pop()
        made = Caller(session, key, tenant)
        await until(made.is_known, 5, "a new key is known")
        return made

    return make

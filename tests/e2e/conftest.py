"""The release under test, once a run, on the cluster of KUBECONFIG; and what a failed test leaves behind.

Tests run in any order. One that breaks something of the common release leaves it whole; one that changes what cannot
be changed back has a release of its own.
"""

import asyncio
import itertools
import shutil
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest
import pytest_asyncio
from redis.asyncio import Redis

sys.path.append(str(Path(__file__).parent))  # `k8s`, which no test folder's import mode would find

from harness.caller import Caller
from harness.waiting import until
from k8s import artefacts, own_operator
from k8s.cluster import Cluster, Pools, connected, restarts
from k8s.own_pool import OwnPool, prepared
from k8s.release import PREFIX, Release, small
from k8s.service import TENANT, TIMEOUT, Addresses, addresses
from k8s.wholeness import PODS, POOL, until_whole

from warmpool.registry import Registry, connect

PRODUCTS = 200
ELSEWHERE = f"{PREFIX}-elsewhere"
OWN = f"{PREFIX}-own"
"""Namespace of the pools that tests have for themselves."""

own_names = (f"own-{number}" for number in itertools.count())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        report.sections.append(("the cluster", artefacts.collect(item.name, report.longreprtext)))
    return report


@pytest.fixture(scope="session")
def release() -> Iterator[Release]:
    """As a user has it: two operators, two gateways."""
    shutil.rmtree(artefacts.FOLDER, ignore_errors=True)
    demo = {"enabled": True, "products": PRODUCTS, "tenant": TENANT}
    two = {"replicas": 2}
    values = small(operator=two, gateway=two, pool={"replicas": PODS}, catalog={"demo": demo})
    made = Release(PREFIX, values)
    asyncio.run(_install(made))
    yield made
    asyncio.run(_end(made))


async def _install(release: Release) -> None:
    async with connected() as cluster:
        await release.install(cluster)


async def _end(release: Release) -> None:
    async with connected() as cluster:
        await release.end(cluster, wait=False)


@pytest.fixture(scope="session")
def reached(release: Release) -> Iterator[Addresses]:
    with addresses(release) as made:
        yield made


@pytest.fixture
async def catalogue(postgres: psycopg.AsyncConnection[Any]) -> str:
    """The tenant whose it is, once it is there: the chart imports it after the install."""

    async def is_there() -> bool:
        counted = await postgres.execute("SELECT count(*) FROM products WHERE tenant = %s", [TENANT])
        return await counted.fetchone() == (PRODUCTS,)

    await until(is_there, 60, "the demo catalogue")
    return TENANT


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with connected() as made:
        yield made


@pytest.fixture
async def elsewhere(cluster: Cluster) -> AsyncIterator[str]:
    """A namespace that has nothing to do with the release."""
    await cluster.end_namespace(ELSEWHERE)
    await cluster.make_namespace(ELSEWHERE)
    yield ELSEWHERE
    await cluster.end_namespace(ELSEWHERE)


@pytest.fixture
def pools(cluster: Cluster, release: Release) -> Pools:
    return Pools(cluster, release.sandboxes)


@pytest.fixture
async def redis(reached: Addresses) -> AsyncIterator[Redis]:
    client = connect(reached.redis, timeout_seconds=5)
    yield client
    await client.aclose()


@pytest.fixture
def registry(redis: Redis) -> Registry:
    return Registry(redis, POOL)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def definition() -> None:
    """For tests without the release; one that comes later adopts it."""
    async with connected() as cluster:
        await own_operator.define(cluster)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def own_namespace(definition: None) -> AsyncIterator[str]:
    async with connected() as cluster, own_operator.namespace(cluster, OWN) as name:
        yield name


@pytest.fixture
async def own_pool(
    cluster: Cluster, own_namespace: str, own_redis: Redis, redis_url: str, operator_log: Path
) -> AsyncIterator[OwnPool]:
    """Each test's has another name, so that none waits for the last one's pods to end."""
    async with prepared(next(own_names), cluster, own_namespace, own_redis, redis_url, operator_log) as made:
        yield made


@pytest.fixture
def operator_log(tmp_path: Path) -> Iterator[Path]:
    """Of the operators of a test's own."""
    file = tmp_path / "operator.log"
    file.touch()
    yield file
    sys.stdout.write(file.read_text())  # shown where the test failed


@pytest.fixture
async def own_redis(redis_url: str) -> AsyncIterator[Redis]:
    """An empty one of this machine, for an operator of a test's own."""
    client = connect(redis_url, timeout_seconds=5)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def postgres(reached: Addresses) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(reached.postgres, autocommit=True, connect_timeout=5) as made:
        yield made


@pytest.fixture
async def caller(
    cluster: Cluster, release: Release, reached: Addresses, pools: Pools, registry: Registry
) -> AsyncIterator[Caller]:
    """A caller from outside, of a pool that is whole before and after."""
    async with aiohttp.ClientSession(reached.gateway, timeout=TIMEOUT) as session:
        made = Caller(session, reached.api_key, TENANT)
        await until(made.is_known, 10, "the key is known")
        await until_whole(pools, registry)
        yield made
        await until_whole(pools, registry)
        assert restarts(await pools.pods(POOL)) == 0

"""An operator cut off from the API server, with watches that fell silent, with a wrong clock, before a full cluster."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
from harness.waiting import until
from k8s.cluster import Cluster
from k8s.own_gateway import lease, serving
from k8s.own_pool import OwnPool
from k8s.relay import Relay, relaying

from warmpool.registry import PodState, Released

WITHIN_SECONDS: Final = 15.0
POD_START_SECONDS: Final = 15.0
"""Of two pods at once, on two cores that do other work as well; a lone one takes 3 to 5 s."""
LOST_THE_LEASE: Final = 4
PENDING: Final = "PodsUnschedulable"

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def relay(cluster: Cluster) -> AsyncIterator[Relay]:
    server = urlsplit(cluster.api.configuration.host)
    async with relaying(server.hostname, server.port or 443) as made:
        yield made


async def kill(pool: OwnPool, name: str) -> None:
    """So that nothing of it can say goodbye."""
    pod = await pool.cluster.core.read_namespaced_pod(name, pool.pools.namespace)
    await pool.cluster.delete_pod(pod)


async def passed(seconds: float) -> None:
    end = time.monotonic() + seconds
    await until(lambda: time.monotonic() >= end, seconds + 5)


# -- cut off


async def test_an_api_server_that_is_away_for_a_minute_delays_replacements_and_costs_no_lease(
    own_pool: OwnPool, relay: Relay
):
    """For one half of it every packet is lost, for the other nobody listens."""
    registry = own_pool.registry
    async with own_pool.kept_operator("--through", str(relay.port)) as ends:
        await own_pool.create(replicas=4)
        await own_pool.until_whole(4)
        before = set(own_pool.seen.names)
        held, dirty, dead = [await lease(registry) for _ in range(3)]
        relay.freeze()
        async with serving(registry) as gateway:
            gateway.dead.add(dead.pod)
            await registry.release(dirty, clean=False)
            await registry.release(dead, clean=True)
            await kill(own_pool, dead.pod)
            await passed(30)
            await relay.refuse()
            await passed(20)
            served = gateway.served
            await passed(10)
            assert gateway.served > served, "leases go on to the end"
            assert ends == [LOST_THE_LEASE], "it ended, and the next one stands by"
            standings = {name: standing.state for name, standing in (await registry.standings()).items()}
            await relay.open()
        assert standings.keys() >= before, "nothing is forgotten"
        announced = standings.keys() - before
        assert [standings[name] for name in announced] in ([], [PodState.WARMING]), "one refusal stands for all"
        assert standings[held.pod] is PodState.LEASED
        assert standings[dirty.pod] is standings[dead.pod] is PodState.RETIRING
        assert await registry.release(held, clean=True) is Released.IDLE
        await own_pool.until_whole(4, WITHIN_SECONDS + POD_START_SECONDS)
    assert len(own_pool.seen.names - before) == 2, "the dirty and the dead one are replaced, and no other"
    assert own_pool.seen.most <= 4 + 1


async def test_connections_that_die_unseen_cost_no_lease_and_are_noticed_by_their_silence(
    own_pool: OwnPool, relay: Relay
):
    async with own_pool.operator("--silence", "10", "--through", str(relay.port)) as operator:
        await own_pool.create(replicas=4)  # some are made at once, each over a connection
        await own_pool.until_whole(4)
        relay.freeze_what_is_there()
        await kill(own_pool, next(iter(own_pool.seen.names)))
        await own_pool.until_whole(4)
        await own_pool.change(replicas=5)
        await own_pool.until_whole(5)
        assert operator.returncode is None, "it leads all the time"


# -- a wrong clock


@pytest.mark.parametrize("minutes", [-5, 5])
async def test_an_operator_with_a_wrong_clock_ends_leases_in_time_and_is_succeeded_once_it_is_gone(
    own_pool: OwnPool, tmp_path: Path, minutes: int
):
    """Redis, the cluster and the other operator have the right one."""
    registry, asked = own_pool.registry, tmp_path / "requests"
    async with own_pool.operator("--clock", str(60 * minutes), WARMPOOL_OPERATOR__IDENTITY="wrong") as wrong:
        await own_pool.create(replicas=2)
        await own_pool.until_whole(2)
        async with own_pool.operator("--requests", str(asked), WARMPOOL_OPERATOR__IDENTITY="right"):
            kept, short = await lease(registry), await lease(registry, hold_seconds=5.0)

            async def is_ended() -> bool:
                standing = (await registry.standings()).get(short.pod)
                return standing is None or standing.state is not PodState.LEASED

            await until(is_ended, 5.0 + WITHIN_SECONDS, "the lease ends")
            assert time.time() >= short.deadline, "not before its time"
            await until(lambda: len(answers(asked)) >= 3, 20, "the right one has tried to lead, again and again")
            assert await own_pool.holder() == "wrong"
            assert (await registry.standings())[kept.pod].state is PodState.LEASED
            wrong.kill()

            async def is_succeeded() -> bool:
                return await own_pool.holder() == "right"

            await until(is_succeeded, WITHIN_SECONDS + 5, "the right one leads")
            assert await registry.release(kept, clean=False) is Released.RETIRED
            await own_pool.until_whole(2)
    assert len(own_pool.seen.names) == 4, "two were replaced"


def answers(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


# -- no node


async def test_a_pool_on_a_cordoned_node_says_so_once_and_waits(own_pool: OwnPool, cluster: Cluster):
    async with own_pool.operator():
        await own_pool.create(replicas=1)
        await own_pool.until_whole(1)
        async with cordoned(cluster):
            await own_pool.change(replicas=3)
            condition = await own_pool.pools.until_condition(own_pool.name, "Ready", "False", 20, PENDING.__eq__)
            assert "unschedulable" in condition["message"]
            await passed(5)
            assert own_pool.seen.most <= 3
        await own_pool.until_whole(3)
    assert len(own_pool.seen.names) == 3, "those that waited serve, and no other was made"
    events = await cluster.events(own_pool.pools.namespace, name=own_pool.name, kind="SandboxPool")
    assert [event.reason for event in events].count(PENDING) == 1


@asynccontextmanager
async def cordoned(cluster: Cluster) -> AsyncIterator[None]:
    """Every node that was not before. Nobody's pods find one meanwhile."""
    nodes = [node.metadata.name for node in (await cluster.core.list_node()).items if not node.spec.unschedulable]

    async def mark(unschedulable: bool) -> None:
        for node in nodes:
            await cluster.core.patch_node(node, {"spec": {"unschedulable": unschedulable}})

    await mark(True)
    try:
        yield
    finally:
        await mark(False)

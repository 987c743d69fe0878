"""A gateway process that is asked to end under load, as in every rolling update."""

import asyncio
import time
from collections import Counter
from typing import Any

import aiohttp
import psycopg
import pytest

from warmpool.registry import Counts, PodState

LINGER_SECONDS = 1.0


@pytest.fixture
def changes() -> dict[str, Any]:
    return {"stop": {"linger_seconds": LINGER_SECONDS}}


async def under_way(gateway, number: int) -> list[asyncio.Task[tuple[int, Any]]]:
    """So many calls; those for which there is a pod run by now, the others wait."""
    await gateway.until_ready(200)
    asking = [asyncio.create_task(gateway.run()) for _ in range(number)]
    async with asyncio.timeout(10):
        while len(gateway.runs) < min(number, len(gateway.pods)):
            await asyncio.sleep(0.01)
    return asking


async def recorded(database: str) -> set[str]:
    async with await psycopg.AsyncConnection.connect(database) as connection:
        rows = await connection.execute("SELECT id FROM executions")
        return {id for (id,) in await rows.fetchall()}


async def test_programs_under_way_end_well_are_recorded_and_give_their_leases_back(gateway, database):
    await gateway.add_pods(20)
    asking = await under_way(gateway, 20)
    gateway.stop()
    await gateway.until_ready(503)
    gateway.may_end.set()
    answers = await asyncio.gather(*asking)
    assert [status for status, _, _ in answers] == [200] * 20
    assert await gateway.ended(LINGER_SECONDS + 5) == 0
    assert await gateway.registry.counts() == Counts(warming=0, idle=20, leased=0, retiring=0)
    assert await recorded(database) == {body["id"] for _, _, body in answers} == set(gateway.runs)


async def test_callers_in_the_queue_are_served_and_nothing_runs_twice(gateway):
    await gateway.add_pods(2)
    asking = await under_way(gateway, 10)
    gateway.stop()
    gateway.may_end.set()
    answers = await asyncio.gather(*asking)
    assert [status for status, _, _ in answers] == [200] * 10
    assert await gateway.ended(LINGER_SECONDS + 5) == 0
    assert gateway.runs == Counter(body["id"] for _, _, body in answers)


async def test_who_has_not_heard_of_the_end_is_served_and_told_to_close(gateway):
    await gateway.add_pods(1)
    gateway.may_end.set()
    await gateway.until_ready(200)
    assert (await gateway.run())[:2] == (200, None)
    gateway.stop()
    stopped = time.monotonic()
    await gateway.until_ready(503)
    while time.monotonic() < stopped + LINGER_SECONDS - 0.2:
        assert (await gateway.run())[:2] == (200, "close")
    assert await gateway.ended(LINGER_SECONDS + 3) == 0
    with pytest.raises(aiohttp.ClientConnectionError):
        await gateway.run()


class TestThePatienceIsOver:
    @pytest.fixture
    def changes(self) -> dict[str, Any]:
        return {"stop": {"linger_seconds": 0, "grace_seconds": 1}}

    async def test_programs_are_cancelled_and_callers_told(self, gateway):
        await gateway.add_pods(1)
        (pod,) = gateway.pods
        pod.script = pod.until_cancelled
        runs, waits = await under_way(gateway, 2)
        gateway.stop()
        (status, _, ran), (waited_status, _, waited) = await asyncio.gather(runs, waits)
        assert (status, waited_status) == (503, 503)
        assert ran["execution"] in gateway.runs
        assert waited["execution"] not in gateway.runs
        assert await gateway.ended(5) == 0
        assert [pod.state for pod in await gateway.registry.pods()] == [PodState.IDLE]

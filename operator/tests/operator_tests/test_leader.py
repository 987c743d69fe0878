"""Candidates for one Lease, in virtual time, before an API server that is late, loses answers, or is away."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operator_tests import virtual_time
from warmpool.settings import OperatorSettings
from warmpool_operator.api import ApiError
from warmpool_operator.leader import LEASE_SECONDS, MARGIN_SECONDS, RENEW_SECONDS, TRY_SECONDS, Leader

TAKE_OVER_SECONDS = LEASE_SECONDS + TRY_SECONDS + 0.5
"""From a leader's end to its successor's start; what the server takes to answer comes on top."""


class Leases:
    """One Lease, written only by who knows its present version. Serves as the `Api` of each candidate."""

    def __init__(self, seed: int = 0) -> None:
        self.lease: dict[str, Any] | None = None
        self.away = False
        self.delay = 0.0
        """The most that a request takes on its way there, and again on its way back."""
        self.losses = 0.0
        """How likely an answer is lost."""
        self.dead_connections = 0
        """On which the next requests go, and get no answer."""
        self._version = 0
        self._random = random.Random(seed)

    async def call(self, method: str, path: str, body: Any = None, *, timeout_seconds: float) -> dict[str, Any]:
        if self.dead_connections:
            self.dead_connections -= 1
            await asyncio.sleep(timeout_seconds)
            raise ApiError(0, "Unreachable", "no answer in time")
        await asyncio.sleep(self._random.uniform(0, self.delay))
        if self.away:
            raise ApiError(0, "Unreachable", "away")
        answer = self._answer(method, body)
        await asyncio.sleep(self._random.uniform(0, self.delay))
        if self._random.random() < self.losses:
            raise ApiError(0, "Unreachable", "the answer was lost")
        if isinstance(answer, ApiError):
            raise answer
        return answer

    def _answer(self, method: str, body: Any) -> dict[str, Any] | ApiError:
        if method == "POST":
            return ApiError(409, "AlreadyExists", "") if self.lease else self._put(body)
        if self.lease is None:
            return ApiError(404, "NotFound", "")
        if method == "GET":
            return {"metadata": dict(self.lease["metadata"]), "spec": dict(self.lease["spec"])}
        version = body["preconditions" if method == "DELETE" else "metadata"]["resourceVersion"]
        if version != self.lease["metadata"]["resourceVersion"]:
            return ApiError(409, "Conflict", "")
        if method == "DELETE":
            self.lease = None
            return {}
        return self._put(body)

    def _put(self, body: dict[str, Any]) -> dict[str, Any]:
        self._version += 1
        self.lease = {"metadata": {"resourceVersion": str(self._version)}, "spec": dict(body["spec"])}
        return self.lease


def candidate(leases: Leases, name: str) -> Leader:
    clock = asyncio.get_running_loop().time
    return Leader(leases, OperatorSettings(identity=name), clock=clock)  # type: ignore[arg-type]


@asynccontextmanager
async def running(work: Awaitable[Any]) -> AsyncIterator["asyncio.Future[Any]"]:
    task = asyncio.ensure_future(work)
    yield task
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def passed(work: Awaitable[Any]) -> float:
    """Seconds that it takes."""
    clock = asyncio.get_running_loop().time
    began = clock()
    await work
    return clock() - began


def in_virtual_time(test: Callable[[], Any]) -> Callable[[], None]:
    def run() -> None:
        virtual_time.run(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@in_virtual_time
async def test_the_first_candidate_leads_at_once_and_the_second_waits_as_long_as_it_renews():
    leases = Leases()
    first, second = candidate(leases, "first"), candidate(leases, "second")
    assert await passed(first.acquire()) == 0
    async with running(first.hold()), running(second.acquire()) as waiting:
        await asyncio.sleep(100 * LEASE_SECONDS)
        assert first.leads()
        assert not waiting.done()
        assert not second.leads()


@in_virtual_time
async def test_a_leader_that_dies_is_followed_within_fifteen_seconds():
    leases = Leases()
    first, second = candidate(leases, "first"), candidate(leases, "second")
    await first.acquire()
    async with running(second.acquire()) as waiting:
        async with running(first.hold()):
            await asyncio.sleep(100)
        assert await passed(waiting) <= TAKE_OVER_SECONDS <= 15


@in_virtual_time
async def test_a_leader_that_releases_is_followed_at_the_next_try():
    leases = Leases()
    first, second = candidate(leases, "first"), candidate(leases, "second")
    await first.acquire()
    async with running(second.acquire()) as waiting:
        await asyncio.sleep(1)
        await first.release()
        assert leases.lease is None or leases.lease["spec"]["holderIdentity"] == "second"
        assert await passed(waiting) <= TRY_SECONDS


@in_virtual_time
async def test_who_does_not_hold_the_lease_does_not_release_it():
    leases = Leases()
    first, second = candidate(leases, "first"), candidate(leases, "second")
    await first.acquire()
    await second.release()
    assert leases.lease is not None
    assert leases.lease["spec"]["holderIdentity"] == "first"


@in_virtual_time
async def test_a_leader_that_cannot_renew_stops_before_any_other_may_begin():
    leases = Leases()
    leader = candidate(leases, "leader")
    await leader.acquire()
    leases.away = True
    assert await passed(leader.hold()) <= LEASE_SECONDS - MARGIN_SECONDS + RENEW_SECONDS
    assert not leader.leads()


@in_virtual_time
async def test_a_leader_rides_out_an_api_server_that_is_away_for_a_moment():
    leases = Leases()
    leader = candidate(leases, "leader")
    await leader.acquire()
    async with running(leader.hold()) as holding:
        leases.away = True
        await asyncio.sleep(LEASE_SECONDS - MARGIN_SECONDS - RENEW_SECONDS - 0.5)
        assert leader.leads()
        leases.away = False
        await asyncio.sleep(10 * LEASE_SECONDS)
        assert leader.leads()
        assert not holding.done()


@in_virtual_time
async def test_a_leader_rides_out_a_connection_that_died_unseen():
    leases = Leases()
    leader = candidate(leases, "leader")
    await leader.acquire()
    async with running(leader.hold()) as holding:
        leases.dead_connections = 1
        for _ in range(10 * LEASE_SECONDS):
            await asyncio.sleep(1)
            assert leader.leads()
        assert not holding.done()


@in_virtual_time
async def test_a_leader_whose_lease_was_taken_ends_at_its_next_renewal():
    leases = Leases()
    leader = candidate(leases, "leader")
    await leader.acquire()
    assert leases.lease is not None
    leases.lease["spec"] |= {"holderIdentity": "another"}
    assert await passed(leader.hold()) == RENEW_SECONDS
    assert not leader.leads()


@pytest.mark.parametrize("holder", ["", None])
def test_a_lease_that_nobody_holds_is_taken_at_once(holder: str | None):
    async def taken() -> None:
        leases = Leases()
        await candidate(leases, "first").acquire()
        assert leases.lease is not None
        leases.lease["spec"]["holderIdentity"] = holder
        assert await passed(candidate(leases, "second").acquire()) == 0

    virtual_time.run(taken())


@given(seed=st.integers(0, 2**32), losses=st.sampled_from([0.0, 0.2, 0.5]), delay=st.sampled_from([0.0, 0.5, 1.4]))
def test_at_no_moment_two_lead(seed: int, losses: float, delay: float):
    """Whatever is lost or late, up to what the margin allows; candidates die and come again under other names."""

    async def world() -> None:
        leases, chance = Leases(seed), random.Random(seed)
        leases.losses, leases.delay = losses, delay
        living: list[Leader] = []
        terms = 0

        async def life(number: int) -> None:
            nonlocal terms
            while True:
                leader = candidate(leases, f"{number}-{chance.random()}")
                living.append(leader)
                with suppress(TimeoutError):
                    async with asyncio.timeout(chance.uniform(5, 120)):  # then it is killed
                        await leader.acquire()
                        terms += 1
                        await leader.hold()
                living.remove(leader)

        async def outages() -> None:
            while True:
                await asyncio.sleep(chance.uniform(1, 60))
                leases.away = True
                await asyncio.sleep(chance.uniform(0, 30))
                leases.away = False

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(life(number)) for number in range(3)]
            tasks.append(group.create_task(outages()))
            for _ in range(3000):
                await asyncio.sleep(0.1)
                assert sum(leader.leads() for leader in living) <= 1
            for task in tasks:
                task.cancel()
        assert terms or losses, "nobody ever led"

    virtual_time.run(world())

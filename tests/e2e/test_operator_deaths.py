"""An operator killed at any step of its work: the next one makes the pool whole, and nothing was made in vain.

The next one has the same name, as a container that a kubelet starts again: the Lease is its own at once.
"""

import asyncio
import signal
from typing import Final

import pytest
from k8s.own_operator import Process
from k8s.own_pool import OwnPool

PODS: Final = 3
"""The first is made alone, then the others in one batch."""
DEATH_SECONDS: Final = 40.0
"""For an operator to start and to come to its step, beside whatever else two cores do."""

pytestmark = pytest.mark.timeout(120)


async def until_killed(operator: Process) -> None:
    async with asyncio.timeout(DEATH_SECONDS):
        assert await operator.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    "death",
    [
        "before 1 announce",
        "after 2 announce",
        "before 2 make",
        "after 2 make",  # in the middle of the batch: the other one's making is on its way
        "after 3 make",
        "before 2 register",
        "after 2 register",
        "before 1 say",
        "after 2 say",
    ],
)
async def test_an_operator_killed_while_a_pool_fills_is_succeeded_and_no_pod_is_made_twice(
    own_pool: OwnPool, death: str
):
    async with own_pool.operator("--dies", *death.split()) as doomed:
        await own_pool.create(replicas=PODS)
        await until_killed(doomed)
    async with own_pool.operator():
        await own_pool.until_whole(PODS)
    assert len(own_pool.seen.names) == PODS, "nothing was to be replaced, so not one more is made"


@pytest.mark.parametrize(
    "death",
    [
        "before 1 retire",
        "after 1 retire",
        "before 1 delete",
        "after 1 delete",
        "before 1 forget",
        "after 1 forget",
    ],
)
async def test_an_operator_killed_while_a_pool_shrinks_is_succeeded_and_the_rest_serves_on(
    own_pool: OwnPool, death: str
):
    async with own_pool.operator("--dies", *death.split()) as doomed:
        await own_pool.create(replicas=PODS)
        await own_pool.until_whole(PODS)
        await own_pool.change(replicas=1)
        await until_killed(doomed)
    async with own_pool.operator():
        await own_pool.until_whole(1)
    assert len(own_pool.seen.names) == PODS, "none is made while a pool shrinks"

"""What gateways have counted comes to whoever owns the pods."""

import asyncio
from contextlib import AsyncExitStack

from warmpool.registry import Demand, Registry, connect

SECONDS = 10
"""Long enough for any push; only a failing test waits it out."""


async def test_what_each_gateway_counted_is_read_with_its_age(pool):
    one = Demand(arrivals=7, releases=5, held_seconds=2.5, waiting=2)
    await pool.registry.report_demand("g1", one)
    pool.clock.advance(3)
    await pool.registry.report_demand("g2", Demand(arrivals=1))
    found = await pool.registry.demands(60)
    assert found == {
        "g1": Demand(arrivals=7, releases=5, held_seconds=2.5, waiting=2, age_seconds=3),
        "g2": Demand(arrivals=1),
    }


async def test_a_gateway_that_says_nothing_for_long_is_forgotten(pool):
    await pool.registry.report_demand("g1", Demand(arrivals=7))
    pool.clock.advance(60)
    await pool.registry.report_demand("g2", Demand())
    assert set(await pool.registry.demands(60)) == {"g2"}
    pool.clock.advance(-30)
    assert set(await pool.registry.demands(60)) == {"g2"}


async def heard(changes):
    async with asyncio.timeout(SECONDS):
        await anext(changes)


async def test_whoever_owns_the_pods_hears_of_losses_and_of_callers_that_wait(pool):
    await pool.add("p1", "p2")
    lease = await pool.lease()
    async with pool.registry.changes() as changes:
        await pool.registry.release(lease, clean=False)
        await heard(changes)
        await pool.registry.retire("p1", "ScaledDown")
        await heard(changes)
        await pool.registry.report_demand("g1", Demand(waiting=1))
        await heard(changes)


async def test_nobody_is_told_of_what_needs_no_pod(pool):
    await pool.add("p1")
    await pool.registry.report_demand("g1", Demand(arrivals=5, waiting=3))
    async with pool.registry.changes() as changes:
        lease = await pool.lease()
        await pool.registry.release(lease, clean=True)
        await pool.registry.report_demand("g1", Demand(arrivals=6, waiting=3))
        await pool.registry.report_demand("g1", Demand(arrivals=6, waiting=1))
        await pool.redis.publish("warmpool:{main}:changes", "mark")
        await heard(changes)  # the mark, and nothing before it
        waiting = asyncio.create_task(anext(changes))
        await pool.redis.ping()
        assert not waiting.done()
        waiting.cancel()


async def test_as_many_may_listen_as_were_told_of_and_commands_go_on(redis_url):
    client = connect(redis_url, timeout_seconds=1, subscriptions=100)
    try:
        async with AsyncExitStack() as exits:
            for number in range(100):
                await exits.enter_async_context(Registry(client, f"p{number}").changes())
            await asyncio.gather(*(Registry(client, f"p{number}").counts() for number in range(100)))
    finally:
        await client.aclose()

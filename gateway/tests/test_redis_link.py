"""The client that sends commands together, against a real Redis that restarts, refuses and stalls."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import ConnectionError, ResponseError, TimeoutError

from warmpool_gateway.redis_link import PipelinedRedis


@pytest.fixture
async def link(redis, redis_url) -> AsyncIterator[PipelinedRedis]:
    client = PipelinedRedis.connect(redis_url, timeout_seconds=2.0)
    yield client
    await client.aclose()


async def test_commands_of_one_turn_run_in_the_order_in_which_they_were_asked_for(link):
    script = link.register_script("return redis.call('INCR', KEYS[1])")
    await script(keys=["n"])
    replies = await asyncio.gather(*(script(keys=["n"]) for _ in range(100)))
    assert replies == list(range(2, 102))


async def test_a_script_that_redis_does_not_know_is_loaded(link, redis):
    script = link.register_script("return ARGV[1]")
    assert await script(args=["a"]) == "a"
    await redis.script_flush()
    assert await script(args=["b"]) == "b"


async def test_an_error_reply_reaches_its_own_caller_only(link):
    fail = link.register_script("return redis.error_reply('no')")
    say = link.register_script("return 'yes'")
    await say()
    first, refused, last = await asyncio.gather(say(), fail(), say(), return_exceptions=True)
    assert (first, last) == ("yes", "yes")
    assert isinstance(refused, ResponseError)


async def test_other_commands_go_the_ordinary_way(link):
    await link.set("key", "é")
    assert await link.get("key") == "é"
    assert await link.xadd("stream", {"a": "b"})
    assert await link.xlen("stream") == 1
    assert await link.ping()


async def test_a_connection_that_redis_closed_fails_no_later_command(redis, redis_relay):
    link = PipelinedRedis.connect(redis_relay.url, timeout_seconds=2.0)
    await link.set("key", "é")
    await redis.client_kill_filter(_type="normal", skipme=True)
    await redis_relay.until_cut()
    assert await link.get("key") == "é"
    await link.aclose()


async def test_a_cancelled_caller_does_not_shift_the_replies_of_the_others(link):
    script = link.register_script("return ARGV[1]")
    await script(args=["x"])
    tasks = [asyncio.create_task(script(args=[str(number)])) for number in range(5)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    replies = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(replies[1], asyncio.CancelledError)
    assert [replies[0], *replies[2:]] == ["0", "2", "3", "4"]


async def test_a_lost_connection_fails_those_in_wait_and_the_next_command_connects_anew(link, redis):
    assert await link.ping()
    await redis.client_pause(10_000, all=False)  # so that the reply is outstanding when the connection ends
    waiting = asyncio.create_task(link.xadd("stream", {"a": "b"}))
    await asyncio.sleep(0)
    for client in await other_clients(redis):
        await redis.client_kill_filter(_id=client)
    with pytest.raises(ConnectionError):
        await waiting
    await redis.client_unpause()
    assert await link.ping()


async def other_clients(redis) -> list[str]:
    me = await redis.client_id()
    return [client["id"] for client in await redis.client_list() if int(client["id"]) != me]


async def test_a_redis_that_is_stopped_fails_at_once_and_serves_again_after_its_start(link, redis_server):
    assert await link.ping()
    redis_server.stop()
    with pytest.raises(ConnectionError):
        await link.ping()
    redis_server.start()
    assert await link.ping()


async def test_a_stalled_redis_times_out_and_the_connection_is_not_used_again(redis, redis_url):
    link = PipelinedRedis.connect(redis_url, timeout_seconds=0.1)
    try:
        assert await link.ping()
        await redis.client_pause(10_000, all=False)
        with pytest.raises(TimeoutError):
            await link.xadd("stream", {"lost": "or not"})
        await redis.client_unpause()
        assert await link.ping()
    finally:
        await link.aclose()


async def test_closing_fails_what_is_in_wait(redis, redis_url):
    link = PipelinedRedis.connect(redis_url, timeout_seconds=2.0)
    waiting = asyncio.create_task(link.ping())
    await asyncio.sleep(0)
    await link.aclose()
    with pytest.raises(ConnectionError):
        await waiting

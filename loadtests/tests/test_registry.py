"""The bench of the registry measures and cleans up; its figures are judged elsewhere, never in a test."""

from warmpool_loadtests.registry import measure


async def test_it_reports_every_size_and_leaves_nothing_in_redis(redis, redis_url):
    await redis.set("of-others", "kept")
    report = await measure(redis_url, sizes=(2, 5, 9), rounds=3, pairs=4)
    assert [pool["pods"] for pool in report["pools"]] == [2, 5, 9]
    assert report["pools"][0]["redis_ratio"]["median"] == 1
    assert all(pool["acquire"]["p99"] >= pool["acquire"]["p50"] > 0 for pool in report["pools"])
    assert await redis.keys("*") == ["of-others"]

"""The bench of the registry measures and cleans up; its figures are judged elsewhere, never in a test."""

from warmpool_loadtests.registry import measure, table


async def test_it_reports_every_size_and_leaves_nothing_in_redis(redis, redis_url):
    await redis.set("of-others", "kept")
    report = await measure(redis_url, sizes=(2, 5, 9), rounds=3, pairs=4)
    assert [pool["pods"] for pool in report["pools"]] == [2, 5, 9]
    assert report["pools"][0]["redis_ratio"]["median"] == 1
    assert all(pool["acquire"]["p99"] >= pool["acquire"]["p50"] > 0 for pool in report["pools"])
    assert await redis.keys("*") == ["of-others"]


async def test_its_table_has_a_line_for_every_size(redis_url):
    report = await measure(redis_url, sizes=(2, 3), rounds=2, pairs=3)
    lines = table(report).splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["2", "3"]
    assert ("NOT flat" in lines[-1]) is not report["flat"]

"""Whether a gateway is alive, ready or degraded, and what callers hear of what is away."""

import asyncio

import psycopg
import pytest


async def test_it_is_alive_and_ready_with_a_pod(house, pod):
    assert await house.ask("GET", "/healthz") == (200, {"status": "alive"})
    await house.gateway.queue.look()
    _, readiness = await house.ask("GET", "/readyz")
    assert readiness["status"] == "ready"
    assert set(readiness["checks"].values()) == {"ok"}


async def test_it_is_not_alive_when_its_background_work_has_ended(house):
    house.gateway.background[0].cancel()
    await asyncio.wait(house.gateway.background[:1])
    status, problem = await house.ask("GET", "/healthz")
    assert (status, problem["type"]) == (503, "urn:warmpool:problem:not_alive")


async def test_it_is_degraded_without_pods_for_callers_may_wait_for_one(house):
    status, readiness = await house.ask("GET", "/readyz")
    assert (status, readiness["status"], readiness["checks"]["pods"]) == (200, "degraded", "none")


async def test_it_is_degraded_without_tools_for_programs_run(house, pod):
    house.tools.ready = False
    status, readiness = await house.ask("GET", "/readyz")
    assert (status, readiness["status"], readiness["checks"]["tools"]) == (200, "degraded", "away")


@pytest.mark.parametrize("changes", [{"tools": {"url": "http://127.0.0.1:9"}}])
async def test_one_that_starts_waits_a_while_for_a_way_to_the_tools(house, pod, monkeypatch):
    status, problem = await house.ask("GET", "/readyz")
    assert (status, problem["detail"]) == (503, "Not ready: tools.")
    monkeypatch.setattr("warmpool_gateway.gateway.ROUTE_SECONDS", 0.0)
    status, readiness = await house.ask("GET", "/readyz")
    assert (status, readiness["status"]) == (200, "degraded")


async def test_it_is_not_ready_without_redis_and_says_so_to_callers(house, pod, redis_server, monkeypatch, caplog):
    monkeypatch.setattr("warmpool_gateway.queue.AWAY_SECONDS", 0.01)
    redis_server.stop()
    try:
        status, problem = await house.ask("GET", "/readyz")
        assert (status, problem["checks"]["redis"]) == (503, "away")
        status, problem = await house.run()
        assert (status, problem["type"]) == (503, "urn:warmpool:problem:unavailable")
        assert problem["detail"] == "The pool's registry is away."
    finally:
        redis_server.start()
    assert "the pool's registry is away: " in caplog.text


async def test_records_of_a_database_without_tables_are_away(house, database):
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute("DROP TABLE executions CASCADE")
    status, problem = await house.ask("GET", "/v1/executions")
    assert (status, problem["type"]) == (503, "urn:warmpool:problem:unavailable")

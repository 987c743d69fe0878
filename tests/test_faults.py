"""Parts that die, hang or are away: what runs ends in its status, and the pool is whole once the part is back."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Any

import aiohttp
import psutil
import pytest
from harness.caller import Answer, Caller
from harness.running import RunningStack
from harness.waiting import until
from harness.wholeness import is_running, programs, zygote
from redis.asyncio import Redis

from warmpool.local.pod import LocalPod
from warmpool.local.service import Service
from warmpool.registry import PodState, Registry


async def under_way(caller: Caller, running: RunningStack, code: str, **more: Any) -> asyncio.Task[dict[str, Any]]:
    """The call of a program that runs by now."""
    asking = asyncio.create_task(caller.run(code, **more))
    await until(lambda: is_running(running) or asking.done(), 5, "the program runs")
    assert not asking.done(), await asking
    return asking


def busy_pod(running: RunningStack) -> LocalPod:
    return next(pod for pod in running.parts.pool.pods if programs(pod.pid))


def sleep(seconds: float, value: str = "woke up") -> str:
    return f"import time\ntime.sleep({seconds})\nreturn {value!r}"


async def is_recorded(caller: Caller, ran: dict[str, Any]) -> bool:
    answer = await caller.get(f"/v1/executions/{ran['id']}")
    return answer.status == 200 and answer.body["status"] == ran["status"]


# -- Redis


async def test_a_program_under_way_ends_well_when_redis_restarts(caller: Caller, running: RunningStack):
    asking = await under_way(caller, running, sleep(1))
    running.parts.redis.restart()
    ran = await asking
    assert (ran["status"], ran["result"]) == ("ok", "woke up")
    await until(lambda: is_recorded(caller, ran), 5, "the record")


async def test_a_redis_that_comes_back_empty_gets_new_pods_and_no_old_one_is_leased_again(
    caller: Caller, running: RunningStack, registry: Registry
):
    before = {pod.id for pod in running.parts.pool.pods}
    asking = await under_way(caller, running, sleep(1))
    running.parts.redis.kill()
    running.parts.redis.start()
    assert (await asking)["result"] == "woke up"

    async def are_new() -> bool:
        pods = {pod.id for pod in await registry.pods()}
        return len(pods) == running.pods and not pods & before

    await until(are_new, 15, "new pods")


async def test_pods_that_are_of_age_go_one_after_another(running: RunningStack, registry: Registry, stack_redis: Redis):
    before = {pod.id for pod in await registry.pods()}
    await come_of_age(stack_redis, registry.pool, before)
    fewest = running.pods

    async def are_new() -> bool:
        nonlocal fewest
        pods = await registry.pods()
        idle = {pod.id for pod in pods if pod.state is PodState.IDLE}
        fewest = min(fewest, len(idle))
        return len(idle) == running.pods and not idle & before

    await until(are_new, 15, "new pods")
    assert fewest == running.pods - 1


async def come_of_age(redis: Redis, pool: str, pods: Iterable[str]) -> None:
    assert await redis.zadd(f"warmpool:{{{pool}}}:ages", dict.fromkeys(pods, 0), xx=True, ch=True)


async def test_with_redis_away_callers_hear_so_soon_and_what_runs_ends_well(caller: Caller, running: RunningStack):
    asking = await under_way(caller, running, sleep(2))
    running.parts.redis.kill()
    try:
        first, health = await asyncio.gather(
            caller.post("/v1/executions", {"code": "return 1"}), caller.get("/healthz")
        )
        assert (first.status, first.problem) == (503, "unavailable")
        assert first.seconds < 4.5
        assert first.retry_after is not None
        assert health.status == 200
        at_once = await caller.post("/v1/executions", {"code": "return 1"})
        assert (at_once.status, at_once.seconds < 1) == (503, True)
        unready = await caller.get("/readyz")
        assert (unready.status, unready.body["checks"]["redis"]) == (503, "away")
        ran = await asking
        assert (ran["status"], ran["result"]) == ("ok", "woke up")
    finally:
        running.parts.redis.start()
    await until(lambda: is_recorded(caller, ran), 8, "the record")


async def test_callers_that_come_while_redis_restarts_are_served_when_it_is_back(caller: Caller, running: RunningStack):
    running.parts.redis.kill()
    asking = [asyncio.create_task(caller.post("/v1/executions", {"code": f"return {n}"})) for n in range(10)]
    await asyncio.sleep(0.3)
    running.parts.redis.start()
    answers = await asyncio.gather(*asking)
    assert [answer.status for answer in answers] == [200] * 10
    assert [answer.body["result"] for answer in answers] == list(range(10))


# -- Postgres


@pytest.mark.timeout(120)
async def test_with_postgres_away_for_30_seconds_no_program_waits_and_all_records_come_later(
    caller: Caller, running: RunningStack
):
    with_it = await timed_runs(caller)
    running.parts.postgres.stop()
    try:
        without = await timed_runs(caller)
        reading, ready = await asyncio.gather(caller.get("/v1/executions"), caller.get("/readyz"))
        assert (reading.status, reading.problem) == (503, "unavailable")
        assert reading.seconds < 3
        assert (ready.status, ready.body["status"]) == (200, "degraded")
        await until_seconds_passed(30, caller)
        without += await timed_runs(caller)
    finally:
        running.parts.postgres.start()
    # One that had waited for Postgres would have waited for a connection's timeout, 5 s.
    assert max(answer.seconds for answer in without) < 2
    for answer in (*with_it, *without):
        await until(lambda ran=answer.body: is_recorded(caller, ran), 15, "the record")


async def timed_runs(caller: Caller) -> list[Answer]:
    answers = [await caller.post("/v1/executions", {"code": f"return {number}"}) for number in range(15)]
    assert [answer.body["result"] for answer in answers] == list(range(15))
    return answers


async def until_seconds_passed(seconds: float, caller: Caller) -> None:
    """Runs programs for so long."""
    async with asyncio.timeout(seconds + 5):
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            assert (await caller.run(sleep(0.05)))["status"] == "ok"


async def test_a_tool_with_postgres_away_raises_and_works_when_it_is_back(caller: Caller, running: RunningStack):
    search = "from servers.search import search_products\nreturn len(search_products('lamp', limit=3))"
    running.parts.postgres.stop()
    try:
        ran = await caller.run(search)
        assert (ran["status"], ran["error"]["type"]) == ("user_error", "ToolError"), ran
        assert ran["error"]["fields"]["code"] in ("unavailable", "timeout"), ran
    finally:
        running.parts.postgres.start()

    async def works() -> bool:
        return (await caller.run(search))["result"] == 3

    await until(works, 10, "the tool")


# -- the sandbox


async def test_a_supervisor_killed_mid_run_is_a_platform_error_and_replaced(caller: Caller, running: RunningStack):
    asking = await under_way(caller, running, sleep(30), seconds=10)
    lost = busy_pod(running)
    os.kill(lost.pid, signal.SIGKILL)
    ran = await asyncio.wait_for(asking, 2)
    assert (ran["status"], ran["error"]["type"]) == ("platform_error", "PlatformError")
    await until(lambda: lost.id not in {pod.id for pod in running.parts.pool.pods}, 5)


async def test_a_zygote_killed_mid_run_is_a_platform_error_and_its_pod_is_replaced(
    caller: Caller, running: RunningStack
):
    asking = await under_way(caller, running, sleep(30), seconds=10)
    lost = busy_pod(running)
    zygote(lost.pid).kill()
    ran = await asyncio.wait_for(asking, 2)
    assert (ran["status"], ran["error"]["type"]) == ("platform_error", "SandboxLost")
    await until(lambda: lost.id not in {pod.id for pod in running.parts.pool.pods}, 5)


async def until_gone(pids: Iterable[int]) -> None:
    for pid in pids:
        await until(lambda pid=pid: not psutil.pid_exists(pid), 5, f"process {pid} is reaped")


async def test_a_zygote_killed_between_runs_costs_no_caller_anything(caller: Caller, running: RunningStack):
    killed = [zygote(pod.pid) for pod in running.parts.pool.pods]
    for process in killed:
        process.kill()
    await until_gone(process.pid for process in killed)
    for number in range(2 * running.pods):
        ran = await caller.run(f"return {number}")
        assert (ran["status"], ran["result"]) == ("ok", number), ran


async def test_supervisors_killed_between_runs_cost_no_caller_anything(caller: Caller, running: RunningStack):
    killed = [pod.pid for pod in running.parts.pool.pods]
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    await until_gone(killed)  # a program sent to one that is just dying may have run, for all that anyone can tell
    ran = await caller.run("return 'served'", seconds=10)
    assert (ran["status"], ran["result"]) == ("ok", "served"), ran


async def test_a_programs_process_killed_from_outside_crashed_and_its_pod_stays(caller: Caller, running: RunningStack):
    asking = await under_way(caller, running, sleep(30), seconds=10)
    pod = busy_pod(running)
    programs(pod.pid)[0].kill()
    ran = await asyncio.wait_for(asking, 2)
    assert (ran["status"], ran["error"]["type"]) == ("crashed", "Signal")
    assert pod in running.parts.pool.pods


async def test_a_supervisor_that_hangs_is_given_up_after_the_deadline_and_replaced(
    caller: Caller, running: RunningStack
):
    asking = asyncio.create_task(caller.post("/v1/executions", {"code": sleep(30), "timeout_seconds": 0.5}))
    await until(lambda: is_running(running), 5)
    lost = busy_pod(running)
    os.kill(lost.pid, signal.SIGSTOP)
    answer = await asking
    assert (answer.body["status"], answer.body["error"]["type"]) == ("platform_error", "PlatformError")
    assert answer.seconds < 0.5 + 2 + 1  # the gateway waits two seconds for the word of a sandbox
    await until(lambda: lost.id not in {pod.id for pod in running.parts.pool.pods}, 5)


# -- the gateway


class Ending:
    """The gateway, to be ended by a signal; another serves on its socket afterwards."""

    def __init__(self, running: RunningStack) -> None:
        self._running = running
        self._service = running.parts.gateway
        self._ended = False

    def signal(self, number: signal.Signals) -> None:
        self._ended |= number in (signal.SIGTERM, signal.SIGKILL)
        os.kill(self._service.pid, number)

    async def start_again(self) -> None:
        if self._ended:
            self._ended = False
            await self._running.do(start_again(self._service))


async def start_again(service: Service) -> None:
    await service.ended()
    await service.start()
    await service.ready()


@pytest.fixture
async def gateway(caller: Caller, running: RunningStack) -> AsyncIterator[Ending]:
    ending = Ending(running)
    yield ending
    await ending.start_again()


async def test_a_gateway_that_is_asked_to_end_finishes_what_it_runs(
    caller: Caller, running: RunningStack, gateway: Ending
):
    asking = await under_way(caller, running, sleep(1))
    gateway.signal(signal.SIGTERM)
    assert (await asking)["result"] == "woke up"


async def test_a_gateway_that_is_asked_to_end_cancels_what_takes_too_long_and_leaks_no_lease(
    caller: Caller, running: RunningStack, gateway: Ending, registry: Registry
):
    before = {pod.id for pod in running.parts.pool.pods}
    asking = asyncio.create_task(caller.post("/v1/executions", {"code": sleep(30)}))
    await until(lambda: is_running(running), 5)
    gateway.signal(signal.SIGTERM)
    answer = await asking
    assert (answer.status, answer.problem) == (503, "unavailable")
    assert answer.seconds < 8
    await gateway.start_again()
    assert (await registry.counts()).leased == 0
    assert {pod.id for pod in await registry.pods()} == before
    recorded = await caller.get(f"/v1/executions/{answer.body['execution']}")
    assert recorded.body["status"] == "cancelled"


async def test_what_a_killed_gateway_ran_ends_at_once_and_its_lease_runs_out(
    caller: Caller, running: RunningStack, gateway: Ending
):
    asking = await under_way(caller, running, sleep(30), seconds=1)
    gateway.signal(signal.SIGKILL)
    await until(lambda: not is_running(running), 1, "the program has ended")
    await gateway.start_again()
    with pytest.raises(aiohttp.ClientError):
        await asking
    assert (await caller.run("return 1"))["result"] == 1


async def test_a_gateway_that_hung_past_its_lease_harms_nobody(
    caller: Caller, running: RunningStack, gateway: Ending, registry: Registry
):
    asking = asyncio.create_task(caller.post("/v1/executions", {"code": sleep(0.5), "timeout_seconds": 1}))
    await until(lambda: is_running(running), 5)
    gateway.signal(signal.SIGSTOP)
    try:

        async def is_taken_back() -> bool:
            return (await registry.counts()).leased == 0

        await until(is_taken_back, 6, "its lease runs out")
    finally:
        gateway.signal(signal.SIGCONT)
    assert (await asking).body["status"] in ("ok", "platform_error")  # by what it does first when it wakes up


# -- all together


async def test_faults_in_a_row_leave_every_caller_with_a_typed_answer(caller: Caller, running: RunningStack):
    """Random ones, under load; the seed is pytest-randomly's."""
    end = asyncio.get_running_loop().time() + 4
    answers: list[Answer] = []

    async def call() -> None:
        while asyncio.get_running_loop().time() < end:
            code = random.choice(["return 1", sleep(0.1), "from servers.search import search_products as s\ns('lamp')"])
            answers.append(await caller.post("/v1/executions", {"code": code, "timeout_seconds": 2}))

    async def harm() -> None:
        while asyncio.get_running_loop().time() < end:
            await asyncio.sleep(random.uniform(0.05, 0.5))
            with suppress(psutil.NoSuchProcess):
                random.choice([kill_a_supervisor, kill_a_zygote, restart_redis])(running)

    await asyncio.gather(harm(), *(call() for _ in range(6)))
    ends = {answer.body["status"] if answer.status == 200 else answer.problem for answer in answers}
    assert {"ok"} <= ends <= {"ok", "platform_error", "user_error", "unavailable", "pool_exhausted"}, ends
    assert max(answer.seconds for answer in answers) < 2 + 10 + 1  # its own deadline, after the longest wait for a pod


def kill_a_supervisor(running: RunningStack) -> None:
    alive = [pod.pid for pod in running.parts.pool.pods if pod.pid]
    if alive:
        psutil.Process(random.choice(alive)).kill()


def kill_a_zygote(running: RunningStack) -> None:
    alive = [process for pod in running.parts.pool.pods if (process := zygote(pod.pid))]
    if alive:
        random.choice(alive).kill()


def restart_redis(running: RunningStack) -> None:
    running.parts.redis.kill()
    running.parts.redis.start()

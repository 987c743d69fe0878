"""Idle pods stay in service without an operator, as long as they answer a greeting."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from warmpool.local.embedded import service_folder
from warmpool.local.pod import LocalPod
from warmpool.local.staging import stage
from warmpool.protocol import Limits
from warmpool.registry import NoPod, PodState, Registry
from warmpool_gateway import pods
from warmpool_gateway.heartbeats import Heartbeats
from warmpool_gateway.pod_stream import Program
from warmpool_gateway.pods import PodConnections

HEARTBEAT_SECONDS = 10.0
KEY = b"k" * 32


class Watched:
    """A pool whose time is in the test's hand, and one gateway's heartbeats of it."""

    def __init__(self, redis: Any) -> None:
        self.now = 1_800_000_000.0
        self.connections = PodConnections(key=KEY, pool="default")
        self.registry = Registry(redis, "default", heartbeat_seconds=HEARTBEAT_SECONDS, clock=lambda: self.now)
        self.heartbeats = Heartbeats(self.registry, self.connections, HEARTBEAT_SECONDS)

    async def add(self, *pods: Any) -> None:
        for pod in pods:
            name = getattr(pod, "pod", None) or pod.id
            await self.registry.register(name, pod.address, max_executions=1000, max_age_seconds=1e6)

    async def look_after(self, seconds: float) -> None:
        self.now += seconds
        await self.heartbeats.look()

    async def unseen_seconds(self) -> dict[str, float]:
        return {pod.id: self.now - pod.seen_at for pod in await self.registry.pods()}

    async def lease(self) -> Any:
        return await self.registry.acquire(execution="e", tenant="t", gateway="g", hold_seconds=30, quota=10)


@pytest.fixture
async def gone() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


async def no_tools(tool: str, arguments: dict[str, Any]) -> bytes:
    raise AssertionError(f"{tool} was called")


@pytest.fixture
async def watched(link) -> AsyncIterator[Watched]:
    made = Watched(link)
    yield made
    await made.connections.aclose()


async def test_a_pod_that_answers_is_seen_before_its_time_is_over(watched, supervisor):
    await watched.add(supervisor)
    await watched.look_after(4)
    assert (await watched.unseen_seconds(), supervisor.connections) == ({"pod-1": 4}, 0)  # someone else may see it yet
    await watched.look_after(2)
    assert (await watched.unseen_seconds(), supervisor.connections) == ({"pod-1": 0}, 1)
    assert len(watched.connections) == 1  # the stream is there for its next execution


async def test_a_pod_with_an_open_stream_has_to_answer_too(watched, supervisor):
    await watched.add(supervisor)
    await watched.look_after(6)
    await watched.look_after(6)
    assert (await watched.unseen_seconds(), supervisor.connections) == ({"pod-1": 0}, 2)
    assert len(watched.connections) == 1


async def test_a_leased_pod_is_left_alone(watched, supervisor):
    await watched.add(supervisor)
    await watched.lease()
    await watched.look_after(6)
    assert supervisor.connections == 0


@pytest.mark.parametrize("lie", [{"key": b"another" * 8}, {"pool": "other"}], ids=["another key", "another pool"])
async def test_a_pod_that_does_not_prove_itself_is_handed_out_no_more(watched, supervise, lie):
    await watched.add(await supervise(**lie))
    await watched.look_after(6)
    await watched.look_after(4)
    assert await watched.lease() is NoPod.EMPTY
    assert [pod.reason for pod in await watched.registry.pods()] == ["HeartbeatLost"]


async def test_dead_and_silent_pods_keep_nobody_from_the_living(watched, supervise, monkeypatch):
    monkeypatch.setattr(pods, "CONNECT_SECONDS", 0.05)
    dead, silent, alive = [await supervise(name) for name in ("dead", "silent", "alive")]
    await watched.add(dead, silent, alive)
    await dead.stop()
    monkeypatch.setattr(silent, "serve", lambda talk: asyncio.sleep(60))
    for _ in range(3):
        await watched.look_after(6)
    assert await watched.unseen_seconds() == {"dead": 18, "silent": 18, "alive": 0}
    assert (await watched.lease()).pod == "alive"


async def test_many_pods_are_greeted_a_few_at_a_time(watched, supervise, monkeypatch):
    supervisors = [await supervise(f"pod-{number}") for number in range(40)]
    await watched.add(*supervisors)
    at_once = peak = 0
    greet = watched.connections.greet

    async def counted(*pod: str) -> bool:
        nonlocal at_once, peak
        at_once += 1
        peak = max(peak, at_once)
        try:
            return await greet(*pod)
        finally:
            at_once -= 1

    monkeypatch.setattr(watched.connections, "greet", counted)
    await watched.look_after(6)
    assert set((await watched.unseen_seconds()).values()) == {0}
    assert peak == 16


async def test_a_pod_that_was_leased_during_its_greeting_has_one_stream(watched, supervisor, gone):
    await watched.add(supervisor)
    _, outcome = await asyncio.gather(
        watched.connections.greet("pod-1", supervisor.address),
        watched.connections.run(supervisor.lease(), Program(code="1"), no_tools, gone),
    )
    assert outcome.status == "ok"
    await asyncio.wait_for(supervisor.lost.wait(), 5)
    assert len(watched.connections) == 1


class TestARealSandbox:
    @pytest.fixture(autouse=True)
    def no_blocking_calls(self) -> None:
        """Not here: the single-machine mode may block to start one."""

    @pytest.fixture
    async def pod(self) -> AsyncIterator[LocalPod]:
        with service_folder() as folder:
            folder.chmod(0o711)  # it runs as a user of its own
            pod = LocalPod(folder, stage(folder / "sandbox"), pool="default", key=KEY, limits=Limits(), uid=3_000_001)
            await pod.start()
            yield pod
            await pod.stop()

    async def test_it_stays_leasable_without_an_operator_until_it_ends(self, watched, pod, gone):
        await watched.add(pod)
        for _ in range(5):
            await watched.look_after(6)
        lease = await watched.lease()
        outcome = await watched.connections.run(lease, Program(code="return 6 * 7"), no_tools, gone)
        assert (outcome.status, outcome.value) == ("ok", 42)
        await watched.registry.release(lease, clean=True)
        await pod.stop()
        await watched.look_after(10)
        assert await watched.lease() is NoPod.EMPTY


class TestAWholeGateway:
    @pytest.fixture
    def changes(self) -> dict[str, Any]:
        return {"pool": {"heartbeat_seconds": 0.5}}

    async def test_it_looks_by_itself(self, house, pod):
        async with asyncio.timeout(10):
            while pod.connections < 5:
                await asyncio.sleep(0.01)
        assert (await house.run())[0] == 200
        assert await house.states() == {"pod-1": PodState.IDLE}

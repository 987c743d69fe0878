"""How long a fault of `make chaos` lasts, by which the judge excuses what went wrong beside it."""

import asyncio
import random
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent / "e2e"))

from chaos import faults


class Cluster:
    """In which a deleted Redis is away until `start` is called."""

    def __init__(self) -> None:
        self.deleted = asyncio.Event()
        self._ready = [pod("old")]

    def of(self, component: str) -> list[Any]:
        assert component == "redis"
        return self._ready

    async def delete_pod(self, pod: Any, grace_seconds: int) -> None:
        self.deleted.set()

    def miss(self) -> None:
        self._ready = []

    def start(self) -> None:
        self._ready = [pod("new")]


def pod(uid: str) -> Any:
    return SimpleNamespace(metadata=SimpleNamespace(name="warmpool-redis-0", uid=uid))


async def test_a_redis_that_is_deleted_is_away_until_another_is_ready(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(faults, "LOOK_SECONDS", 0)
    cluster = Cluster()
    (kind,) = [kind for kind in faults.KINDS if kind.name == "Redis deleted with its data"]
    ground: Any = SimpleNamespace(cluster=cluster, of=cluster.of)
    strike = await kind.aim(ground, random.Random(1))
    assert strike is not None
    assert (strike.redis, strike.killed) == (True, ("warmpool-redis-0",))
    striking = asyncio.create_task(strike.act())
    await cluster.deleted.wait()
    for change in (lambda: None, cluster.miss):
        change()
        await asyncio.wait([striking], timeout=0.05)
        assert not striking.done(), "the old one is not believed to be another, nor is none"
    cluster.start()
    await asyncio.wait_for(striking, 5)

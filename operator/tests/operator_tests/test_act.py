"""What is told to the registry about a pod, whatever has become of its pool since it was made."""

import time

import pytest
from redis.asyncio import Redis

from operator_tests.api_server import ApiServer
from operator_tests.test_keeper import POOL
from warmpool.registry import Registry, connect
from warmpool_operator.act import Actor
from warmpool_operator.informer import Pod
from warmpool_operator.manifest import pod_manifest
from warmpool_operator.observe import Expectations
from warmpool_operator.plan import Register
from warmpool_operator.pool import SandboxPool


def pool(mode: str) -> SandboxPool:
    return SandboxPool(
        name="p", namespace="n", uid="u", generation=1, status={}, deleting=False,
        spec={**POOL.spec, "recycle": {"mode": mode, "maxExecutions": 9}},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("made_for", "now", "most", "per_tenant"),
    [
        ("reuse", "reuse", "9", "0"), ("tenant", "tenant", "9", "1"), ("single-use", "single-use", "1", "0"),
        ("single-use", "reuse", "1", "0"), ("reuse", "single-use", "1", "0"),
        ("tenant", "reuse", "9", "1"), ("reuse", "tenant", "9", "1"), ("single-use", "tenant", "1", "1"),
    ],
)  # fmt: skip
async def test_a_pod_that_becomes_ready_after_a_change_of_the_mode_serves_by_the_stricter_of_both(
    redis_url: str, made_for: str, now: str, most: str, per_tenant: str
) -> None:
    """A sandbox of single use ends after its first program, whatever its pool has become: a second would be lost."""
    redis: Redis = connect(redis_url)
    await redis.flushall()
    made = pod_manifest(pool(made_for), "p-1") | {"status": {"podIP": "10.0.0.1"}}
    made["metadata"]["uid"] = "uid"

    async with ApiServer().running() as api:
        actor = Actor(api, Registry(redis, "p"), Expectations(), time.monotonic)
        await actor.do(pool(now), [Register(Pod.from_object(made))], {}, {})

    assert await redis.hmget("warmpool:{p}:pod:p-1", "max_executions", "per_tenant") == [most, per_tenant]
    await redis.aclose()

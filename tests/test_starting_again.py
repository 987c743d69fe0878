"""`warmpool up --data`: what it kept is there again, after an end in order and after a kill."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from harness.caller import Caller
from harness.terminal import Job, started

from warmpool.local.embedded import service_folder

KILLED_GRACE_SECONDS = 15.0


@pytest.fixture
def data() -> Iterator[Path]:
    with service_folder() as folder:
        folder.chmod(0o711)
        yield folder / "data"


async def serving(job: Job) -> tuple[str, str]:
    """The URL and an API key, once it serves."""
    await job.shows(r"\. /\S+/environment")
    url, key = (re.search(pattern, job.output) for pattern in (r"http://[\d.:]+", r"wp_\w+"))
    assert url is not None
    assert key is not None
    return url[0], key[0]


async def test_records_outlive_a_kill_and_neither_key_nor_pod_of_the_past_counts(data: Path):
    up = ("up", "--port", "0", "--pods", "4", "--products", "50", "--data", str(data))
    async with started(*up, grace_seconds=KILLED_GRACE_SECONDS) as job:
        url, key = await serving(job)
        async with aiohttp.ClientSession(url) as session:
            caller = Caller(session, key)
            before = await caller.run("return 'before'")
            assert (await caller.get(f"/v1/executions/{before['id']}")).status == 200
        os.kill(job.pid, signal.SIGKILL)
        assert (await job.ended()).left == []
    async with started(*up) as job:
        url, new_key = await serving(job)
        async with aiohttp.ClientSession(url) as session:
            assert (await Caller(session, key).post("/v1/executions", {"code": "return 1"})).status == 401
            caller = Caller(session, new_key)
            for number in range(8):
                assert (await caller.run(f"return {number}"))["result"] == number
            found = await caller.get(f"/v1/executions/{before['id']}")
            assert (found.status, found.body["result"]) == (200, "before")
        os.kill(job.pid, signal.SIGTERM)
        assert (await job.ended()).left == []

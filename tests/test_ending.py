"""`warmpool up` and `warmpool demo` ended at any moment: no process is left, and no folder."""

import asyncio
import os
import re
import signal
from contextlib import suppress
from typing import Final

import aiohttp
import psutil
import pytest
from harness.caller import Caller
from harness.terminal import Ended, Job, started
from harness.waiting import until

UP: Final = ("up", "--port", "0", "--pods", "2", "--products", "100")
DEMO: Final = ("demo", "--products", "200")

FOLDER: Final = "its first folder"
"""The one moment that is not seen in the output: Redis is about to start."""
MOMENTS: Final = {
    "while Redis starts": (FOLDER, signal.SIGINT),
    "while the catalogue is imported": ("Redis", signal.SIGTERM),
    "while sandboxes start": ("catalogue", signal.SIGINT),
    "while services start": ("warm sandboxes", signal.SIGTERM),
    "while it serves": ("warmpool is up", signal.SIGINT),
}
KILLED_GRACE_SECONDS: Final = 15.0
"""The gateway ends in order also when its parent was killed."""


async def reach(job: Job, moment: str) -> None:
    await (job.has_a_folder() if moment == FOLDER else job.shows(moment))


def end(job: Job, number: signal.Signals) -> None:
    """Ctrl-C goes to the whole of a terminal's job, SIGTERM to the one process that somebody names."""
    (os.killpg if number is signal.SIGINT else os.kill)(job.pid, number)


def assert_nothing_is_left(ended: Ended) -> None:
    assert ended.left == [], ended.output
    assert ended.files == [], ended.output
    assert "Traceback" not in ended.output


def running_programs(pid: int) -> int:
    """Processes in the scratch folders of the sandboxes below it, zygotes included."""
    found = 0
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.Error, OSError):
            found += process.cwd().endswith("/scratch") and process.ppid() != pid
    return found


@pytest.mark.parametrize(("moment", "number"), MOMENTS.values(), ids=MOMENTS.keys())
async def test_up_leaves_nothing_when_it_is_ended(moment: str, number: signal.Signals):
    async with started(*UP) as job:
        await reach(job, moment)
        end(job, number)
        ended = await job.ended()
    assert_nothing_is_left(ended)
    assert ended.code == 0


async def test_ctrl_c_at_once_ends_it():
    async with started(*UP) as job:
        end(job, signal.SIGINT)
        ended = await job.ended()
    assert (ended.left, ended.files) == ([], [])
    assert ended.code != 0


async def test_an_impatient_user_leaves_nothing_behind_either():
    async with started(*UP) as job:
        await job.shows("warmpool is up")
        for pause in (0.0, 0.05, 0.2, 0.4):
            await asyncio.sleep(pause)
            with suppress(ProcessLookupError):
                end(job, signal.SIGINT)
        ended = await job.ended()
    assert_nothing_is_left(ended)


async def test_ctrl_c_while_programs_run_ends_them_too():
    async with started(*UP) as job:
        await job.shows(r"\. /\S+/environment")
        url, key = (re.search(pattern, job.output)[0] for pattern in (r"http://[\d.:]+", r"wp_\w+"))
        code = "import os, time\nos.fork()\nos.setsid() if os.fork() == 0 else None\ntime.sleep(30)"
        async with aiohttp.ClientSession(url) as session:
            caller = Caller(session, key)
            asking = [asyncio.create_task(caller.post("/v1/executions", {"code": code})) for _ in range(2)]
            await until(lambda: running_programs(job.pid) >= 10, 5, "two zygotes, two programs of four each")
            end(job, signal.SIGINT)
            ended = await job.ended()
            answers = await asyncio.gather(*asking)
    assert [answer.problem for answer in answers] == ["unavailable"] * 2
    assert_nothing_is_left(ended)


@pytest.mark.parametrize("moment", ["catalogue", "warmpool is up"])
async def test_no_process_outlives_one_that_was_killed(moment: str):
    async with started(*UP, grace_seconds=KILLED_GRACE_SECONDS) as job:
        await reach(job, moment)
        os.kill(job.pid, signal.SIGKILL)
        ended = await job.ended()
    assert ended.left == []


@pytest.mark.parametrize(("moment", "number"), [("Questions", signal.SIGTERM), ("programs at once", signal.SIGINT)])
async def test_the_demo_leaves_nothing_when_it_is_ended_during(moment: str, number: signal.Signals):
    async with started(*DEMO) as job:
        await job.shows(moment)
        end(job, number)
        ended = await job.ended()
    assert_nothing_is_left(ended)
    assert ended.code == 130

"""What `make chaos` asks of the service and what it breaks: its programs on a real stack, and its schedule."""

import itertools
import random
import sys
from collections import Counter
from pathlib import Path

import aiohttp
from harness.caller import Caller
from harness.running import RunningStack

sys.path.append(str(Path(__file__).parent / "e2e"))

from chaos.callers import Callers
from chaos.faults import KINDS, schedule


async def test_a_program_tells_who_and_when_it_was_and_calls_its_tool_once(
    caller: Caller, running: RunningStack, session: aiohttp.ClientSession
):
    callers = Callers(session, {"demo": running.parts.api_key}, random.Random(1))
    for _ in range(2):
        await callers.call_each(1)
    first, second = callers.answers
    assert (first.kind, second.kind, first.tool) == ("ok", "ok", "ok"), callers.answers
    assert first.user is not None
    assert first.began <= first.done <= second.done
    assert (first.number, second.number) == (0, 1)
    recorded = await caller.get(f"/v1/executions/{first.execution}")
    assert [call["tool"] for call in recorded.body["tool_calls"]] == ["search.search_products"]


async def test_a_caller_that_is_not_served_says_what_it_was_told(caller: Caller, session: aiohttp.ClientSession):
    callers = Callers(session, {"demo": "wp_nobody_nothing"}, random.Random(1))
    await callers.call_each(1)
    assert callers.answers[0].kind == "401 unauthenticated"
    assert callers.answers[0].execution is None


async def test_a_caller_whose_gateway_is_not_there_is_refused():
    async with aiohttp.ClientSession("http://127.0.0.1:1") as nowhere:
        callers = Callers(nowhere, {"demo": "key"}, random.Random(1))
        await callers.call_each(1)
    assert callers.answers[0].kind == "refused"


def test_every_fault_comes_in_its_share_before_one_comes_once_more():
    drawn = Counter(
        kind.name for _, kind in itertools.islice(schedule(random.Random(1), 4.0), sum(k.share for k in KINDS))
    )
    assert drawn == {kind.name: kind.share for kind in KINDS}


def test_a_seed_makes_one_schedule():
    first, same, other = (list(itertools.islice(schedule(random.Random(seed), 4.0), 100)) for seed in (7, 7, 8))
    assert first == same
    assert first != other

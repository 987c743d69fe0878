"""How `warmpool-sandbox serve` comes to its end, and what it brings to an end before."""

import asyncio
import os
import signal
import subprocess
import time
from typing import Any

import pytest
from support.serving import is_gone, proven, still_serves, wait_until

from warmpool.protocol import Message
from warmpool_sandbox.supervisor import Connection

WAITING_CALL = "from warmpool_sandbox.tools import call\ncall('a.b', {})"
PROMPT_SECONDS = 1.0


def test_it_says_where_it_listens_in_one_line_of_json(start):
    serving = start()
    assert set(serving.said) == {"listening", "landlock_abi"}
    assert serving.said["listening"].startswith("127.0.0.1:")
    assert serving.said["landlock_abi"] >= 6


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_idle_it_ends_at_once_when_told_to(start, number):
    serving = start()
    (zygote,) = serving.tree()
    started = time.monotonic()
    serving.process.send_signal(number)
    assert await asyncio.to_thread(serving.process.wait, 10) == 0
    assert time.monotonic() - started < PROMPT_SECONDS
    assert is_gone(zygote)


async def test_idle_it_refuses_what_is_on_its_way_before_it_ends(start):
    serving = start()
    async with proven(serving) as stream:
        serving.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(wait_until, lambda: not serving.tree())
        stream.start("1", 1)
        assert (await stream.message(Message.REFUSED))["reason"] == "draining"
        assert await stream.is_closed()
    assert await asyncio.to_thread(serving.process.wait, 10) == 0


async def no_longer_busy(serving) -> dict[str, Any]:
    """The first refusal for another reason: the signal has arrived."""
    async with asyncio.timeout(5), proven(serving) as other:
        while True:
            other.start("1", 2, execution="next")
            refused = await other.message(Message.REFUSED)
            if refused["reason"] != "busy":
                return refused


async def test_busy_it_refuses_what_follows_its_last_result(start):
    serving = start()
    async with proven(serving) as stream:
        stream.start(WAITING_CALL, 1, validate=False)
        call = await stream.message(Message.TOOL_CALL)
        serving.process.send_signal(signal.SIGTERM)
        assert (await no_longer_busy(serving))["reason"] == "draining"
        stream.send(Message.TOOL_RESULT, {"id": call["id"], "value": "done"})
        assert (await stream.message(Message.RESULT))["value"] == "done"
        await asyncio.to_thread(wait_until, lambda: not serving.tree())
        stream.start("1", 3)
        assert (await stream.message(Message.REFUSED))["reason"] == "draining"
        assert await stream.is_closed()
    assert await asyncio.to_thread(serving.process.wait, 10) == 0


async def test_busy_it_refuses_what_is_new_and_ends_after_its_program(start):
    serving = start()
    async with proven(serving) as stream:
        stream.start(WAITING_CALL, 1, validate=False)
        call = await stream.message(Message.TOOL_CALL)
        serving.process.send_signal(signal.SIGTERM)
        refused = await no_longer_busy(serving)
        assert (refused["execution"], refused["reason"]) == ("next", "draining")
        stream.send(Message.TOOL_RESULT, {"id": call["id"], "value": "done"})
        assert (await stream.message(Message.RESULT))["value"] == "done"
        assert await stream.is_closed()
    assert await asyncio.to_thread(serving.process.wait, 10) == 0


LARGE = f"{WAITING_CALL}\nprint('\\x01' * 70_000)\nreturn ['x' * 100] * 2400"


async def test_the_last_result_arrives_whole_whatever_its_size(start):
    serving = start()
    async with proven(serving, narrow=True) as stream:
        stream.start(LARGE, 1, validate=False)
        call = await stream.message(Message.TOOL_CALL)
        serving.process.send_signal(signal.SIGTERM)
        stream.send(Message.TOOL_RESULT, {"id": call["id"], "value": None})
        wait_until(lambda: not serving.tree())  # it is over, and reading begins only now
        assert len((await stream.message(Message.RESULT))["value"]) == 2400
    assert await asyncio.to_thread(serving.process.wait, 10) == 0


async def test_the_end_waits_until_the_last_result_has_arrived(start):
    serving = start("--single-use")
    async with proven(serving, narrow=True) as stream:
        stream.start("print('x' * 30_000)", 1)
        stream.pause()
        wait_until(lambda: not serving.tree())
        with pytest.raises(subprocess.TimeoutExpired):
            await asyncio.to_thread(serving.process.wait, 0.3)
        stream.resume()
        assert len((await stream.message(Message.RESULT))["stdout"]["head"]) > 20_000
    assert await asyncio.to_thread(serving.process.wait, 10) == 0


async def test_one_of_single_use_ends_after_its_program(start):
    serving = start("--single-use")
    async with proven(serving) as stream, proven(serving) as other:
        stream.start("6 * 7", serving.next_fence())
        assert (await stream.message(Message.RESULT))["clean"] is True
        assert await stream.is_closed()
        assert await other.is_closed()
    assert await asyncio.to_thread(serving.process.wait, 10) == 0


@pytest.mark.parametrize("told", [False, True], ids=["of single use", "told to end"])
async def test_it_ends_though_the_gateway_of_its_program_is_gone(start, told):
    serving = start(*([] if told else ["--single-use"]))
    async with proven(serving) as stream:
        stream.start(WAITING_CALL, 1, validate=False)
        await stream.message(Message.TOOL_CALL)
        if told:
            serving.process.send_signal(signal.SIGTERM)
            assert (await no_longer_busy(serving))["reason"] == "draining"
    assert await asyncio.to_thread(serving.process.wait, 10) == 0


async def test_a_fault_of_its_own_ends_it(silent_supervisor, monkeypatch):
    """What became of the program is not known then, nor what it left."""

    async def fail(*_: Any) -> None:
        raise RuntimeError("ours")

    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: told.append(fault))
    monkeypatch.setattr(silent_supervisor.slot, "run", fail)
    silent_supervisor.run(Connection(silent_supervisor), b"", {"execution": "exe", "fence": 1, "code": "1"})
    await asyncio.wait_for(silent_supervisor.stopped.wait(), 5)
    assert [str(fault["exception"]) for fault in told] == ["ours"]


async def test_one_of_a_single_tenant_runs_the_programs_of_its_first_and_of_no_other(start):
    serving = start("--one-tenant")
    async with proven(serving) as stream:
        for tenant, code in (("a", "1"), ("a", "2")):
            stream.start(code, serving.next_fence(), tenant=tenant)
            assert (await stream.message(Message.RESULT))["value"] == int(code)
        stream.start("3", serving.next_fence(), tenant="b")
        assert (await stream.message(Message.REFUSED))["reason"] == "other_tenant"
    async with proven(serving) as stream:  # of another gateway
        stream.start("4", serving.next_fence(), tenant="b")
        assert (await stream.message(Message.REFUSED))["reason"] == "other_tenant"
        stream.start("5", serving.next_fence(), tenant="a")
        assert (await stream.message(Message.RESULT))["value"] == 5


@pytest.mark.parametrize("tenant", [None, "", 1])
async def test_one_of_a_single_tenant_needs_to_know_whose_a_program_is(start, tenant):
    serving = start("--one-tenant")
    async with proven(serving) as stream:
        stream.start("1", serving.next_fence(), tenant=tenant)
        refused = await stream.message(Message.REFUSED)
        assert refused["reason"] == "malformed"
        assert "`tenant`" in refused["message"]


async def test_one_of_single_use_is_not_used_up_by_a_program_that_it_refused(start):
    serving = start("--single-use")
    async with proven(serving) as stream:
        stream.start(None, serving.next_fence())
        assert (await stream.message(Message.REFUSED))["reason"] == "malformed"
        stream.start("6 * 7", serving.next_fence())
        assert (await stream.message(Message.RESULT))["value"] == 42


async def test_a_gateway_that_never_reads_does_not_hold_up_the_end_for_long(start):
    serving = start()
    async with proven(serving, narrow=True) as stream:
        stream.start(LARGE, 1, validate=False)
        call = await stream.message(Message.TOOL_CALL)
        stream.pause()
        serving.process.send_signal(signal.SIGTERM)
        stream.send(Message.TOOL_RESULT, {"id": call["id"], "value": None})
        assert await asyncio.to_thread(serving.process.wait, 10) == 0


async def test_a_zygote_that_is_killed_while_a_program_runs_ends_the_sandbox(start):
    serving = start()
    async with proven(serving) as stream:
        stream.start(WAITING_CALL, 1, validate=False)
        await stream.message(Message.TOOL_CALL)
        tree = serving.tree()
        os.kill(tree[0], signal.SIGKILL)
        result = await stream.message(Message.RESULT)
        assert (result["status"], result["clean"], result["residue"]) == ("platform_error", False, ["zygote: lost"])
        assert await stream.is_closed()
    assert await asyncio.to_thread(serving.process.wait, 10) == 0
    assert all(is_gone(pid) for pid in tree)


async def test_a_zygote_that_is_killed_between_programs_is_replaced(start):
    serving = start()
    assert await still_serves(serving)
    (zygote,) = serving.tree()
    os.kill(zygote, signal.SIGKILL)
    wait_until(lambda: is_gone(zygote))
    assert await still_serves(serving)
    assert serving.tree() != [zygote]


HIDING = """
import os, time
from warmpool_sandbox.tools import call
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(60)
        time.sleep(60)
call('a.b', {})
"""


@pytest.mark.parametrize("code", [WAITING_CALL, HIDING], ids=["one process", "processes that hide"])
async def test_a_supervisor_that_is_killed_leaves_no_process(start, code):
    serving = start()
    async with proven(serving) as stream:
        stream.start(code, 1, validate=False)
        await stream.message(Message.TOOL_CALL)
        wait_until(lambda: len(serving.tree()) == (2 if code == WAITING_CALL else 8))
        tree = serving.tree()
        serving.process.kill()
        serving.process.wait()
        wait_until(lambda: all(is_gone(pid) for pid in tree))

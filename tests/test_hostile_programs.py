"""Programs that want too much, or harm: each ends in its status, in time, and the next program never notices."""

from typing import Any

import pytest
from harness.caller import Caller

FORK_BOMB = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""

FORK_BOMB_IN_NEW_SESSIONS = """
import os
while True:
    try:
        if os.fork() == 0:
            os.setsid()
    except OSError:
        pass
"""

THREAD_BOMB = """
import threading, time
while True:
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
"""


def error_of(execution: dict[str, Any], status: str) -> dict[str, Any]:
    assert execution["status"] == status, execution
    error: dict[str, Any] = execution["error"]
    return error


async def test_a_syntax_error_is_rejected_with_its_place(caller: Caller):
    ran = await caller.run("x = 1\nreturn (x +")
    error = error_of(ran, "rejected")
    assert (error["type"], error["line"]) == ("SyntaxError", 2)


async def test_infinite_output_is_stopped_with_its_head_and_tail_kept(caller: Caller):
    # Lines of a length that no machine needs the whole five seconds for: it is the bound that is to end it.
    ran = await caller.run("number = 0\nwhile True:\n    print('line', number := number + 1, '.' * 200)")
    assert error_of(ran, "output_limit")["limit"] == "stream_total_bytes"
    assert ran["truncated"] == ["stdout"]
    assert ran["stdout"].startswith(f"line 1 {200 * '.'}\nline 2 {200 * '.'}\n")
    assert len(ran["stdout"].encode()) < 66 * 1024


async def test_infinite_recursion_is_the_users(caller: Caller):
    ran = await caller.run("def deep(n):\n    return deep(n + 1)\nreturn deep(0)")
    error = error_of(ran, "user_error")
    assert error["type"] == "RecursionError"
    assert len(error["traceback"]) < 8192


async def test_recursion_without_a_limit_crashes_the_program_alone(caller: Caller):
    ran = await caller.run("import sys\nsys.setrecursionlimit(10**9)\ndeep = lambda n: deep(n + 1)\nreturn deep(0)")
    assert ran["status"] in ("crashed", "memory_limit", "user_error"), ran


async def test_an_allocation_of_2_gb_meets_the_memory_limit(caller: Caller):
    ran = await caller.run("return len(bytearray(2 * 1024**3))")
    assert error_of(ran, "memory_limit")


async def test_2_gb_taken_little_by_little_meet_the_memory_limit(caller: Caller):
    ran = await caller.run("hoard = []\nfor _ in range(2048):\n    hoard.append(b'x' * 2**20)\nreturn len(hoard)")
    assert error_of(ran, "memory_limit")


async def test_a_map_of_2_gb_meets_the_memory_limit(caller: Caller):
    code = "import mmap\nreturn len(mmap.mmap(-1, 2 * 1024**3, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))"
    assert error_of(await caller.run(code), "memory_limit")["limit"] == "memory_bytes"


async def test_memory_shared_between_processes_is_not_to_be_had(caller: Caller):
    ran = await caller.run("import mmap\nreturn len(mmap.mmap(-1, 4096))")
    assert error_of(ran, "user_error")["type"] == "PermissionError"


@pytest.mark.parametrize("bomb", [FORK_BOMB, FORK_BOMB_IN_NEW_SESSIONS], ids=["one session", "new sessions"])
async def test_a_fork_bomb_ends_at_its_deadline(caller: Caller, bomb: str):
    ran = await caller.run(bomb, seconds=1)
    assert ran["status"] in ("timeout", "cpu_limit"), ran


async def test_a_thread_bomb_meets_the_limit_of_processes(caller: Caller):
    error = error_of(await caller.run(THREAD_BOMB, seconds=3), "user_error")
    assert (error["type"], error["line"]) == ("RuntimeError", 4)


@pytest.mark.parametrize("number", [9, 15, 19])
async def test_a_kill_of_every_process_in_sight_ends_at_most_the_program(caller: Caller, number: int):
    ran = await caller.run(f"import os\nos.kill(-1, {number})\nreturn 'alone'", seconds=1)
    assert ran["status"] in ("ok", "user_error", "rejected", "crashed", "timeout"), ran


async def test_a_kill_of_its_own_children_is_a_programs_right(caller: Caller):
    code = """
        import os, time
        child = os.fork()
        if child == 0:
            time.sleep(60)
        os.kill(child, 9)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    """
    ran = await caller.run(code)
    assert (ran["status"], ran["result"]) == ("ok", -9), ran


async def test_one_big_file_meets_a_limit_of_the_disk(caller: Caller):
    ran = await caller.run("with open('big', 'wb') as file:\n    while True:\n        file.write(bytes(1 << 20))")
    assert error_of(ran, "disk_limit")["limit"] == "file_bytes"


async def test_many_large_files_meet_a_limit_of_the_disk(caller: Caller):
    code = "number = 0\nwhile True:\n    number += 1\n    open(str(number), 'wb').write(bytes(10 << 20))"
    assert error_of(await caller.run(code), "disk_limit")["limit"] == "scratch_bytes"


async def test_many_small_files_meet_a_limit_of_the_disk(caller: Caller):
    ran = await caller.run("for number in range(10**6):\n    open(str(number), 'w').close()")
    assert error_of(ran, "disk_limit")["limit"] == "scratch_inodes"


@pytest.mark.parametrize("into", ["", "; os.chdir('d')"], ids=["side by side", "one in another"])
async def test_many_folders_meet_a_limit_of_the_disk(caller: Caller, into: str):
    name = "'d'" if into else "str(number)"
    ran = await caller.run(f"import os\nfor number in range(10**6):\n    os.mkdir({name}){into}")
    assert error_of(ran, "disk_limit")["limit"] == "scratch_inodes"


async def test_what_one_program_wrote_the_next_does_not_see(caller: Caller):
    write = (
        "import os\nos.makedirs('a/b')\nopen('a/b/c', 'w').write('secret')\nos.chmod('a', 0)\nreturn os.listdir('.')"
    )
    assert (await caller.run(write))["result"] == ["a"]
    for _ in range(2):
        assert (await caller.run("import os\nreturn os.listdir('.')"))["result"] == []


@pytest.mark.parametrize(
    "code",
    ["import time\ntime.sleep(60)", "while True:\n    pass", "import sys\nsys.stdin.read()\nwhile True: pass"],
    ids=["asleep", "busy", "waiting for input"],
)
async def test_a_program_past_its_deadline_is_stopped(caller: Caller, code: str):
    error = error_of(await caller.run(code, seconds=1), "timeout")
    assert error["limit"] == "wall_seconds"
    assert error["message"].startswith("wall_seconds = 1")


async def test_a_program_that_will_hear_of_no_signal_is_stopped_at_its_deadline(caller: Caller):
    code = """
        import asyncio, time
        signal = asyncio.unix_events.signal
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
        while True:
            try:
                time.sleep(60)
            except BaseException:
                pass
    """
    assert error_of(await caller.run(code, seconds=1), "timeout")


async def test_processor_time_has_a_limit_of_its_own(caller: Caller):
    ran = await caller.run("while True:\n    pass", seconds=5, limits={"cpu_seconds": 1})
    assert error_of(ran, "cpu_limit")["limit"] == "cpu_seconds"


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ("return {1, object()}", "object"),
        ("return open('x', 'w')", "TextIOWrapper"),
        ("return lambda: 1", "function"),
        ("return {(1, 2): 3}", "tuple"),
        ("a = []\na.append(a)\nreturn a", "contains itself"),
    ],
)
async def test_a_result_that_cannot_be_json_is_the_users_with_the_reason_named(caller: Caller, code: str, named: str):
    error = error_of(await caller.run(code), "user_error")
    assert named in error["message"], error


async def test_a_result_over_256_kib_meets_the_output_limit(caller: Caller):
    ran = await caller.run("return 'x' * (256 * 1024 + 1)")
    assert error_of(ran, "output_limit")["limit"] == "result_bytes"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import os\nos._exit(0)", "code 0"),
        ("import os\nos._exit(7)", "code 7"),
        ("import os\nos.kill(os.getpid(), 11)", "SIGSEGV"),
        ("import os\nos.kill(os.getpid(), 9)", "SIGKILL"),
    ],
)
async def test_a_program_that_ends_without_a_word_crashed(caller: Caller, code: str, told: str):
    assert told in error_of(await caller.run(code), "crashed")["message"]


async def test_a_program_that_forges_its_last_word_is_never_the_platforms_fault(caller: Caller):
    code = """
        import os, contextlib
        for number in range(3, 64):
            with contextlib.suppress(OSError):
                os.write(number, b'\\x00\\x00\\x00\\x02\\x0b{}')
        return 1
    """
    ran = await caller.run(code)
    assert ran["status"] == "crashed", ran


async def test_daemons_that_a_program_leaves_end_with_it(caller: Caller):
    code = """
        import os, time
        for _ in range(5):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    time.sleep(60)
                os._exit(0)
        return 'gone'
    """
    ran = await caller.run(code)
    assert (ran["status"], ran["result"]) == ("ok", "gone"), ran

"""Programs in a real slot: how each ends."""

from collections.abc import Iterator
from dataclasses import asdict

import pytest
from support.sandbox import Sandbox
from support.unprivileged import Home, Place

from warmpool.protocol import Limits, Status

PROMPT_SECONDS = 1.0
"""What an end may take beyond the limit that brought it: a second is the promise, milliseconds are usual."""

GROW = "data = []\nwhile True:\n    data.append(bytearray(1 << 20))"
SPIN = "while True:\n    pass"
WRITE = "import time\nfor n in range(100):\n    open(str(n), 'wb').write(bytes(200_000))\ntime.sleep(60)"
MANY = "for n in range(300):\n    open(str(n), 'w').close()\nimport time\ntime.sleep(60)"
HIDDEN = """
import os, time
os.mkdir('hidden', 0o300)
for n in range(10):
    with open(f'hidden/{n}', 'wb') as f:
        f.write(bytes(200_000))
time.sleep(60)
"""
MB = 1 << 20

ENDS = {
    "the clock": ("import time\ntime.sleep(60)", {"wall_seconds": 0.3}, "timeout", "wall_seconds = 0.3 reached: 0.3"),
    "the processor": (SPIN, {"cpu_seconds": 0.3}, "cpu_limit", "cpu_seconds = 0.3 reached: 0.3"),
    "the processor, by children": (
        f"import os\nos.fork()\nos.fork()\n{SPIN}",
        {"cpu_seconds": 0.4},
        "cpu_limit",
        "cpu_seconds = 0.4 reached",
    ),
    "memory, piece by piece": (GROW, {"memory_bytes": 50 * MB}, "memory_limit", f"memory_bytes = {50 * MB} reached"),
    "memory, at once": ("bytearray(1 << 31)", {"memory_bytes": 50 * MB}, "memory_limit", f"memory_bytes = {50 * MB}"),
    "memory, by children": (
        "import os, time\nos.fork()\nos.fork()\ndata = b'x' * (20 << 20)\ntime.sleep(60)",
        {"memory_bytes": 50 * MB},
        "memory_limit",
        f"memory_bytes = {50 * MB} reached",
    ),
    "stdout": (
        "while True:\n    print('x' * 1000)",
        {"stream_total_bytes": MB},
        "output_limit",
        f"stream_total_bytes = {MB} reached: ",
    ),
    "stderr": (
        "import os\nwhile True:\n    os.write(2, b'x' * 1000)",
        {"stream_total_bytes": MB},
        "output_limit",
        "bytes written to stderr",
    ),
    "the result": ("'x' * 99", {"result_bytes": 50}, "output_limit", "101 bytes of JSON, over result_bytes = 50"),
    "a file": (
        "with open('f', 'wb') as f:\n    f.write(bytes(200_000))",
        {"file_bytes": 100_000},
        "disk_limit",
        "file_bytes = 100000 reached",
    ),
    "the scratch folder": (WRITE, {"scratch_bytes": MB}, "disk_limit", f"scratch_bytes = {MB} reached: "),
    "the number of files": (MANY, {"scratch_inodes": 100}, "disk_limit", "scratch_inodes = 100 reached: "),
    "bytes in a closed folder": (HIDDEN, {"scratch_bytes": MB}, "disk_limit", "reached: "),
    "processes": (
        "import os, time\nwhile True:\n    if os.fork() == 0:\n        time.sleep(60)",
        {"processes": 8},
        "user_error",
        "(processes = 8 reached)",
    ),
    "threads": (
        "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        {"processes": 8},
        "user_error",
        "(processes = 8 reached)",
    ),
    "open files": (
        "files = [open('/dev/null') for _ in range(100)]",
        {"open_files": 20},
        "user_error",
        "(open_files = 20 reached)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("code", "limits", "status", "message"), ENDS.values(), ids=ENDS)
def test_a_limit_ends_a_program_with_its_status_its_name_and_its_value(run, code, limits, status, message):
    ran = run(code, limits={"wall_seconds": 20} | limits)
    error = ran.outcome.error
    assert error is not None
    assert (ran.outcome.status, ran.outcome.value) == (status, None)
    assert message in error.message
    assert ran.seconds < 5 + PROMPT_SECONDS


def test_a_limit_that_the_supervisor_watches_is_named_in_its_field(run):
    for name in ("wall_seconds", "cpu_seconds"):
        error = run(SPIN, limits={name: 0.2}).outcome.error
        assert (error.type, error.limit) == ("LimitReached", name)


@pytest.mark.parametrize(
    ("code", "status", "type", "message"),
    [
        ("1 / 0", "user_error", "ZeroDivisionError", "division by zero"),
        ("x = (", "rejected", "SyntaxError", "'(' was never closed"),
        ("eval('1')", "rejected", "ValidationError", "`eval` is not available"),
        ("x = '\x00'", "rejected", "ValueError", "the program cannot be parsed"),
        ("open", "user_error", "ResultNotJson", "result is of type builtin_function_or_method"),
        ("import os\nos._exit(3)", "crashed", "Exit", "left with code 3 and without a value"),
        ("import os\nos._exit(0)", "crashed", "Exit", "left with code 0 and without a value"),
        ("import os\nos.kill(os.getpid(), 11)", "crashed", "Signal", "ended by signal 11 (SIGSEGV)"),
        ("import os\nos.abort()", "crashed", "Signal", "ended by signal 6 (SIGABRT)"),
        ("import os\nos.kill(os.getpid(), 64)", "crashed", "Signal", "ended by signal 64"),
        ("import os\nos.close(3)\n1", "crashed", "Exit", "left with code 70"),
    ],
)
def test_a_program_that_ends_badly_has_its_status_and_says_why(run, code, status, type, message):
    outcome = run(code).outcome
    assert (outcome.status, outcome.error.type, outcome.value) == (status, type, None)
    assert message in outcome.error.message


def test_a_program_that_ends_well_has_its_value_and_no_error(run):
    outcome = run("print('seen')\n{'rows': [1, 2.5, None, 'é']}").outcome
    assert (outcome.status, outcome.value, outcome.error) == ("ok", {"rows": [1, 2.5, None, "é"]}, None)
    assert (outcome.stdout.text, outcome.stderr.text) == ("seen\n", "")


def test_a_cancelled_program_ends_at_once(run):
    ran = run("import time\nprint('before', flush=True)\ntime.sleep(60)", cancel_after=0.2)
    assert (ran.outcome.status, ran.outcome.error.type) == ("cancelled", "Cancelled")
    assert ran.outcome.stdout.text == "before\n"
    assert ran.seconds < 0.2 + PROMPT_SECONDS


def test_a_program_that_is_cancelled_before_it_began_does_not_run_on(run):
    ran = run("import time\ntime.sleep(60)", cancel_after=-1)
    assert ran.outcome.status == "cancelled"
    assert ran.seconds < PROMPT_SECONDS


def test_a_program_that_is_deaf_to_signals_ends_all_the_same(run):
    deaf = "import signal, time\nfor n in (1, 2, 3, 15):\n    signal.signal(n, signal.SIG_IGN)\ntime.sleep(60)"
    ran = run(deaf, limits={"wall_seconds": 0.3}, validate=False)
    assert ran.outcome.status == "timeout"
    assert ran.seconds < 0.3 + PROMPT_SECONDS


def test_a_program_that_signals_everything_reaches_nothing(run):
    assert run("import os\nos.kill(-1, 9)\n1").outcome.value == 1  # the caller itself is not meant
    assert (
        run("import os\nif os.fork() == 0:\n    os.kill(-1, 9)\n    os._exit(0)\nos.wait()").outcome.error.type
        == "Signal"
    )


def test_the_smallest_limits_are_an_end_and_not_a_hang(run):
    for name in asdict(Limits()):
        ran = run("import json\n[1]", limits={"wall_seconds": 2, name: 0.001 if name.endswith("seconds") else 1})
        assert ran.outcome.status is not Status.PLATFORM_ERROR, (name, ran.outcome)
        assert ran.seconds < 3


def test_a_value_that_was_said_stands_whatever_comes_after_it(run):
    lingering = """
    import os, threading, time
    threading.Thread(target=time.sleep, args=(60,)).start()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(60)
        os._exit(0)
    7
    """
    ran = run(lingering)
    assert (ran.outcome.status, ran.outcome.value) == ("ok", 7)
    assert ran.seconds < PROMPT_SECONDS


def test_a_zygote_that_is_killed_loses_its_program_and_the_next_one_runs(sandbox_place, sandbox_home):
    sandbox = Sandbox(sandbox_place, sandbox_home, walls={"scope": False})
    try:
        lost = sandbox.run("import os\nos.kill(os.getppid(), 9)\nimport time\ntime.sleep(60)").outcome
        assert (lost.status, lost.clean, lost.residue) == ("platform_error", False, ("zygote: lost",))
        assert lost.error.message == "the sandbox was lost during the run"
        assert sandbox.run("6 * 7").outcome.value == 42
    finally:
        sandbox.close()


@pytest.fixture
def own_sandbox(sandbox_place: Place, sandbox_home: Home) -> Iterator[Sandbox]:
    """For tests that change it."""
    made = Sandbox(sandbox_place, sandbox_home)
    yield made
    made.close()


def zygotes(sandbox: Sandbox, runs: int) -> list[int | None]:
    ran = [sandbox.run("1") for _ in range(runs)]
    assert all(run.outcome.clean and run.outcome.value == 1 for run in ran)
    return [run.zygote for run in ran]


def test_a_zygote_serves_program_after_program(own_sandbox):
    first, *others = zygotes(own_sandbox, 6)
    assert first is None
    assert len(set(others)) == 1


def test_a_slot_that_has_rehearsed_serves_as_any(own_sandbox):
    assert own_sandbox.rehearse()
    ran = own_sandbox.run("return 6 * 7")
    assert (ran.outcome.value, ran.outcome.stdout.total_bytes, ran.outcome.clean) == (42, 0, True)


def test_a_rehearsal_that_ends_badly_is_told(own_sandbox):
    assert not own_sandbox.rehearse(stream_total_bytes=1)


def test_a_zygote_that_has_served_its_programs_is_replaced(own_sandbox):
    own_sandbox.set(RUNS_PER_ZYGOTE=2)
    seen = zygotes(own_sandbox, 7)[1:]
    assert seen[0] != seen[1] == seen[2] != seen[3] == seen[4] != seen[5]


def test_a_zygote_whose_memory_has_grown_is_replaced(own_sandbox):
    own_sandbox.set(_ZYGOTE_GROWTH_BYTES=-(1 << 30))
    assert len(set(zygotes(own_sandbox, 4))) == 4


def test_a_program_that_is_cancelled_while_its_zygote_starts_does_not_run(own_sandbox):
    ran = own_sandbox.run("import time\ntime.sleep(60)", cancel_after=0)
    assert (ran.outcome.status, ran.outcome.clean) == ("cancelled", True)
    assert own_sandbox.run("6 * 7").outcome.value == 42

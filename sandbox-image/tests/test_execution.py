"""Programs in a real slot: how each ends, what is kept of it, and that nothing else is."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from textwrap import dedent

import pytest
from support.sandbox import Run, Sandbox
from support.unprivileged import Home, Place

from warmpool.protocol import Limits, Status

PROMPT_SECONDS = 1.0
"""What an end may take beyond the limit that brought it: a second is the promise, milliseconds are usual."""


@pytest.fixture
def run(sandbox: Sandbox):
    """Runs a program and sees to it that nothing is left of it."""

    def run(code: str, context=None, **options) -> Run:
        ran = sandbox.run(dedent(code), context, **options)
        assert ran.outcome.clean, ran.outcome
        assert ran.outcome.residue == ()
        return ran

    return run


# -- how a program ends

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


# -- one program sees nothing of another


def test_each_program_starts_afresh(run):
    change = """
    import os, json, sys, builtins, threading
    json.loads = None
    builtins.print = None
    sys.path.clear()
    os.environ.clear()
    os.chdir('/usr')
    sys.modules['math'] = None
    leaked = 1
    """
    look = """
    import os, json, sys, math
    print('works')
    [json.loads('1'), os.listdir(), 'leaked' in globals(), sorted(os.environ), bool(sys.path), math.pi > 3]
    """
    before = run(look).outcome.value
    run(change)
    assert run(look).outcome.value == before
    assert before[:3] == [1, [], False]


def test_random_numbers_differ_from_program_to_program(run):
    assert len({run("import random\nrandom.random()").outcome.value for _ in range(5)}) == 5


def test_a_program_that_forks_has_done_what_the_library_does_at_a_fork(run):
    """The zygote's own forks leave it out."""
    program = """
    import logging, os, random, threading
    asked = []
    os.register_at_fork(before=lambda: asked.append('before'), after_in_parent=lambda: asked.append('after'))
    read, write = os.pipe()
    before, enough = random.getstate(), threading.Event()
    threading.Thread(target=enough.wait).start()
    with logging._lock:  # else its child could not log
        pid = os.fork()
        if pid == 0:
            logging.getLogger('child').error('logs')
            told = [random.getstate() != before, threading.active_count()]
            os.write(write, repr(told).encode())
            os._exit(0)
    os.waitpid(pid, 0)
    enough.set()
    return [os.read(read, 100).decode(), asked]
    """
    assert run(program).outcome.value == ["[True, 1]", ["before", "after"]]


ODD_FILES = """
import os
os.makedirs('a/b')
for n in range(200):
    open(f'a/b/{n}', 'w').close()
os.chmod('a/b', 0)
os.chmod('a', 0)
os.symlink('/etc', 'etc')
os.mkdir(b'odd\\xff')
for _ in range(300):
    os.mkdir('d')
    os.chdir('d')
os.chmod('.', 0)
"""


@pytest.mark.parametrize("code", ["open('left', 'w').write('x')", ODD_FILES, "import os\nos.chmod('.', 0)"])
def test_the_scratch_folder_is_empty_for_the_next_program(run, code):
    outcome = run(code).outcome
    assert outcome.status in ("ok", "disk_limit"), outcome.error
    assert run("import os\nopen('new', 'w').close()\nos.listdir()").outcome.value == ["new"]


def test_processes_that_hide_are_gone_with_the_program(run):
    hide = """
    import os, time
    for _ in range(5):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for n in range(3):
                    os.close(n)
                while True:
                    time.sleep(1)
            os._exit(0)
    """
    assert run(hide).outcome.status == "ok"


# -- context


@pytest.mark.parametrize(
    "context",
    [None, 0, "é\x00\u2028\U0001f600", [], {"a": {"b": [1, 2.5, None, True]}}, 10**30, "x" * 500_000],
    ids=lambda value: repr(value)[:20],
)
def test_the_context_is_a_global_of_the_program(run, context):
    assert run("import json\nlen(json.dumps(context))", context).outcome.value == len(json.dumps(context))
    assert run("def f():\n    return [context][0]\nreturn f() == context", context).outcome.value is True


# -- output


def test_both_streams_are_kept_apart_in_the_order_of_their_lines(run):
    outcome = run("import sys\nfor n in range(3):\n    print(n)\n    print('e', n, file=sys.stderr)").outcome
    assert (outcome.stdout.text, outcome.stderr.text) == ("0\n1\n2\n", "e 0\ne 1\ne 2\n")


def test_of_a_long_stream_the_beginning_and_the_end_are_kept(run):
    outcome = run("for n in range(50_000):\n    print(n)", limits={"stream_bytes": 1000}).outcome
    stream = outcome.stdout
    total = sum(len(f"{n}\n") for n in range(50_000))
    assert (outcome.status, stream.total_bytes, stream.truncated) == ("ok", total, True)
    assert (len(stream.head), len(stream.tail)) == (500, 500)
    assert stream.head.startswith("0\n1\n2\n")
    assert stream.tail.endswith("49998\n49999\n")


def test_what_was_printed_before_the_end_is_kept(run):
    for code, status in (("import time\ntime.sleep(60)", "timeout"), ("import os\nos._exit(1)", "crashed")):
        outcome = run(f"print('first')\nprint('second')\n{code}", limits={"wall_seconds": 0.3}).outcome
        assert (outcome.status, outcome.stdout.text) == (status, "first\nsecond\n")


def test_output_that_is_not_text_is_kept_as_text(run):
    outcome = run("import os\nos.write(1, b'a\\xff\\x00b')\nprint('\\ud800')").outcome
    assert outcome.stdout.text == "a\ufffd\x00b\\ud800\n"


def test_output_of_threads_and_children_is_kept(run):
    code = """
    import os, threading
    thread = threading.Thread(target=print, args=('thread',))
    thread.start()
    thread.join()
    if os.fork() == 0:
        os.write(1, b'child\\n')
        os._exit(0)
    os.wait()
    print('parent')
    """
    assert run(code).outcome.stdout.text == "thread\nchild\nparent\n"


def test_a_program_may_close_its_streams(run):
    assert run("import sys\nsys.stdout.close()\nsys.stderr.close()\n5").outcome.value == 5
    assert run("import os\nos.close(1)\nos.close(2)\n5").outcome.value == 5


def test_reading_from_the_input_ends_at_once(run):
    assert run("import sys\nsys.stdin.read()").outcome.value == ""


# -- usage


def test_usage_says_what_a_program_took(run):
    code = """
    import time
    data = b'x' * (30 << 20)
    open('file', 'wb').write(bytes(1 << 20))
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    time.sleep(0.1)
    """
    usage = run(code).outcome.usage
    assert 0.3 <= usage.wall_seconds < 3
    assert 0.2 <= usage.cpu_seconds < 1
    assert 30 << 20 <= usage.memory_peak_bytes < 60 << 20
    assert 1 << 20 <= usage.scratch_bytes < 2 << 20
    assert usage.tool_calls == 0


# -- what a program that speaks the channel's own language can do

SAY = """
import json, os, struct, time
def say(type, body):
    data = struct.pack('>IB', len(body), type) + body
    while data:
        data = data[os.write(3, data):]
VALUE, TOOL_CALL = 11, 8
"""

FORGED = {
    "a status that is not the program's to give": 'say(VALUE, b\'{"status": "platform_error", "error": {}}\')',
    "a status that does not exist": 'say(VALUE, b\'{"status": "fine", "value": 1}\')',
    "no status": "say(VALUE, b'{}')",
    "an error without its parts": 'say(VALUE, b\'{"status": "user_error", "error": {"colour": 1}}\')',
    "an error whose parts are of other types": (
        'say(VALUE, b\'{"status": "user_error", "error": {"type": 1, "message": [], "line": "x"}}\')'
    ),
    "an error whose line is too large": (
        'say(VALUE, b\'{"status": "user_error", "error": {"type": "x", "message": "x", "fields": [1]}}\')'
    ),
    "an array": "say(VALUE, b'[]')",
    "no JSON": "say(VALUE, b'\\xff')",
    "a number that is not JSON": 'say(VALUE, b\'{"status": "ok", "value": NaN}\')',
    "a number that is too large": 'say(VALUE, b\'{"status": "ok", "value": 1e999}\')',
    "a value nested deeply": 'say(VALUE, b\'{"status": "ok", "value": %b1%b}\' % (b"[" * 900, b"]" * 900))',
    "an error nested deeply": (
        'say(VALUE, b\'{"status": "user_error", "error": {"type": "x", "message": "x", "fields": {"a": %b1%b}}}\''
        ' % (b"[" * 900, b"]" * 900))'
    ),
    "a value above the limit": 'say(VALUE, b\'{"status": "ok", "value": "%b"}\' % (b\'x\' * 400_000))',
    "a frame of an unknown type": "say(99, b'')",
    "a frame of the supervisor's": "say(7, b'{}')",
    "a length above the limit": "os.write(3, b'\\xff\\xff\\xff\\xff\\x0b')",
    "random bytes": "os.write(3, os.urandom(1000))",
    "a tool call without a number": 'say(TOOL_CALL, b\'{"tool": "a.b", "arguments": {}}\')',
    "a tool call with a huge number": (
        'say(TOOL_CALL, b\'{"id": 1000000000000000000000000, "tool": "a.b", "arguments": {}}\')'
    ),
    "a tool call with a number below zero": 'say(TOOL_CALL, b\'{"id": -1, "tool": "a.b", "arguments": {}}\')',
    "a tool call with the number of another": (
        'for _ in range(2):\n    say(TOOL_CALL, b\'{"id": 1, "tool": "test.silent", "arguments": {}}\')'
    ),
    "a tool call nested deeply": (
        'say(TOOL_CALL, b\'{"id": 1, "tool": "a.b", "arguments": {"a": %b%b}}\' % (b"[" * 900, b"]" * 900))'
    ),
    "a tool call with a number that is too large": (
        'say(TOOL_CALL, b\'{"id": 1, "tool": "a.b", "arguments": {"a": 1e999}}\')'
    ),
    "tool calls without end whose answers are not read": (
        'while True:\n    say(TOOL_CALL, b\'{"id": 1, "tool": 5, "arguments": {}}\')'
    ),
}


@pytest.mark.parametrize("code", FORGED.values(), ids=FORGED)
def test_a_forged_frame_ends_its_program_and_nothing_else(run, code):
    ran = run(f"{SAY}{code}\ntime.sleep(60)", tools={"test.silent": {"silent": True}})
    assert (ran.outcome.status, ran.outcome.error.type) == ("crashed", "ProtocolError")
    assert "the program wrote to the channel" in ran.outcome.error.message
    assert ran.seconds < PROMPT_SECONDS


def test_only_the_first_value_counts(run):
    say = 'say(VALUE, b\'{"status": "ok", "value": %d}\')'
    assert run(f"{SAY}{say % 1}\n{say % 2}\n3").outcome.value == 1


def test_a_frame_that_is_never_finished_is_no_value(run):
    assert run(f"{SAY}os.write(3, b'\\x00\\x00\\x10\\x00\\x0b{{')\nos._exit(0)").outcome.status == "crashed"


CROWD = """
import os, time
for _ in range(40):
    if os.fork() == 0:
        time.sleep(60)
print(flush=True)
time.sleep(60)
"""
THREAD = "import threading\nthread = threading.Thread(target=print)\nthread.start()\nthread.join()\n1"


def test_what_the_user_started_meanwhile_does_not_count_against_a_program(sandbox_place, sandbox_home):
    sandbox = Sandbox(sandbox_place, sandbox_home)
    sandbox.run("1")
    crowd = sandbox_place.start(["-c", CROWD], sandbox_home, stdout=subprocess.PIPE, start_new_session=True)
    try:
        crowd.stdout.readline()
        # The count is a second old at the most, and a new zygote, which has a count of its own, is 1,000 runs away.
        outcomes = (sandbox.run(THREAD).outcome for _ in range(900))
        assert any(outcome.status == "ok" for outcome in outcomes)
    finally:
        os.killpg(crowd.pid, signal.SIGKILL)
        crowd.wait()
        crowd.stdout.close()
        sandbox.close()

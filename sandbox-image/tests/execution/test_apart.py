"""Programs in a real slot: none sees anything of another, and none speaks for the sandbox."""

import os
import signal
import subprocess

import pytest
from support.sandbox import Sandbox

PROMPT_SECONDS = 1.0


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

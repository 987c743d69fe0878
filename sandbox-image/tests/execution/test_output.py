"""Programs in a real slot: what they are given, and what is kept of them."""

import json

import pytest

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

"""How a program's text becomes its error."""

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from warmpool.protocol import Limits
from warmpool_sandbox import program

LIMITS = Limits()


# -- programs that are not run


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize(
    ("code", "type", "line", "column"),
    [
        ("x = 1\nx +\n", "SyntaxError", 2, 4),
        ("def f():\nreturn 1", "IndentationError", 2, 1),
        ("if x:\n\tif y:\n        z", "TabError", 3, None),
        ("break", "SyntaxError", 1, 1),
        ("x = 'é' +", "SyntaxError", 1, 10),
        ("x = '", "SyntaxError", 1, 5),
        ("yield 1", "SyntaxError", 1, 1),
        ("if context:\n    return 2\nyield 1", "SyntaxError", 3, 1),
        ("x = yield\nreturn x", "SyntaxError", 1, 5),
        ("yield from [1]\nreturn", "SyntaxError", 1, 1),
        ("nonlocal x", "SyntaxError", 1, 1),
        ("return 1\nnonlocal x", "SyntaxError", 2, 1),
        ("class C:\n    return 1", "SyntaxError", 2, 5),
    ],
)
def test_a_syntax_error_is_rejected_with_its_place(error, validate, code, type, line, column):
    seen = error(code, validate=validate)
    assert (seen["status"], seen["type"], seen["line"]) == ("rejected", type, line)
    assert column is None or seen["column"] == column


def test_a_syntax_error_shows_its_line(error):
    seen = error("x = 1\nfor n in range(3)\n    pass")
    assert (seen["message"], seen["line"]) == ("expected ':'", 2)
    assert seen["traceback"] == '  File "program.py", line 2\n    for n in range(3)'
    assert error("x = 1\rif x:\r\n    break")["traceback"] == '  File "program.py", line 3\n        break'


@pytest.mark.parametrize("ending", ["", "\nreturn 1"])
def test_await_outside_a_function_is_explained(error, ending):
    assert error("x = await f()" + ending)["remedy"] == "tools are synchronous: call them without await"


BOMBS = {
    "a NUL byte": "x = '\x00'",
    "a lone surrogate": "x = '\ud800'",
    "deep parentheses": "(" * 5000 + ")" * 5000,
    "deep operators": "-" * 100_000 + "1",
    "deep attributes": "a" + ".b" * 50_000,
    "deep sums": "1" + "+1" * 50_000,
    "deep lists": "x = " + "[" * 150 + "]" * 150,
    "deep blocks": "".join(" " * depth + "if 1:\n" for depth in range(200)) + " " * 200 + "1",
    "a null in a name": "a\x00b",
    "an endless string": "'''" + "x" * 10_000,
    "a long number": "9" * 10_000,
    "a power": "9 ** 9",
}


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("code", BOMBS.values(), ids=BOMBS)
def test_text_that_the_compiler_cannot_bear_is_an_error_and_nothing_worse(run, code, validate):
    for ending in ("", "\nreturn 2"):
        said = run(code + ending, validate=validate)
        assert said["status"] in ("ok", "rejected"), said
        assert said["status"] == "ok" or said["error"]["message"]


@given(st.text(st.characters()) | st.text("ifreturn:= ()[]{}'\"\\\n\t#@*.,0x1é"))
@example("return")
@example("\\")
@example("\x0c return")
@example("#coding: utf-16")
def test_any_text_compiles_or_is_refused(code):
    with suppress(program.Refused, SyntaxWarning):  # the latter is an error in the tests only
        program.prepare(code, validate=True)


def test_a_long_chain_of_elifs_and_sums_is_an_ordinary_program(value):
    branches = "".join(f"elif n == {n}:\n    return {n}\n" for n in range(300))
    total = " + ".join(["1"] * 500)
    assert value(f"n = 299\nif n < 0:\n    return {total}\n{branches}") == 299


# -- errors and their tracebacks

CRASH = """\
import json

def price(row):
    return row["price"] * 2  # doubled


def total(rows):
    return sum(price(row) for row in rows)


total([{"price": 1}, {}])
"""


@pytest.mark.parametrize("ending", ["", "return 5"])
def test_a_traceback_shows_the_programs_frames_with_their_lines(error, ending):
    seen = error(CRASH + ending)
    assert (seen["status"], seen["type"], seen["message"], seen["line"]) == ("user_error", "KeyError", "'price'", 4)
    text = seen["traceback"].replace("           ~~~^^^^^^^^^\n", "           ^^^\n")
    assert [line for line in text.splitlines() if "^" not in line] == [
        "Traceback (most recent call last):",
        '  File "program.py", line 11, in <module>',
        '    total([{"price": 1}, {}])',
        '  File "program.py", line 8, in total',
        "    return sum(price(row) for row in rows)",
        '  File "program.py", line 8, in <genexpr>',
        "    return sum(price(row) for row in rows)",
        '  File "program.py", line 4, in price',
        '    return row["price"] * 2  # doubled',
        "KeyError: 'price'",
    ]


@pytest.mark.parametrize("ending", ["", "\nreturn 5"])
def test_frames_of_the_library_are_left_out(error, ending):
    seen = error("import json\nrows = []\njson.loads('{')" + ending)
    assert (seen["type"], seen["line"]) == ("JSONDecodeError", 3)
    assert "json/decoder" not in seen["traceback"]
    assert seen["traceback"].count("File") == 1


@pytest.mark.parametrize("ending", ["", "\nreturn 5"])
def test_an_error_names_functions_as_their_author_did(error, ending):
    assert error("def f(x): pass\nf()" + ending)["message"] == "f() missing 1 required positional argument: 'x'"
    assert error("(lambda x: 1)()" + ending)["message"] == "<lambda>() missing 1 required positional argument: 'x'"


@pytest.mark.parametrize("ending", ["", "\nreturn 5"])
def test_an_error_of_the_programs_own_class_keeps_its_name(error, ending):
    seen = error("class Bad(Exception):\n    pass\nraise Bad('no', 1)" + ending)
    assert (seen["type"], seen["message"], seen["line"]) == ("Bad", "('no', 1)", 3)


def test_an_endless_recursion_is_an_error_of_bounded_size(error):
    seen = error("def f(n):\n    return f(n + 1)\nf(0)")
    assert (seen["status"], seen["type"]) == ("user_error", "RecursionError")
    assert "Previous line repeated" in seen["traceback"]


def test_a_long_message_and_a_long_traceback_are_cut(error):
    chain = "\n".join(f"def f{n}():\n    f{n - 1}()  # {'x' * 100}" for n in range(1, 200))
    seen = error(f"def f0():\n    raise ValueError('y' * 100_000)\n{chain}\nf199()")
    assert len(seen["message"]) == 2000
    assert len(seen["traceback"]) < 9000
    assert "[...]" in seen["traceback"]


def test_an_error_whose_message_cannot_be_read_is_told_all_the_same(error):
    seen = error("class Bad(Exception):\n    def __str__(self):\n        raise ValueError\nraise Bad")
    assert (seen["type"], seen["message"]) == ("Bad", "<its message could not be read: ValueError>")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys\nsys.exit('no rows')", "the program left with 'no rows'"),
        ("raise SystemExit(3)", "the program left with 3"),
        ("exit(3)", "the program left with 3"),
    ],
)
def test_leaving_with_a_word_is_an_error(error, code, message):
    seen = error(code)
    assert (seen["status"], seen["type"], seen["message"]) == ("user_error", "SystemExit", message)


@pytest.mark.parametrize(
    "raised", ["KeyboardInterrupt", "GeneratorExit", "BaseException", "ExceptionGroup('x', [ValueError()])"]
)
def test_whatever_is_raised_is_the_programs_error(error, raised):
    assert error(f"raise {raised}")["status"] == "user_error"


def test_an_error_behind_a_lazy_value_is_the_programs(error):
    seen = error("def rows():\n    yield 1\n    raise LookupError('row 2')\nrows()")
    assert (seen["status"], seen["type"], seen["line"]) == ("user_error", "LookupError", 3)


def test_a_tool_error_keeps_its_fields(error):
    code = "from warmpool_sandbox.tools import ToolError\nraise ToolError('no such product', code='not_found', id=4)"
    seen = error(code, validate=False)
    assert (seen["type"], seen["message"]) == ("ToolError", "no such product")
    assert seen["fields"] == {"code": "not_found", "id": 4}


@pytest.mark.parametrize(
    ("raised", "status", "limit"),
    [
        ("MemoryError()", "memory_limit", "memory_bytes"),
        ("OSError(28, 'No space left on device')", "disk_limit", "scratch_bytes"),
        ("OSError(27, 'File too large')", "disk_limit", "file_bytes"),
        ("OSError(12, 'Cannot allocate memory')", "memory_limit", "memory_bytes"),
        ("OSError(24, 'Too many open files')", "user_error", "open_files"),
        ("BlockingIOError(11, 'Resource temporarily unavailable')", "user_error", "processes"),
        ('RuntimeError("can\'t start new thread")', "user_error", "processes"),
    ],
)
def test_an_error_behind_which_a_limit_stands_names_it_and_its_value(error, raised, status, limit):
    seen = error(f"raise {raised}", limits=Limits(processes=7))
    assert (seen["status"], seen["limit"]) == (status, limit)
    assert f"({limit} = {getattr(Limits(processes=7), limit)} reached)" in seen["message"]


def test_a_value_without_a_json_form_is_an_error_with_a_remedy(error):
    seen = error("{'rows': [b'x']}")
    assert (seen["status"], seen["type"]) == ("user_error", "ResultNotJson")
    assert (seen["message"], seen["remedy"]) == (
        "result.rows[0] is of type bytes, which has no JSON form",
        "decode it to a string",
    )


def test_a_value_over_the_limit_is_refused_with_its_size(run, error):
    limits = Limits(result_bytes=10)
    assert run("'é' * 4", limits=limits) == {"status": "ok", "value": "éééé"}
    seen = error("'é' * 4 + 'x'", limits=limits)
    assert (seen["status"], seen["type"], seen["limit"]) == ("output_limit", "ResultTooLarge", "result_bytes")
    assert "11 bytes of JSON, over result_bytes = 10" in seen["message"]


def test_validation_stands_before_the_program_and_can_be_left_out(run, error):
    seen = error("x = 'é'; eval('1')")
    assert (seen["status"], seen["type"], seen["line"], seen["column"]) == ("rejected", "ValidationError", 1, 10)
    assert seen["remedy"] == "compute the value directly"
    assert run("eval('1')", validate=False) == {"status": "ok", "value": 1}


def test_warnings_of_the_programs_text_do_not_stop_it(value):
    assert value("import warnings\nwarnings.simplefilter('ignore')\nwarnings.warn('x')\n5") == 5

"""How a program's text becomes its value or its error; run in this process, with nothing confined."""

import json
import linecache
import sys
from contextlib import suppress
from textwrap import dedent

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from warmpool.protocol import Limits
from warmpool_sandbox import program

LIMITS = Limits()


@pytest.fixture
def run(monkeypatch):
    """Runs a program; its VALUE message. The test's own `__main__` is put back."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.setitem(linecache.cache, program.FILENAME, (0, None, [], program.FILENAME))

    def run(code, context=None, *, validate=True, limits=LIMITS):
        return json.loads(program.run(dedent(code), context, validate=validate, limits=limits))

    return run


@pytest.fixture
def value(run):
    """Runs a program that ends well; its value."""

    def value(code, context=None):
        said = run(code, context)
        assert said["status"] == "ok", said
        return said["value"]

    return value


@pytest.fixture
def error(run):
    """Runs a program that does not end well; its error with the status beside it."""

    def error(code, **options):
        said = run(code, **options)
        assert said["status"] != "ok", said
        return said["error"] | {"status": said["status"]}

    return error


# -- the value

VALUES = {
    "the last expression": ("x = 2\nx + 1", 3),
    "a return": ("return 3", 3),
    "nothing": ("", None),
    "a statement at the end": ("x = 3", None),
    "an expression before a statement": ("5\nx = 3", None),
    "an expression behind a semicolon": ("x = 3; x", 3),
    "a docstring": ('"only this"', "only this"),
    "a return without a value": ("5\nreturn", None),
    "a return in if": ("if context is None:\n    return 1\nreturn 2", 1),
    "a return in else": ("if context:\n    return 1\nelse:\n    return 2", 2),
    "a return in for": ("for n in range(9):\n    if n == 3:\n        return n", 3),
    "a return in while": ("while True:\n    return 4", 4),
    "a return in try": ("try:\n    return 1 // 0\nexcept ArithmeticError as e:\n    return str(e)[:7]", "integer"),
    "a return in finally": ("try:\n    return 1\nfinally:\n    return 2", 2),
    "a return in with": ("import contextlib\nwith contextlib.nullcontext(7) as n:\n    return n", 7),
    "a return in match": ('match [1, 2]:\n    case [a, *rest]:\n        return {a: rest}', {"1": [2]}),
    "a return that is not reached": ("if context:\n    return 1\n2 + 2", 4),
    "a return that is not reached, an if at the end": ("if context:\n    return 1\nif not context:\n    5", 5),
    "a return that is not reached, a with at the end": (
        "import contextlib\nif context:\n    return 1\nwith contextlib.nullcontext(6) as n:\n    n",
        6,
    ),
    "an if at the end": ("if context is None:\n    'none'\nelse:\n    'some'", "none"),
    "an elif at the end": ("n = 2\nif n == 1:\n    'one'\nelif n == 2:\n    'two'\nelse:\n    'many'", "two"),
    "an if at the end that is not entered": ("if context:\n    1", None),
    "a with at the end": ("import contextlib\nwith contextlib.nullcontext(8) as n:\n    n", 8),
    "a try at the end": ("try:\n    int('7')\nexcept ValueError:\n    0", 7),
    "a try at the end that fails": ("try:\n    int('x')\nexcept ValueError:\n    0", 0),
    "a try at the end with else": ("try:\n    int('7')\nexcept ValueError:\n    0\nelse:\n    1", 1),
    "a try at the end with finally": ("try:\n    int('7')\nfinally:\n    x = 1", 7),
    "a try with groups at the end": ("try:\n    int('x')\nexcept* ValueError:\n    0", 0),
    "a match at the end": ("match 2:\n    case 1:\n        'one'\n    case _:\n        'other'", "other"),
    "a for at the end": ("for n in range(3):\n    n", None),
    "the main idiom": ("def main():\n    return 5\n\nif __name__ == '__main__':\n    main()", 5),
    "a return in a function only": ("def f():\n    return 1\nf() + 1", 2),
    "a lambda's neighbour": ("f = lambda: 1\nclass C:\n    def m(self):\n        return 2\nC().m() + f()", 3),
    "sys.exit": ("import sys\nsys.exit()", None),
    "sys.exit with nought": ("import sys\nprint(1)\nsys.exit(0)", None),
    "the context": ("context['a'] * 2", 42),
    "print is not the value": ("print('x')", None),
    "an async program": (
        "import asyncio\nasync def main():\n    await asyncio.sleep(0)\n    return [1]\nasyncio.run(main())",
        [1],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("code", "expected"), VALUES.values(), ids=VALUES)
def test_the_value_is_a_return_or_the_last_expression(value, code, expected):
    context = {"a": 21} if "context['a']" in code else None
    assert value(code, context) == expected


# -- names are global with and without `return`

BODIES = {
    "a function changes a global": """
        total = 0
        def add(n):
            global total
            total += n
        add(2)
        add(3)
        result = total
        """,
    "a function reads a name that is bound later": """
        def f():
            return late
        late = 5
        result = f()
        """,
    "recursion": """
        def depth(n):
            return 0 if n == 0 else 1 + depth(n - 1)
        result = depth(5)
        """,
    "functions call each other": """
        def even(n):
            return True if n == 0 else odd(n - 1)
        def odd(n):
            return False if n == 0 else even(n - 1)
        result = 5 if even(4) else 0
        """,
    "a comprehension reads globals and keeps its variable": """
        n = 5
        squares = [n * n for n in range(3)]
        pairs = {k: v for k, v in zip('ab', squares)}
        result = n
        """,
    "a comprehension inside a class body": """
        limit = 5
        class C:
            values = [limit for _ in range(2)]
        result = C.values[0]
        """,
    "a walrus": """
        if (n := 5) > 3:
            pass
        def f():
            return n
        result = f()
        """,
    "a walrus in a comprehension": """
        seen = [last := n for n in range(6)]
        def f():
            return last
        result = f()
        """,
    "an annotation": """
        count: int = 5
        rest: list
        def f():
            return count
        result = f()
        """,
    "an annotation in a block": """
        if True:
            count: int = 5
            for _ in range(1):
                rest: list[int]
        with open('/dev/null') as sink:
            name: str = 'x'
        def f():
            return count
        result = f()
        """,
    "a star import": """
        from math import *
        def f():
            return floor(5.5)
        result = f()
        """,
    "a future import": """
        '''About this program.'''
        from __future__ import annotations
        def f(x: Missing) -> Missing:
            return 5
        result = f(1)
        """,
    "an import of a submodule": """
        import os.path, json as j
        from collections import Counter as C
        def f():
            return len(j.loads('[1]')) + C('aaaa')['a'] + len(os.path.join('', ''))
        result = f()
        """,
    "names of for, with, except, match and del": """
        for n in [1, 2]:
            pass
        with open('/dev/null') as sink:
            pass
        try:
            raise ValueError('x')
        except ValueError as fault:
            text = str(fault)
        match {'a': 1, 'b': 2}:
            case {'a': one, **others}:
                pass
        match [1, 2]:
            case [first, *more] as whole:
                pass
        gone = 1
        del gone
        def f():
            assert sink.closed and text == 'x' and others == {'b': 2} and whole == [1, 2]
            return n + one + first + len(more)
        result = f()
        """,
    "unpacking": """
        (a, [b, *c]), d = (1, [2, 3]), 4
        def f():
            return a + d
        result = f()
        """,
    "an own global statement": """
        global n
        n = 5
        def f():
            return n
        result = f()
        """,
    "exec and globals see the same names": """
        n = 4
        globals()['m'] = n + 1
        result = m
        """,
    "a dataclass": """
        from dataclasses import dataclass, field
        @dataclass
        class Item:
            name: str
            tags: list[str] = field(default_factory=list)
        result = 5 if repr(Item('a')) == "Item(name='a', tags=[])" else repr(Item('a'))
        """,
    "type hints": """
        from __future__ import annotations
        import typing
        class Node:
            next: Node | None
        result = 5 if typing.get_type_hints(Node)['next'] == Node | None else 0
        """,
    "an enum and a named tuple": """
        import enum, typing
        class Kind(enum.Enum):
            A = 5
        class Row(typing.NamedTuple):
            kind: Kind
        result = Row(Kind.A).kind.value
        """,
    "a decorator": """
        import functools
        def twice(function):
            @functools.wraps(function)
            def inner(n):
                return function(function(n))
            return inner
        @twice
        def more(n):
            return n + 1
        result = more(3)
        """,
    "a generator function": """
        def numbers():
            yield 2
            yield 3
        result = sum(numbers())
        """,
    "an async function": """
        import asyncio
        async def one(n):
            return n
        async def main():
            return sum(await asyncio.gather(one(2), one(3)))
        result = asyncio.run(main())
        """,
    "classes with super": """
        class A:
            def n(self):
                return 4
        class B(A):
            def n(self):
                return super().n() + 1
        result = B().n()
        """,
    "closures": """
        def counter():
            n = 0
            def add():
                nonlocal n
                n += 1
                return n
            return add
        add = counter()
        [add() for _ in range(4)]
        result = add()
        """,
    "the module is the main one": """
        import sys
        n = 5
        result = sys.modules['__main__'].n
        """,
}


@pytest.mark.parametrize("ending", ["result", "return result", "if result:\n    return result"])
@pytest.mark.parametrize("code", BODIES.values(), ids=BODIES)
def test_a_program_means_the_same_with_a_return_and_without(value, code, ending):
    assert value(dedent(code) + ending) == 5


def test_a_star_import_in_a_block_with_a_return_is_a_syntax_error_as_in_a_function(error):
    assert "import *" in error("if True:\n    from math import *\nreturn pi")["message"]


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

"""How a program's text becomes its value."""

from textwrap import dedent

import pytest

from warmpool.protocol import Limits

LIMITS = Limits()


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

"""Early refusal: each rule fires, its benign look-alike passes, and so does what a model would really write."""

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmpool.protocol import Limits
from warmpool_sandbox import validation
from warmpool_sandbox.validation import ALLOWED_DUNDERS, DENIED_CALLS, DENIED_MODULES, MAX_NODES, Finding, check


def finding(code: str, *, network: bool = False) -> Finding | None:
    return check(ast.parse(code), network=network)


# (rule, what fires it, what looks like it and passes)
PAIRS = [
    ("import", "import socket", "import selectors"),
    ("import", "import os, subprocess", "import os, shutil"),
    ("import", "import urllib.request", "import urllib.parse"),
    ("import", "from urllib import request", "from urllib import parse"),
    ("import", "from urllib.request import urlopen", "from urllib.parse import urlencode, quote"),
    ("import", "import http.client as c", "import html.parser as c"),
    ("import", "from ctypes import CDLL", "from array import array"),
    ("import", "import pickle", "import json"),
    ("import", "import multiprocessing", "import threading, queue, concurrent.futures"),
    ("import", "from importlib import import_module", "from types import SimpleNamespace"),
    ("import", "import requests", "import re"),
    ("import", "from sklearn.linear_model import LinearRegression", "from statistics import linear_regression"),
    ("import", "import _thread", "import threading"),
    ("import", "from _io import FileIO", "from io import StringIO"),
    ("import", "from . import tools", "from servers import search"),
    ("import", "from .search import search_products", "from servers.search import search_products"),
    ("import", "import warmpool_sandbox.tools", "import servers"),
    ("import", "from warmpool.protocol import Limits", "from servers import ToolError, parallel"),
    ("import", "def f():\n    import signal", "def f():\n    import string"),
    ("import", "try:\n    import pip\nexcept ImportError: 0", "try:\n    import numpy\nexcept ImportError: 0"),
    ("name", "eval('1')", "import ast\nast.literal_eval('1')"),
    ("name", "exec('x = 1')", "cursor.exec('x = 1')"),
    ("name", "f = compile", "import re\nf = re.compile"),
    ("name", "__import__('os')", "import os"),
    ("name", "breakpoint()", "breakpoints = []"),
    ("name", "x = input('name?')", "x = row['input']"),
    ("name", "list(map(eval, rows))", "list(map(int, rows))"),
    ("attribute", "().__class__.__bases__", "type(()).__name__"),
    ("attribute", "x.__subclasses__()", "x.subclasses()"),
    ("attribute", "f.__globals__", "globals()"),
    ("attribute", "f.__code__", "f.__name__, f.__doc__, f.__qualname__"),
    ("attribute", "f.__closure__", "f.closure"),
    ("attribute", "__builtins__", "builtins = 1"),
    ("attribute", "__loader__", "__name__"),
    ("attribute", "x.__reduce_ex__(2)", "import functools\nfunctools.reduce(max, x)"),
    ("attribute", "x.__mro__", "x.mro"),
    ("attribute", "g.gi_frame.f_back", "g.frame.back"),
    ("attribute", "e.__traceback__.tb_frame", "import traceback\ntraceback.format_exc()"),
    ("attribute", "frame.f_globals", "row.f_score"),
    ("open", "open('/etc/passwd')", "open('etc/passwd')"),
    ("open", "open('../x', 'w')", "open('a..b/x', 'w')"),
    ("open", "open('a/../../x')", "open('./a/x')"),
    ("open", "open(file='/tmp/x')", "open(file='x')"),
    ("open", "with open('/data/in.csv') as f:\n    pass", "with open('/dev/null') as f:\n    pass"),
    ("open", "open('/x')", "zipfile.open('/x')"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "bad", "good"), PAIRS, ids=[bad for _, bad, _ in PAIRS])
def test_a_rule_fires_and_lets_its_look_alike_pass(rule, bad, good):
    fired = finding(bad)
    assert fired is not None
    assert fired.rule == rule
    assert fired.message
    assert fired.remedy
    assert finding(good) is None


@pytest.mark.parametrize("module", sorted(DENIED_MODULES))
def test_every_denied_module_is_refused_with_its_own_remedy(module):
    for code in (f"import {module}", f"import {module}.x as y", f"from {module} import z", f"import os, {module}"):
        fired = finding(code)
        assert fired is not None
        assert (fired.rule, fired.message) == ("import", f"`{module}` cannot be imported here")
        assert fired.remedy == DENIED_MODULES[module]


@pytest.mark.parametrize("name", sorted(DENIED_CALLS))
def test_every_denied_name_is_refused_wherever_it_stands(name):
    for code in (f"{name}('x')", f"f = {name}", f"[{name}]", f"def g(h={name}): pass", f"@{name}\ndef g(): pass"):
        fired = finding(code)
        assert fired is not None
        assert (fired.rule, fired.message, fired.remedy) == ("name", f"`{name}` is not available", DENIED_CALLS[name])


@pytest.mark.parametrize("name", sorted(validation._ESCAPES))
def test_every_way_to_the_interpreters_frames_is_refused(name):
    fired = finding(f"x.{name}")
    assert fired is not None
    assert fired.message == f"`{name}` is not available"


@pytest.mark.parametrize("name", sorted(ALLOWED_DUNDERS))
def test_every_allowed_dunder_passes(name):
    assert finding(f"x.{name}\nclass C:\n    {name} = 1\n    def {name}(self): pass") is None


def test_the_first_finding_in_reading_order_is_told_with_its_place():
    code = "x = 1\ndef f():\n    return g.__globals__, eval('1')\nimport socket"
    assert finding(code) == Finding(
        "attribute", "`__globals__` is not available", "use the public way to do this", 3, 12
    )


def test_a_program_of_too_many_nodes_is_refused_before_all_else():
    fired = finding("import socket\n" + "x = 1\n" * MAX_NODES)
    assert fired is not None
    assert (fired.rule, fired.line) == ("too_complex", 1)
    assert f"over {MAX_NODES}" in fired.message


@pytest.mark.parametrize(
    "line",
    [
        "total_of_all_rows = sum(row['price'] * row['quantity'] for row in rows if row['in_stock'])\n",
        "row = {'id': 17, 'name': 'Red running shoes, size 44', 'price': 79.95, 'tags': ['sale', 'new']}\n",
    ],
)
def test_a_program_as_large_as_the_limit_of_code_passes(line):
    assert finding(line * (Limits().code_bytes // len(line))) is None


PROGRAMS = {
    "a search": """
        from servers.search import search_products

        products = search_products(query="red running shoes", limit=5)
        [{"name": p["name"], "price": p["price"]} for p in products]
        """,
    "calls at once": """
        from servers import parallel
        from servers.search import get_product_details
        details = parallel(lambda id: get_product_details(product_id=id), [1, 2, 3])
        return {d["id"]: d for d in details}
        """,
    "a tool's error": """
        from servers import ToolError
        from servers.commerce import lookup_order
        try:
            order = lookup_order(number=context["order"])
        except ToolError as e:
            if e.code == "not_found":
                return {"error": str(e), "details": e.fields}
            raise
        return order
        """,
    "groups and dates": """
        import datetime as dt
        from collections import Counter, defaultdict
        from itertools import groupby
        by_day = defaultdict(list)
        for row in context["rows"]:
            day = dt.date.fromisoformat(row["created_at"][:10])
            by_day[day.isoformat()].append(row["total"])
        {day: round(sum(totals), 2) for day, totals in sorted(by_day.items())}
        """,
    "a csv in memory and on disk": """
        import csv, io, json, os, tempfile
        from pathlib import Path
        Path("out").mkdir(exist_ok=True)
        with open(Path("out") / "rows.csv", "w", newline="") as f:
            csv.writer(f).writerows([[1, 2], [3, 4]])
        with open("out/rows.csv") as f, tempfile.NamedTemporaryFile() as t:
            rows = list(csv.DictReader(f))
        buffer = io.StringIO()
        os.environ.get("HOME")
        json.dumps(rows, default=str)
        """,
    "a data class, slots and ordering": """
        from __future__ import annotations
        from dataclasses import dataclass, field, asdict
        from functools import total_ordering, lru_cache, cached_property
        @total_ordering
        class Version:
            __slots__ = ("parts",)
            def __init__(self, text: str) -> None:
                self.parts = tuple(map(int, text.split(".")))
            def __eq__(self, other): return self.parts == other.parts
            def __lt__(self, other): return self.parts < other.parts
            def __hash__(self): return hash(self.parts)
            def __repr__(self): return f"{type(self).__name__}({self.parts})"
        max(Version("1.2"), Version("1.10")).parts
        """,
    "introspection that is harmless": """
        import enum
        class Size(enum.Enum):
            S = 1
            M = 2
        def f(x: int) -> str:
            "doc"
        class A:
            def __init__(self): self.x = 1
            def __setattr__(self, name, value): super().__setattr__(name, value)
            def __getattr__(self, name): return object.__getattribute__(self, name)
        names = list(Size.__members__)
        try:
            1 / 0
        except ZeroDivisionError as e:
            reason = e.__cause__ or e.__context__ or e
            kind = type(e).__name__ + type(e).__qualname__ + type(e).__module__
        vars(A()), A().__dict__, f.__annotations__, f.__doc__, f.__module__
        __all__ = ["f"]
        """,
    "operators as methods": """
        class V:
            def __init__(self, x, y): self.x, self.y = x, y
            def __matmul__(self, other): return self.x * other.x + self.y * other.y
            def __divmod__(self, n): return self
            def __iadd__(self, other): return self
            def __lshift__(self, n): return self
            def __bytes__(self): return b""
            def __copy__(self): return V.__new__(V)
            def __del__(self): pass
            def __class_getitem__(cls, item): return cls
        x = V(1, 2).__matmul__(V(3, 4))
        return x
        """,
    "threads and asyncio": """
        import asyncio, threading, time
        from concurrent.futures import ThreadPoolExecutor
        async def work(n):
            await asyncio.sleep(0.01)
            return n
        async def main():
            return await asyncio.gather(*(work(n) for n in range(3)))
        with ThreadPoolExecutor(4) as pool:
            squares = list(pool.map(lambda n: n * n, range(4)))
        asyncio.run(main())
        """,
    "text": """
        import re, textwrap, string, unicodedata, difflib, html
        from urllib.parse import urlencode, urlparse, quote_plus
        pattern = re.compile(r"(?P<sku>[A-Z]{2}-\\d+)")
        code = "AB-1"
        input_text = "see AB-1"
        exec_time = 3
        match = pattern.search(input_text)
        match["sku"] if match else None
        """,
    "numbers": """
        import math, random, statistics, decimal, fractions
        from decimal import Decimal, ROUND_HALF_UP
        random.seed(1)
        total = sum(Decimal(str(x)) for x in [1.1, 2.2])
        {"mean": statistics.mean([1, 2]), "total": total.quantize(Decimal("0.01"), ROUND_HALF_UP)}
        """,
    "a database in memory": """
        import sqlite3
        db = sqlite3.connect(":memory:")
        db.execute("create table t (a int)")
        db.executemany("insert into t values (?)", [(1,), (2,)])
        db.execute("select sum(a) from t").fetchone()[0]
        """,
    "other formats": """
        import base64, gzip, zipfile, hashlib, hmac, secrets, uuid, struct, zlib, tomllib
        import xml.etree.ElementTree as ET
        import email.utils, calendar, zoneinfo, copy, operator, heapq, bisect, pprint, logging, sys, time, types, typing
        root = ET.fromstring("<a><b/></a>")
        logging.basicConfig(level=logging.INFO)
        print(len(list(root)), file=sys.stderr)
        """,
    "the main idiom": """
        def main() -> dict:
            return {"ok": True}

        if __name__ == "__main__":
            print(main())
        """,
    "names of other libraries in text": """
        note = "import socket; eval('1'); open('/etc/passwd'); x.__class__"
        # subprocess, ctypes
        {"note": note}
        """,
}


@pytest.mark.parametrize("code", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_as_a_model_writes_it_passes(code):
    lines = [line[8:] for line in code.splitlines()]
    assert finding("\n".join(lines)) is None


@settings(deadline=None)
@given(st.text("import os.socket_\n\t '\"()=__class__evalopen/,:#", max_size=80))
def test_any_program_that_parses_can_be_checked(code):
    try:
        tree = ast.parse(code)
    except (SyntaxError, SyntaxWarning, ValueError):
        return
    found = check(tree)
    assert found is None or (found.line >= 1 and found.column >= 1)


@pytest.mark.parametrize(
    "code",
    ["import socket, ssl", "from urllib import request", "import http.client", "from xmlrpc.client import ServerProxy"],
)
def test_with_a_network_profile_a_client_may_be_imported(code):
    assert finding(code) is not None
    assert finding(code, network=True) is None


@pytest.mark.parametrize("code", ["import socketserver", "import subprocess", "import _socket", "import ctypes"])
def test_a_network_profile_opens_nothing_but_clients(code):
    assert finding(code, network=True) is not None

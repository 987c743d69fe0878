"""The operator's own program with a fault in it or around it: a death at one step, a wrong clock, a cut network.

Run as a program, by tests only; the product knows nothing of it.
"""

import argparse
import asyncio
import datetime
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

PROGRAM: Final = (sys.executable, "-P", str(Path(__file__)))
"""-P: the folder of this file holds no module that the operator should find."""


class Step(NamedTuple):
    """A call by which the operator changes something."""

    owner: str
    """`Api` or `Registry`."""
    method: str
    verb: str = ""
    path: str = ""
    """Of calls of the API server: what comes after the namespace begins with it, and ends with `end`."""
    end: str = ""

    def is_meant(self, arguments: tuple[Any, ...]) -> bool:
        if self.owner == "Registry":
            return True
        verb, path = arguments[:2]
        _, _, rest = path.partition("/namespaces/")
        _, _, what = rest.partition("/")
        return bool(verb == self.verb and what.startswith(self.path) and what.endswith(self.end))


STEPS: Final = {
    "announce": Step("Registry", "announce"),
    "make": Step("Api", "call", "POST", "pods"),
    "register": Step("Registry", "register"),
    "say": Step("Api", "call", "PATCH", "sandboxpools/", "/status"),
    "retire": Step("Registry", "retire"),
    "delete": Step("Api", "call", "DELETE", "pods/"),
    "forget": Step("Registry", "remove"),
}


def dies(moment: str, number: int, step: str) -> None:
    """By SIGKILL, `before` the call of that number or `after` its answer came."""

    def fault(call: int, is_over: bool) -> None:
        if call == number and is_over == (moment == "after"):
            os.kill(os.getpid(), signal.SIGKILL)

    _around(STEPS[step], fault)


def loses_an_answer(step: str) -> None:
    """The first such call is carried out, and its caller told that nobody answered."""
    from warmpool_operator.api import ApiError

    def fault(call: int, is_over: bool) -> None:
        if call == 1 and is_over:
            raise ApiError(0, "Unreachable", "the answer is lost")

    _around(STEPS[step], fault)


def _around(step: Step, fault: Callable[[int, bool], None]) -> None:
    from warmpool.registry import Registry
    from warmpool_operator.api import Api

    owner: type = {"Api": Api, "Registry": Registry}[step.owner]
    real, calls = getattr(owner, step.method), 0

    async def call(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal calls
        if not step.is_meant(arguments):
            return await real(self, *arguments, **options)
        calls += 1
        number = calls
        fault(number, False)
        answer = await real(self, *arguments, **options)
        fault(number, True)
        return answer

    setattr(owner, step.method, call)


def shift_clock(seconds: float) -> None:
    """Every wall clock that Python reads; monotonic ones go on. Before anything else is imported."""
    real, real_ns, right = time.time, time.time_ns, datetime.datetime

    class Shifted(right):  # type: ignore[misc, valid-type]
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return right.now(tz) + timedelta(seconds=seconds)

        @classmethod
        def utcnow(cls) -> Any:
            return right.utcnow() + timedelta(seconds=seconds)

    time.time = lambda: real() + seconds
    time.time_ns = lambda: real_ns() + int(seconds * 1e9)
    datetime.datetime = Shifted  # type: ignore[misc]


def shorten_silence(seconds: float) -> None:
    """Both watches take less of it for death; the product waits for longer than the API server is ever silent."""
    import warmpool_operator.__main__ as program
    from warmpool_operator import informer

    chosen = program.settings

    def quicker() -> Any:
        made = chosen()
        made.watching.inactivity_timeout = min(made.watching.inactivity_timeout, seconds)
        return made

    informer.SILENCE_SECONDS = min(informer.SILENCE_SECONDS, seconds)
    program.settings = quicker


def go_through(port: int) -> None:
    """Every TCP connection leads to this port of loopback. The API server's name and certificate stay what they are."""
    real = asyncio.SelectorEventLoop.sock_connect

    async def connect(self: Any, sock: Any, address: Any) -> None:
        await real(self, sock, ("127.0.0.1", port) if isinstance(address, tuple) else address)

    asyncio.SelectorEventLoop.sock_connect = connect  # type: ignore[method-assign]


def record_requests(file: Path) -> None:
    """Appends a line of JSON for each answer of the API server, to kopf too: method, path with query, status."""
    import aiohttp

    real = aiohttp.ClientSession._request

    async def request(self: Any, method: str, url: Any, **options: Any) -> Any:
        response = await real(self, method, url, **options)
        with file.open("a") as out:
            out.write(json.dumps([method, response.url.raw_path_qs, response.status]) + "\n")
        return response

    aiohttp.ClientSession._request = request


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", nargs="?", default="run")
    parser.add_argument("--dies", nargs=3, metavar=("MOMENT", "NUMBER", "STEP"))
    parser.add_argument("--loses", metavar="STEP")
    parser.add_argument("--clock", type=float)
    parser.add_argument("--silence", type=float)
    parser.add_argument("--through", type=int, metavar="PORT")
    parser.add_argument("--requests", type=Path)
    options = parser.parse_args()
    if options.clock:
        shift_clock(options.clock)
    if options.dies:
        moment, number, step = options.dies
        dies(moment, int(number), step)
    if options.loses:
        loses_an_answer(options.loses)
    if options.silence:
        shorten_silence(options.silence)
    if options.through:
        go_through(options.through)
    if options.requests:
        record_requests(options.requests)

    from warmpool_operator.__main__ import main as operator

    operator([options.command])


if __name__ == "__main__":
    main()

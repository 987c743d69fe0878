"""A real slot in a process of its own, as the tests call it."""

import json
import os
import select
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from support.network import Network
from support.unprivileged import Home, Place

from warmpool.protocol import Outcome

ANSWER_SECONDS = 40.0


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one program."""

    outcome: Outcome
    calls: list[dict[str, Any]]
    most_open: int
    zygote: int | None
    """The process that forked it; None for the first, which started one."""
    seconds: float
    """On the clock, as the caller sees it."""


class Sandbox:
    """Runs programs one after another. Not for use by two threads. `network` is where it is, if not in ours."""

    def __init__(
        self,
        place: Place,
        home: Home,
        tools: Path | None = None,
        walls: dict[str, bool] | None = None,
        tcp_ports: Sequence[int] = (),
        network: Network | None = None,
    ):
        self.home = home
        told = [str(home.scratch), str(tools or "-"), json.dumps(walls or {}), json.dumps(tcp_ports)]
        arguments = [str(place.code / "driver.py"), *told]
        start = partial(place.start, arguments, home, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.process: subprocess.Popen[bytes] = network.run(start) if network is not None else start()
        self._buffer = b""

    def run(self, code: str, context: Any = None, **options: Any) -> Run:
        """`options`: limits, validate, tools, cancel_after; see driver.py."""
        started = time.monotonic()
        self._send({"code": code, "context": context, **options})
        answer = json.loads(self._line())
        seconds = time.monotonic() - started
        outcome = Outcome.from_message(answer["outcome"])
        return Run(outcome, answer["calls"], answer["most_open"], answer["zygote"], seconds)

    def rehearse(self, **limits: Any) -> bool:
        self._send({"rehearse": limits})
        return bool(json.loads(self._line()))

    def set(self, **names: Any) -> None:
        """Sets names of the slot's module."""
        self._send({"set": names})

    def _send(self, request: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()

    def _line(self) -> bytes:
        assert self.process.stdout is not None
        deadline = time.monotonic() + ANSWER_SECONDS
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self.process.stdout.fileno(), 1 << 20) if ready else b""
            if not data:
                raise AssertionError("the driver ended" if ready else f"no answer in {ANSWER_SECONDS} s")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()

"""The life of a child: take its descriptors, go behind the walls, run one program, say its value, end.

Never returns into the zygote's loop.
"""

import os
import random
import socket
import sys
from pathlib import Path
from typing import Any, Final, NoReturn, TextIO

from warmpool.protocol import Limits, Message, ProtocolError, encode_frame
from warmpool_sandbox import confinement, program, tools

CHANNEL: Final = 3
"""The child's one way out, next to 0 (empty), 1 and 2."""


_REHEARSALS: Final = 12
"""CPython 3.11 specialises a function's bytecode after 8 calls."""
_REHEARSED: Final = """
import json
from collections import Counter
from dataclasses import dataclass

@dataclass
class Row:
    name: str
    price: float

rows = [Row(f"p{number}", number * 1.5) for number in range(20)]
counts = Counter(row.name[0] for row in rows if row.price > 3)
total = sum(row.price for row in rows)
return {"total": total, "names": sorted(row.name for row in rows)[:3], "counts": dict(counts), "text": json.dumps([1])}
"""


def live(
    descriptors: tuple[int, int, int],
    scratch: Path,
    limits: Limits,
    rlimits: confinement.RLimits,
    scope: int | None,
    *,
    network: bool,
) -> NoReturn:
    """`descriptors`: write ends for stdout and stderr, and the channel's. `network`: whether it may connect."""
    code = 70
    try:
        _take(descriptors, keep=scope)
        os.chdir(scratch)
        confinement.confine_child(scope, rlimits)
        random.seed()  # as at any other fork
        _run(limits, network=network)
        code = 0
    except BaseException as fault:
        os.write(2, f"sandbox: {type(fault).__name__}: {fault}\n".encode())
    finally:
        os._exit(code)


def _take(descriptors: tuple[int, int, int], keep: int | None) -> None:
    for number, descriptor in enumerate(descriptors, start=1):
        os.dup2(descriptor, number)
    first = CHANNEL + 1
    if keep is not None:
        os.closerange(first, keep)
        first = max(first, keep + 1)
    os.closerange(first, 1 << 16)


def rehearse(limits: Limits) -> None:
    """Runs a few harmless programs in the zygote, before its memory is frozen.

    What the interpreter learns by running (specialised bytecode, filled caches) is then every child's from the
    start, instead of being learned, and its pages copied, in each: 2.3 against 2.7 ms of CPU a child.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = tools.Channel(theirs, limits)
        for _ in range(_REHEARSALS):
            ours.sendall(encode_frame(Message.PROGRAM, {"code": _REHEARSED, "context": {}, "validate": True}))
            request = _await_program(channel)
            channel.send(Message.VALUE, program.run(request["code"], {}, validate=True, limits=limits))
            ours.recv(4096)
    program.forget()


def prepare_streams() -> None:
    """Makes `sys.stdout` and `sys.stderr` on descriptors 1 and 2, which each child replaces by its pipes.

    While they are made, a pipe is there: of a file the streams would remember that it can be sought in.
    """
    saved = [os.dup(number) for number in (1, 2)]
    ends = os.pipe()
    for number in (1, 2):
        os.dup2(ends[1], number)
    sys.stdout, sys.stderr = (_text_stream(number) for number in (1, 2))
    for number, descriptor in enumerate(saved, start=1):
        os.dup2(descriptor, number)
    for descriptor in (*saved, *ends):
        os.close(descriptor)


def _run(limits: Limits, *, network: bool) -> None:
    channel = tools.Channel(socket.socket(fileno=CHANNEL), limits)
    tools.connect(channel)
    request = _await_program(channel)
    validate = request.get("validate") is not False
    value = program.run(request["code"], request.get("context"), validate=validate, limits=limits, network=network)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # the program closed it
            continue
    channel.send(Message.VALUE, value)


def _text_stream(descriptor: int) -> TextIO:
    """Line by line, so that what was printed before a kill is kept."""
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _await_program(channel: tools.Channel) -> dict[str, Any]:
    while True:
        for frame in channel.receive():
            if frame.type is Message.PROGRAM:
                request: dict[str, Any] = frame.json()
                return request
            raise ProtocolError(f"expected PROGRAM, got {frame.type.name}")

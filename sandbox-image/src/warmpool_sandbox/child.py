"""The life of a child: take its descriptors, go behind the walls, run one program, say its value, end.

Never returns into the zygote's loop.
"""

import os
import random
import socket
import sys
from pathlib import Path
from typing import Any, Final, NoReturn, TextIO

from warmpool.protocol import Limits, Message, ProtocolError
from warmpool_sandbox import confinement, program, tools

CHANNEL: Final = 3
"""The child's one way out, next to 0 (empty), 1 and 2."""


def live(
    descriptors: tuple[int, int, int], scratch: Path, limits: Limits, uid_tasks: int, scope: int | None,
    walls: confinement.Walls,
) -> NoReturn:  # fmt: skip
    """`descriptors`: write ends for stdout and stderr, and the channel's."""
    code = 70
    try:
        _take(descriptors, keep=scope)
        os.chdir(scratch)
        confinement.confine_child(scope, limits, uid_tasks, walls)
        _run(limits)
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


def _run(limits: Limits) -> None:
    sys.stdout, sys.stderr = (_text_stream(number) for number in (1, 2))
    channel = tools.Channel(socket.socket(fileno=CHANNEL), limits)
    tools.connect(channel)
    request = _await_program(channel)
    random.seed()
    value = program.run(
        request["code"], request.get("context"), validate=request.get("validate") is not False, limits=limits
    )
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

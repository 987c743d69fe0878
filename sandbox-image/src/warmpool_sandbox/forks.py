"""What the standard library has done at each fork: nothing at the zygote's, all of it at a program's own.

threading, logging, concurrent.futures and random ask for it (`os.register_at_fork`): locks are made anew, the generator
of random numbers gets a seed. The zygote has one thread and holds no lock, so its children need the seed only, and
the rest would touch 140 pages in each, which the kernel then copies. A child that only ends takes 0.45 ms, and 0.83
with all of it.
"""

import os
from collections.abc import Callable
from typing import Any

_register: Callable[..., None] = os.register_at_fork
fork: Callable[[], int] = os.fork
"""The zygote's: the child that it makes has to give `random` a seed."""
_kept: list[dict[str, Any]] = []


def keep() -> None:
    """Before anything is imported: from now on what modules ask for is kept."""
    os.register_at_fork = _keep


def hand_over() -> None:
    """To programs, which may fork too: their first fork asks for all that was kept."""
    os.register_at_fork = _register
    os.fork = _fork_of_a_program


def _keep(**hooks: Any) -> None:
    _kept.append(hooks)


def _fork_of_a_program() -> int:
    while _kept:
        _register(**_kept.pop(0))
    return fork()

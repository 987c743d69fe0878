"""Landlock: which files a process may touch, and that it may signal, trace and connect to nothing outside.

Every right, network rule and scope that the running kernel knows is handled, found by asking it bit by bit,
so a newer kernel confines more without a change here. What is handled and not granted is denied.
"""

import errno
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from warmpool_sandbox import kernel

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same on every architecture
_VERSION_FLAG: Final = 1
_PATH_BENEATH: Final = 1
_NET_PORT: Final = 2
_CONNECT_TCP: Final = 1 << 1

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE = 1 << 4, 1 << 5
_MAKE_DIR, _MAKE_REG, _MAKE_FIFO, _MAKE_SYM = 1 << 7, 1 << 8, 1 << 10, 1 << 12
_REFER, _TRUNCATE = 1 << 13, 1 << 14

READ: Final = _READ_FILE | _READ_DIR
SCRATCH: Final = (
    READ
    | _WRITE_FILE
    | _REMOVE_DIR
    | _REMOVE_FILE
    | _MAKE_DIR
    | _MAKE_REG
    | _MAKE_FIFO
    | _MAKE_SYM
    | _REFER
    | _TRUNCATE
)
"""Everything but EXECUTE, devices and sockets."""
DEVICE: Final = _READ_FILE | _WRITE_FILE
_FILE_RIGHTS: Final = _READ_FILE | _WRITE_FILE | _TRUNCATE


@dataclass(frozen=True, slots=True)
class Handled:
    """Bit masks of what this kernel can restrict."""

    files: int
    network: int
    scopes: int


NOTHING: Final = Handled(0, 0, 0)


def abi() -> int:
    """The kernel's Landlock ABI; 0 where it has none or where it is switched off."""
    try:
        return kernel.syscall(_CREATE, None, 0, _VERSION_FLAG)
    except OSError:
        return 0


@cache
def handled() -> Handled:
    return Handled(*(_known_bits(field) for field in range(3)))


def _known_bits(field: int) -> int:
    bits = 0
    for bit in range(64):
        masks = [0, 0, 0]
        masks[field] = 1 << bit
        try:
            os.close(_create(Handled(*masks)))
        except OSError as fault:
            if fault.errno not in (errno.EINVAL, errno.E2BIG):
                raise
            break  # rights are numbered without gaps
        bits |= 1 << bit
    return bits


def _create(masks: Handled) -> int:
    attributes = struct.pack("=QQQ", masks.files, masks.network, masks.scopes)
    while attributes.endswith(bytes(8)) and len(attributes) > 8:
        attributes = attributes[:-8]  # an old kernel refuses fields that it does not know, even empty ones
    return kernel.syscall(_CREATE, attributes, len(attributes), 0)


def only(*, files: bool = False, network: bool = False, scopes: bool = False) -> Handled:
    """What this kernel can restrict, of the chosen kinds."""
    known = handled()
    return Handled(known.files if files else 0, known.network if network else 0, known.scopes if scopes else 0)


def create_ruleset(rules: Iterable[tuple[Path, int]], masks: Handled, connect_ports: Iterable[int] = ()) -> int:
    """A ruleset's descriptor that denies all of `masks` but the rights below the given paths, and TCP to the ports.

    Paths that do not exist are left out. Raises OSError where the kernel refuses.
    """
    ruleset = _create(masks)
    for path, rights in rules if masks.files else ():
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            granted = rights & masks.files & (-1 if path.is_dir() else _FILE_RIGHTS)
            kernel.syscall(_ADD, ruleset, _PATH_BENEATH, struct.pack("=Qi", granted, descriptor), 0)
        finally:
            os.close(descriptor)
    for port in connect_ports if masks.network else ():
        kernel.syscall(_ADD, ruleset, _NET_PORT, struct.pack("=QQ", _CONNECT_TCP, port), 0)
    return ruleset


def restrict(ruleset: int) -> None:
    """Puts this thread, and all that it will start, into a new domain. Needs no_new_privs."""
    kernel.syscall(_RESTRICT, ruleset, 0)

"""Assembles and installs the system-call filter: allow what is listed, check some, deny the rest.

The filter is classic BPF over `struct seccomp_data` (nr, arch, instruction pointer, six arguments). It is
installed once, in the zygote; children inherit it. A foreign architecture (32-bit or x32 calls, whose
numbers mean other things) kills the process; everything denied is an error that a library can handle.
"""

import ctypes
import errno
import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from warmpool_sandbox import kernel, syscall_table
from warmpool_sandbox.syscall_table import ALLOWED, CHECKED, DENIED

KILL: Final = 0x8000_0000
ALLOW: Final = 0x7FFF_0000
_ERRNO: Final = 0x0005_0000
EPERM: Final = _ERRNO | errno.EPERM
ENOSYS: Final = _ERRNO | errno.ENOSYS
ENOTTY: Final = _ERRNO | errno.ENOTTY
NO_EFFECT: Final = _ERRNO
"""The call returns 0 and was not made."""

ARCHITECTURES: Final = {"x86_64": (0, 0xC000_003E), "aarch64": (1, 0xC000_00B7)}
"""Column in the tables and AUDIT_ARCH value (linux/audit.h)."""

X32_BIT: Final = 0x4000_0000

NAMESPACE_FLAGS: Final = 0x7E02_0000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET; CLONE_NEWTIME is for clone3 and unshare only."""

_LD_ABS, _JEQ, _JSET, _AND, _RET = 0x20, 0x15, 0x45, 0x54, 0x06
_NR, _ARCH = 0, 4


def _argument(index: int) -> int:
    return 16 + 8 * index  # the low half; both architectures are little-endian


class Instruction(NamedTuple):
    code: int
    jump_true: int
    jump_false: int
    k: int


def _load(offset: int) -> Instruction:
    return Instruction(_LD_ABS, 0, 0, offset)


def _return(action: int) -> Instruction:
    return Instruction(_RET, 0, 0, action)


def _if_equal(value: int, then: list[Instruction]) -> list[Instruction]:
    return [Instruction(_JEQ, 0, len(then), value), *then]


def _one_of(index: int, values: Iterable[int], otherwise: int) -> list[Instruction]:
    """Allow where the argument's low 32 bits are one of the values."""
    checks = [i for value in values for i in _if_equal(value, [_return(ALLOW)])]
    return [_load(_argument(index)), *checks, _return(otherwise)]


def _none_of(index: int, values: Iterable[int], otherwise: int) -> list[Instruction]:
    checks = [i for value in values for i in _if_equal(value, [_return(otherwise)])]
    return [_load(_argument(index)), *checks, _return(ALLOW)]


def _without_bits(index: int, bits: int) -> list[Instruction]:
    return [_load(_argument(index)), Instruction(_JSET, 0, 1, bits), _return(EPERM), _return(ALLOW)]


def _mmap() -> list[Instruction]:
    """No memory that is shared and belongs to no file: dropped from a process's own count, it is held all the same.

    Nor huge pages, which come from a pool of the whole machine.
    """
    return [
        _load(_argument(3)),
        Instruction(_JSET, 3, 0, 0x40000),  # MAP_HUGETLB
        Instruction(_AND, 0, 0, 0x21),  # the bit of MAP_SHARED and MAP_SHARED_VALIDATE, MAP_ANONYMOUS
        Instruction(_JEQ, 1, 0, 0x21),
        _return(ALLOW),
        _return(EPERM),
    ]


def _socketpair() -> list[Instruction]:
    """AF_UNIX streams only: asyncio needs them. A datagram pair could be pointed at a named socket."""
    return [
        _load(_argument(0)),
        Instruction(_JEQ, 0, 4, 1),  # AF_UNIX
        _load(_argument(1)),
        Instruction(_AND, 0, 0, 0xF),
        Instruction(_JEQ, 0, 1, 1),  # SOCK_STREAM
        _return(ALLOW),
        _return(EPERM),
    ]


def _tcp_socket() -> list[Instruction]:
    """TCP over IPv4 and IPv6. MPTCP, SCTP and SMC carry streams too, and Landlock looks at none of them."""
    return [
        _load(_argument(0)),
        Instruction(_JEQ, 1, 0, 2),  # AF_INET
        Instruction(_JEQ, 0, 7, 10),  # AF_INET6
        _load(_argument(1)),
        Instruction(_AND, 0, 0, 0xF),
        Instruction(_JEQ, 0, 4, 1),  # SOCK_STREAM
        _load(_argument(2)),
        Instruction(_JEQ, 1, 0, 0),
        Instruction(_JEQ, 0, 1, 6),  # IPPROTO_TCP
        _return(ALLOW),
        _return(EPERM),
    ]


def _socket_options(at_sockets: list[Instruction]) -> list[Instruction]:
    """`at_sockets` decides for SOL_SOCKET. Of the protocols' own options TCP_NODELAY alone, which every client sets."""
    levels = _if_equal(1, at_sockets) + _if_equal(6, _one_of(2, (1,), EPERM))
    return [_load(_argument(1)), *levels, _return(EPERM)]


# F_SETSIG, F_SETOWN, F_SETOWN_EX, F_NOTIFY, F_SETPIPE_SZ: signals by other means, and pipe memory that all pods share.
_FCNTL_DENIED: Final = (10, 8, 15, 1026, 1031)
# TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX: what open files are asked; no terminal is ever driven.
_IOCTL_ALLOWED: Final = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
# PR_SET_PDEATHSIG (each child asks to die with its zygote), PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_SET_VMA
# (glibc names its arenas).
_PRCTL_ALLOWED: Final = (1, 3, 15, 16, 0x5356_4D41)

_MSG_OOB: Final = 1
_MSG_FASTOPEN: Final = 0x2000_0000
_SO_KEEPALIVE: Final = 9

_CHECKS: Final = {
    "mmap": _mmap(),
    "clone": _without_bits(0, NAMESPACE_FLAGS),
    # glibc and CPython fall back to clone, whose flags can be read here; clone3's lie behind a pointer.
    "clone3": [_return(ENOSYS)],
    "socketpair": _socketpair(),
    # Out-of-band data on unix sockets is a kernel feature that nobody uses and that was exploited (CVE-2025-38236).
    "sendto": _without_bits(3, _MSG_OOB),
    "sendmsg": _without_bits(2, _MSG_OOB),
    "recvfrom": _without_bits(3, _MSG_OOB),
    "recvmsg": _without_bits(2, _MSG_OOB),
    "fcntl": _none_of(1, _FCNTL_DENIED, EPERM),
    "ioctl": _one_of(1, _IOCTL_ALLOWED, ENOTTY),
    "prctl": _one_of(0, _PRCTL_ALLOWED, EPERM),
    "prlimit64": _one_of(0, (0,), EPERM),  # the caller itself
    # Modes and times of any file of this user, also outside scratch: Landlock has no right for them, and a path
    # cannot be read here. They mean nothing in scratch, but copying and touching files must go on working.
    **{name: [_return(NO_EFFECT)] for name in syscall_table.MODES_AND_TIMES},
}

_TCP_CHECKS: Final = {
    "socket": _tcp_socket(),
    "connect": [_return(ALLOW)],  # which ports, Landlock decides
    # A first packet with data connects as well, past Landlock.
    "sendto": _without_bits(3, _MSG_OOB | _MSG_FASTOPEN),
    "sendmsg": _without_bits(2, _MSG_OOB | _MSG_FASTOPEN),
    # No size of a buffer: what a connection may hold is the pod's to say.
    "setsockopt": _socket_options(_one_of(2, (_SO_KEEPALIVE,), EPERM)),
    "getsockopt": _socket_options([_return(ALLOW)]),
}
"""In place of what is said above and in the tables, where a pool has a network profile."""


def assemble(machine: str = kernel.MACHINE, *, tcp: bool = False) -> bytes:
    """The filter's instructions, 8 bytes each. Raises OSError(ENOSYS) on a machine it knows nothing of."""
    if machine not in ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no system-call table for {machine}")
    column, audit_arch = ARCHITECTURES[machine]
    program = [_load(_ARCH), Instruction(_JEQ, 1, 0, audit_arch), _return(KILL), _load(_NR)]
    if machine == "x86_64":
        program += [Instruction(_JSET, 0, 1, X32_BIT), _return(KILL)]
    known = {**ALLOWED, **CHECKED, **DENIED}
    for name, check in {**_CHECKS, **(_TCP_CHECKS if tcp else {})}.items():
        number = known[name][column]
        if number is not None:
            program += _if_equal(number, check)
    for table, action in ((ALLOWED, ALLOW), (DENIED, EPERM)):
        for numbers in table.values():
            number = numbers[column]
            if number is not None:
                program += _if_equal(number, [_return(action)])
    program.append(_return(ENOSYS))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def install(*, tcp: bool = False) -> None:
    """Puts the filter on this thread for good. Needs no_new_privs. Raises OSError where the kernel refuses."""
    code = assemble(tcp=tcp)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer)))
    kernel.prctl(kernel.PR_SET_SECCOMP, 2, ctypes.addressof(header))

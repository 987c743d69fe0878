"""The system-call filter's decisions, computed from its bytes by an interpreter of our own, for both architectures."""

import functools
import hashlib
import itertools
import re
import struct
from pathlib import Path

import pytest

from warmpool_sandbox import seccomp
from warmpool_sandbox.seccomp import ALLOW, ENOSYS, ENOTTY, EPERM, KILL, NO_EFFECT, assemble
from warmpool_sandbox.syscall_table import ALLOWED, CHECKED, DENIED, MODES_AND_TIMES

X86, ARM = "x86_64", "aarch64"
MACHINES = (X86, ARM)
COLUMN = {X86: 0, ARM: 1}
AUDIT_ARCH = {X86: 0xC000003E, ARM: 0xC00000B7}  # linux/audit.h

# Of the filter's bytes. A change of the tables or rules changes these; put the new ones here once it is reviewed.
GOLDEN = {
    X86: "7bfd096845059642213ec9062aef11d92f01470b17967cd2068addeb70423dbe",
    ARM: "9ce5f453068e2c689bafb4685be36c075a7b400c1714980bd94f132f19e57db7",
}


GOLDEN_TCP = {
    X86: "7ee5deeeea8fe85ff48f7b58cd418b7711e65cd73498a0d844c34055992afe1f",
    ARM: "8ee2907f22fc331b51888c53549e9045e4737176ea593cbf547b5748c87bc592",
}
"""With a network profile."""


@functools.cache
def instructions(machine: str, tcp: bool = False) -> list[tuple[int, int, int, int]]:
    return list(struct.iter_unpack("=HBBI", assemble(machine, tcp=tcp)))


def decide(machine: str, number: int, *arguments: int, arch: int | None = None, tcp: bool = False) -> int:
    """What the filter answers: classic BPF as Documentation/networking/filter.rst has it, as far as it is used."""
    padded = [argument & (1 << 64) - 1 for argument in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, AUDIT_ARCH[machine] if arch is None else arch, 0, *padded)
    program = instructions(machine, tcp)
    accumulator, place = 0, 0
    for _ in range(len(program)):
        code, when_true, when_false, k = program[place]
        place += 1
        match code:
            case 0x20:  # ld [k]
                (accumulator,) = struct.unpack_from("=I", data, k)
            case 0x54:  # and #k
                accumulator &= k
            case 0x15:  # jeq #k
                place += when_true if accumulator == k else when_false
            case 0x45:  # jset #k
                place += when_true if accumulator & k else when_false
            case 0x06:  # ret #k
                return k
            case _:
                raise AssertionError(f"instruction {code:#x}")
    raise AssertionError("the program ran past its end")


def number(name: str, machine: str) -> int:
    found = (ALLOWED | CHECKED | DENIED)[name][COLUMN[machine]]
    assert found is not None
    return found


def listed(table: dict[str, tuple[int | None, int | None]], machine: str) -> dict[str, int]:
    column = COLUMN[machine]
    return {name: found for name, numbers in table.items() if (found := numbers[column]) is not None}


# -- the whole


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filters_bytes_are_those_that_were_reviewed(machine):
    assert hashlib.sha256(assemble(machine)).hexdigest() == GOLDEN[machine]
    assert hashlib.sha256(assemble(machine, tcp=True)).hexdigest() == GOLDEN_TCP[machine]


@pytest.mark.parametrize("tcp", [False, True], ids=["no network", "network profile"])
@pytest.mark.parametrize("machine", MACHINES)
def test_the_kernel_would_take_the_filter(machine, tcp):
    program = instructions(machine, tcp)
    assert len(program) <= 4096  # BPF_MAXINSNS
    for place, (code, when_true, when_false, k) in enumerate(program):
        if code in (0x15, 0x45):
            assert place + 1 + max(when_true, when_false) < len(program)
        if code == 0x20:
            assert k % 4 == 0
            assert k < 64
    assert program[-1][0] == 0x06


def test_a_machine_without_a_table_is_refused():
    with pytest.raises(OSError, match="riscv64"):
        assemble("riscv64")


def test_every_call_stands_in_one_table_and_every_number_is_one_calls():
    names = [*ALLOWED, *CHECKED, *DENIED]
    assert len(names) == len(set(names))
    for column in COLUMN.values():
        numbers = [n[column] for n in (ALLOWED | CHECKED | DENIED).values() if n[column] is not None]
        assert len(numbers) == len(set(numbers))


HEADERS = {X86: "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", ARM: "/usr/include/asm-generic/unistd.h"}


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_are_the_kernels(machine):
    header = Path(HEADERS[machine])
    if not header.exists():
        pytest.skip(f"{header} is missing: it comes with linux-libc-dev")
    kernels: dict[str, int] = {}
    for name, value in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\b", header.read_text()):
        kernels.setdefault("newfstatat" if name == "fstatat" else name, int(value))
    for name, numbers in (ALLOWED | CHECKED | DENIED).items():
        assert numbers[COLUMN[machine]] == kernels.get(name), name


# -- by number


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("table", "answer"), [(ALLOWED, ALLOW), (DENIED, EPERM)], ids=["allowed", "denied"])
def test_every_listed_call_gets_its_tables_answer(machine, table, answer):
    for name, found in listed(table, machine).items():
        for arguments in ((), (0xFFFFFFFFFFFFFFFF,) * 6):
            assert decide(machine, found, *arguments) == answer, name


@pytest.mark.parametrize("machine", MACHINES)
def test_every_call_that_is_not_listed_looks_as_if_the_kernel_lacked_it(machine):
    known = set(listed(ALLOWED | CHECKED | DENIED, machine).values())
    for found in {*range(600), 0x3FFFFFFF} - known:
        assert decide(machine, found) == ENOSYS


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("arch", [0x40000003, 0x40000028, 0xC000003E, 0xC00000B7, 0, 0xFFFFFFFF])
def test_a_foreign_architecture_is_killed_whatever_it_calls(machine, arch):
    if arch == AUDIT_ARCH[machine]:
        return
    for found in (0, 1, 11, 39, 63, 102, 600, 0x40000001):
        assert decide(machine, found, arch=arch) == KILL


def test_x32_calls_are_killed():
    for found in itertools.chain(range(600), (0x3FFFFFFF, 0xBFFFFFFF)):
        assert decide(X86, found | 0x40000000) == KILL
    assert decide(X86, -1) == KILL


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    "name",
    """
    socket connect bind listen accept accept4 ptrace process_vm_readv process_vm_writev io_uring_setup io_uring_enter
    io_uring_register bpf keyctl add_key request_key userfaultfd mount umount2 pivot_root chroot fsopen fsmount
    move_mount open_tree unshare setns memfd_create execve execveat perf_event_open seccomp setuid setgid setresuid
    shmget msgget semget mq_open pidfd_getfd pidfd_send_signal name_to_handle_at open_by_handle_at init_module
    kexec_load reboot personality capset kcmp quotactl inotify_init1 fanotify_init sched_setaffinity mknodat
    setsockopt fchownat fchown
    """.split(),
)
def test_a_known_way_out_is_refused(machine, name):
    assert decide(machine, number(name, machine)) == EPERM


@pytest.mark.parametrize("machine", MACHINES)
def test_what_every_program_needs_is_allowed(machine):
    for name in "read write close openat newfstatat fstat statx mmap brk futex exit_group wait4 getrandom".split():
        assert decide(machine, number(name, machine)) == ALLOW, name


# -- by argument

CLONE_FLAGS = {
    "CLONE_NEWNS": 0x00020000,
    "CLONE_NEWCGROUP": 0x02000000,
    "CLONE_NEWUTS": 0x04000000,
    "CLONE_NEWIPC": 0x08000000,
    "CLONE_NEWUSER": 0x10000000,
    "CLONE_NEWPID": 0x20000000,
    "CLONE_NEWNET": 0x40000000,
}
FORK = 0x01200011  # CHILD_CLEARTID | CHILD_SETTID | SIGCHLD, as glibc forks
THREAD = 0x003D0F00  # as glibc starts a thread
PRIVATE, SHARED, VALIDATED, ANONYMOUS, NORESERVE, HUGE = 2, 1, 3, 0x20, 0x4000, 0x40000
OUT_OF_BAND, DONTWAIT = 1, 0x40
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
STREAM, DGRAM, SEQPACKET, NONBLOCK, CLOEXEC = 1, 2, 5, 0o4000, 0o2000000
HIGH = 1 << 32

BY_ARGUMENT = [
    *[
        ("mmap", (0, 4096, 3, flags), ALLOW)
        for flags in (PRIVATE, PRIVATE | ANONYMOUS, PRIVATE | ANONYMOUS | NORESERVE, SHARED, VALIDATED)
    ],
    *[
        ("mmap", (0, 4096, 3, flags), EPERM)
        for flags in (SHARED | ANONYMOUS, VALIDATED | ANONYMOUS | HIGH, PRIVATE | ANONYMOUS | HUGE, SHARED | HUGE)
    ],
    *[("sendto", (3, 0, 1, flags), answer) for flags, answer in ((DONTWAIT, ALLOW), (DONTWAIT | OUT_OF_BAND, EPERM))],
    *[("recvfrom", (3, 0, 1, flags), answer) for flags, answer in ((DONTWAIT, ALLOW), (OUT_OF_BAND | HIGH, EPERM))],
    *[("sendmsg", (3, 0, flags), answer) for flags, answer in ((0, ALLOW), (OUT_OF_BAND, EPERM))],
    *[("recvmsg", (3, 0, flags), answer) for flags, answer in ((0, ALLOW), (OUT_OF_BAND, EPERM))],
    *[("clone", (flags,), ALLOW) for flags in (FORK, THREAD, 17, FORK | HIGH)],
    *[("clone", (base | flag,), EPERM) for base in (0, FORK, THREAD, HIGH) for flag in CLONE_FLAGS.values()],
    ("clone3", (0, 88), ENOSYS),
    ("socketpair", (AF_UNIX, STREAM), ALLOW),
    ("socketpair", (AF_UNIX, STREAM | NONBLOCK | CLOEXEC), ALLOW),
    ("socketpair", (AF_UNIX | HIGH, STREAM | HIGH), ALLOW),  # the kernel reads them as 32-bit too
    *[("socketpair", (AF_UNIX, kind), EPERM) for kind in (DGRAM, SEQPACKET, DGRAM | CLOEXEC, 0, 3, 0xF)],
    *[("socketpair", (family, STREAM), EPERM) for family in (0, AF_INET, AF_INET6, AF_NETLINK, 38, 40)],
    *[("fcntl", (3, command), ALLOW) for command in (0, 1, 2, 3, 4, 5, 6, 7, 1030, 1032, 1034)],
    *[("fcntl", (3, command), EPERM) for command in (8, 10, 15, 1026, 1031, 1031 | HIGH)],
    *[("ioctl", (1, command), ALLOW) for command in (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)],
    # TIOCSTI, TIOCLINUX, TIOCSCTTY, SIOCGIFCONF, FS_IOC_SETFLAGS, KVM_CREATE_VM, FICLONE
    *[
        ("ioctl", (1, command), ENOTTY)
        for command in (0x5412, 0x541C, 0x540E, 0x8912, 0x40086602, 0xAE01, 0x40049409, 0x5412 | HIGH)
    ],
    *[("prctl", (option,), ALLOW) for option in (1, 3, 15, 16, 0x53564D41)],
    # SET_DUMPABLE, SET_SECCOMP, SET_CHILD_SUBREAPER, SET_NO_NEW_PRIVS, SET_PTRACER, SET_MM
    *[("prctl", (option,), EPERM) for option in (4, 22, 36, 38, 0x59616D61, 35)],
    ("prlimit64", (0, 7), ALLOW),
    ("prlimit64", (1, 7), EPERM),
    ("prlimit64", (-1, 7), EPERM),
]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("name", "arguments", "answer"), BY_ARGUMENT, ids=str)
def test_a_checked_call_is_decided_by_its_arguments(machine, name, arguments, answer):
    assert decide(machine, number(name, machine), *arguments) == answer


@pytest.mark.parametrize("machine", MACHINES)
def test_modes_and_times_of_files_are_left_as_they_are(machine):
    for found in listed(MODES_AND_TIMES, machine).values():
        assert decide(machine, found) == NO_EFFECT


def test_every_checked_call_was_tried():
    assert {name for name, _, _ in BY_ARGUMENT} | set(MODES_AND_TIMES) == set(CHECKED) == set(seccomp._CHECKS)


# -- with a network profile

SOL_IP, SOL_SOCKET, SOL_TCP, SOL_IPV6, SOL_MPTCP = 0, 1, 6, 41, 284
NODELAY, KEEPALIVE, SNDBUF, RCVBUF, ULP, CONGESTION, ZEROCOPY_RECEIVE = 1, 9, 7, 8, 31, 13, 35
TCP, UDP, SCTP, MPTCP, RAW = 6, 17, 132, 262, 3
FASTOPEN = 0x20000000

BY_ARGUMENT_WITH_TCP = [
    *[("socket", (family, STREAM, protocol), ALLOW) for family in (AF_INET, AF_INET6) for protocol in (0, TCP)],
    ("socket", (AF_INET | HIGH, STREAM | NONBLOCK | CLOEXEC, TCP | HIGH), ALLOW),
    *[("socket", (AF_INET, STREAM, protocol), EPERM) for protocol in (1, UDP, SCTP, MPTCP, 255, -1)],
    *[("socket", (family, kind, 0), EPERM) for family in (AF_INET, AF_INET6) for kind in (0, DGRAM, RAW, 4, SEQPACKET)],
    *[("socket", (AF_INET6, kind | NONBLOCK, TCP), EPERM) for kind in (0, DGRAM, RAW, 10, 0xF)],
    *[("socket", (family, STREAM, 0), EPERM) for family in range(46) if family not in (AF_INET, AF_INET6)],
    ("connect", (3, 0, 16), ALLOW),
    *[("sendto", (3, 0, 1, flags), answer) for flags, answer in ((DONTWAIT, ALLOW), (FASTOPEN, EPERM))],
    *[("sendto", (3, 0, 1, flags), EPERM) for flags in (OUT_OF_BAND, DONTWAIT | FASTOPEN, FASTOPEN | HIGH)],
    *[("sendmsg", (3, 0, flags), answer) for flags, answer in ((0, ALLOW), (FASTOPEN, EPERM), (OUT_OF_BAND, EPERM))],
    ("setsockopt", (3, SOL_SOCKET, KEEPALIVE), ALLOW),
    ("setsockopt", (3, SOL_TCP, NODELAY), ALLOW),
    *[("setsockopt", (3, SOL_SOCKET, name), EPERM) for name in range(100) if name != KEEPALIVE],
    *[("setsockopt", (3, SOL_TCP, name), EPERM) for name in range(100) if name != NODELAY],
    *[("setsockopt", (3, level, name), EPERM) for level in (SOL_IP, SOL_IPV6, SOL_MPTCP, -1) for name in (1, 9)],
    *[("getsockopt", (3, SOL_SOCKET, name), ALLOW) for name in (3, 4, SNDBUF, RCVBUF, KEEPALIVE, 38, 39)],
    ("getsockopt", (3, SOL_TCP, NODELAY), ALLOW),
    *[("getsockopt", (3, SOL_TCP, name), EPERM) for name in (ULP, CONGESTION, ZEROCOPY_RECEIVE)],
    *[("getsockopt", (3, level, 1), EPERM) for level in (SOL_IP, SOL_IPV6, SOL_MPTCP, -1)],
]


@pytest.mark.parametrize("machine", MACHINES)
def test_with_a_network_profile_a_socket_is_decided_by_its_arguments(machine):
    for name, arguments, answer in BY_ARGUMENT_WITH_TCP:
        assert decide(machine, number(name, machine), *arguments, tcp=True) == answer, (name, arguments)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_network_profile_changes_nothing_else(machine):
    """No call but those above is answered otherwise, whatever its arguments are here."""
    changed = {number(name, machine) for name, _, _ in BY_ARGUMENT_WITH_TCP}
    for found in {*range(600)} - changed:
        for arguments in ((), (1, 1, 1, 1), (2, 1, 6, 0), (0xFFFFFFFFFFFFFFFF,) * 6):
            assert decide(machine, found, *arguments, tcp=True) == decide(machine, found, *arguments)


def test_every_call_that_a_network_profile_changes_was_tried():
    assert {name for name, _, _ in BY_ARGUMENT_WITH_TCP} == set(seccomp._TCP_CHECKS)


def test_all_namespace_flags_are_in_the_mask():
    assert sum(CLONE_FLAGS.values()) == seccomp.NAMESPACE_FLAGS

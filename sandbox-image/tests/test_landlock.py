"""Landlock's rules, tried by a process that puts them on itself: each kind denies what it names and nothing else."""

import errno
import json
import os
import subprocess
from pathlib import Path

import pytest
from support.unprivileged import Place

from warmpool_sandbox import landlock

# ABI: how many rights for files, for the network and how many scopes it has, by the kernel's landlock.rst.
KNOWN = {1: (13, 0, 0), 2: (14, 0, 0), 3: (15, 0, 0), 4: (15, 2, 0), 5: (16, 2, 0), 6: (16, 2, 2)}

SCRIPT = """
import errno, json, os, signal, socket, sys
from pathlib import Path
from warmpool_sandbox import kernel, landlock

home, kinds = Path(sys.argv[1]), json.loads(sys.argv[2])
scratch, shelf, readable = home / "scratch", home / "shelf", home / "readable"
shelf.mkdir()
(shelf / "book").write_text("book")
readable.write_text("readable")
os.mkdir(scratch / "a"); os.mkdir(scratch / "b")

listener = socket.socket(socket.AF_UNIX)
listener.bind("\\0warmpool-test-%d" % os.getpid())
listener.listen()
tcp = socket.create_server(("127.0.0.1", 0))
ended, end = os.pipe()
outsider = os.fork()
if outsider == 0:
    os.close(end)
    os.read(ended, 1)
    os._exit(0)

rules = [
    (scratch, landlock.SCRATCH), (shelf, landlock.READ), (readable, landlock.READ), (home / "missing", landlock.READ),
    (Path("/dev/null"), landlock.DEVICE), (Path("/usr/lib"), landlock.READ), (Path("/lib"), landlock.READ),
]
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
masks = landlock.only(**kinds)
if masks != landlock.NOTHING:
    ruleset = landlock.create_ruleset(rules, masks)
    landlock.restrict(ruleset)
    os.close(ruleset)

def connect_abstract():
    with socket.socket(socket.AF_UNIX) as s:
        s.connect("\\0warmpool-test-%d" % os.getpid())

def connect_tcp():
    with socket.create_connection(tcp.getsockname()):
        pass

def bind_tcp():
    with socket.create_server(("127.0.0.1", 0)):
        pass

def write(path, text="x"):
    with open(path, "w") as file:
        file.write(text)

ATTEMPTS = {
    "read a granted file": lambda: readable.read_text(),
    "read below a granted folder": lambda: (shelf / "book").read_text(),
    "list a granted folder": lambda: os.listdir(shelf),
    "write a file that may be read": lambda: write(readable),
    "write below a folder that may be read": lambda: write(shelf / "new"),
    "truncate a file that may be read": lambda: os.truncate(shelf / "book", 0),
    "remove from a folder that may be read": lambda: os.remove(shelf / "book"),
    "read elsewhere": lambda: open("/etc/passwd").close(),
    "list elsewhere": lambda: os.listdir("/"),
    "write elsewhere": lambda: write(home / "new"),
    "write to scratch": lambda: write(scratch / "file"),
    "read in scratch": lambda: (scratch / "file").read_text(),
    "truncate in scratch": lambda: os.truncate(scratch / "file", 0),
    "make a folder in scratch": lambda: os.mkdir(scratch / "c"),
    "move within scratch": lambda: os.rename(scratch / "file", scratch / "c" / "file"),
    "make a link in scratch": lambda: os.symlink("x", scratch / "link"),
    "make a pipe in scratch": lambda: os.mkfifo(scratch / "pipe"),
    "remove from scratch": lambda: (os.remove(scratch / "c" / "file"), os.rmdir(scratch / "c")),
    "make a socket in scratch": lambda: socket.socket(socket.AF_UNIX).bind(str(scratch / "s")),
    "run a program": lambda: os.posix_spawn("/usr/bin/true", ["true"], {}),
    "write to /dev/null": lambda: write("/dev/null"),
    "write to /dev/full": lambda: open("/dev/full", "w").close(),
    "connect by TCP": connect_tcp,
    "listen by TCP": bind_tcp,
    "signal a process outside": lambda: os.kill(outsider, 0),
    "connect to an abstract socket outside": connect_abstract,
}
report = {}
for name, attempt in ATTEMPTS.items():
    try:
        attempt()
        report[name] = None
    except OSError as fault:
        report[name] = fault.errno
print(json.dumps(report))
os.close(end)
os.waitpid(outsider, 0)
"""

ALWAYS = [
    "read a granted file",
    "read below a granted folder",
    "list a granted folder",
    "write to scratch",
    "read in scratch",
    "truncate in scratch",
    "make a folder in scratch",
    "move within scratch",
    "make a link in scratch",
    "make a pipe in scratch",
    "remove from scratch",
    "write to /dev/null",
]
FILES = [
    "write a file that may be read",
    "write below a folder that may be read",
    "remove from a folder that may be read",
    "truncate a file that may be read",
    "read elsewhere",
    "list elsewhere",
    "write elsewhere",
    "make a socket in scratch",
    "run a program",
    "write to /dev/full",
]
NETWORK = ["connect by TCP", "listen by TCP"]
SCOPES = ["signal a process outside", "connect to an abstract socket outside"]
KINDS = {"files": FILES, "network": NETWORK, "scopes": SCOPES}


def attempts(place: Place, **kinds: bool) -> dict[str, int | None]:
    """What each attempt got, after these kinds of rules went up: None or the error's number."""
    home = place.home()
    process = place.start(
        ["-W", "ignore", "-c", SCRIPT, str(home.path), json.dumps(kinds)], home, stdout=subprocess.PIPE
    )
    output, _ = process.communicate(timeout=20)
    report: dict[str, int | None] = json.loads(output)
    return report


def test_this_kernel_has_what_the_probe_asks_for():
    assert landlock.abi() >= 6, "Linux 6.12 or newer with Landlock switched on is needed"


def test_asking_bit_by_bit_finds_what_the_abi_stands_for():
    handled = landlock.handled()
    found = [mask.bit_length() for mask in (handled.files, handled.network, handled.scopes)]
    for seen, at_least in zip(found, KNOWN[min(landlock.abi(), max(KNOWN))], strict=True):
        assert seen >= at_least
    for mask in (handled.files, handled.network, handled.scopes):
        assert mask == (1 << mask.bit_length()) - 1, "rights are numbered without gaps"


def test_only_the_chosen_kinds_are_handled():
    handled = landlock.handled()
    assert landlock.only() == landlock.NOTHING
    assert landlock.only(files=True) == landlock.Handled(handled.files, 0, 0)
    assert landlock.only(network=True, scopes=True) == landlock.Handled(0, handled.network, handled.scopes)


def test_scratch_may_not_be_executed_from_and_holds_no_devices_or_sockets():
    execute, make_char, make_sock, make_block = 1 << 0, 1 << 6, 1 << 9, 1 << 11
    for rights in (landlock.READ, landlock.SCRATCH, landlock.DEVICE):
        assert not rights & (execute | make_char | make_sock | make_block)


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_a_kind_of_rules_denies_what_it_names_and_nothing_else(sandbox_place: Place, kind: str | None):
    report = attempts(sandbox_place, **({kind: True} if kind else {}))
    denied = {name for name, number in report.items() if number is not None}
    assert denied == set(KINDS[kind] if kind else [])


def test_all_kinds_together_deny_all_and_leave_scratch_usable(sandbox_place: Place):
    report = attempts(sandbox_place, files=True, network=True, scopes=True)
    assert {name for name, number in report.items() if number is None} == set(ALWAYS)
    assert {report[name] for name in (*FILES, *NETWORK)} == {errno.EACCES}
    assert {report[name] for name in SCOPES} == {errno.EPERM}


CONNECT = """
import errno, socket
from warmpool_sandbox import kernel, landlock

listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
one, other = (made.getsockname()[1] for made in listeners)
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
landlock.restrict(landlock.create_ruleset((), landlock.only(network=True), [one]))
for port in (one, other):
    print(errno.errorcode.get(socket.socket().connect_ex(("127.0.0.1", port))))
try:
    socket.socket().bind(("127.0.0.1", one))
except OSError as fault:
    print(errno.errorcode[fault.errno])
"""


def test_a_listed_port_may_be_connected_to_and_not_be_bound(sandbox_place: Place):
    process = sandbox_place.start(["-W", "ignore", "-c", CONNECT], sandbox_place.home(), stdout=subprocess.PIPE)
    output, _ = process.communicate(timeout=20)
    assert output.decode().split() == ["None", "EACCES", "EACCES"]


def test_without_no_new_privs_the_kernel_refuses_and_that_is_an_error(sandbox_place: Place):
    home = sandbox_place.home()
    script = "from warmpool_sandbox import landlock as l; l.restrict(l.create_ruleset((), l.only(scopes=True)))"
    process = sandbox_place.start(["-c", script], home, stderr=subprocess.PIPE)
    _, errors = process.communicate(timeout=20)
    assert b"PermissionError" in errors


def test_a_missing_folder_is_no_rule_and_no_error(tmp_path: Path):
    os.close(landlock.create_ruleset([(tmp_path / "missing", landlock.READ)], landlock.only(files=True)))

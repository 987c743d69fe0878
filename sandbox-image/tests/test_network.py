"""A pool's network profile: what a program may then do, and what it may not leave. What it may not do: redteam/."""

import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support.network import Network, can_separate
from support.sandbox import Run, Sandbox
from support.unprivileged import Place

from warmpool.protocol import TCP_BUFFER_BYTES
from warmpool_sandbox import connections

pytestmark = pytest.mark.skipif(not can_separate(), reason="needs the right to a network namespace")


COUNTED = 2 * TCP_BUFFER_BYTES + connections._PACKETS_BYTES
"""For each connection, of a program's memory."""


class Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class Sixth(ThreadingHTTPServer):
    address_family = socket.AF_INET6


@dataclass(frozen=True, slots=True)
class World:
    """A sandbox, and who listens around it."""

    sandbox: Sandbox
    ports: dict[str, int]
    """`http` answers, `sixth` does so over IPv6, `mute` hears each to its end, `deaf` never reads; `unlisted` is not
    part of the profile."""

    def run(self, code: str, **options: object) -> Run:
        return self.sandbox.run(code, self.ports, **options)


def hear(listener: socket.socket) -> None:
    """Each caller to its end, one after another, until the listener is shut down."""
    with suppress(OSError):
        while True:
            way, _ = listener.accept()
            with way:
                way.recv(1)


@pytest.fixture
def network() -> Iterator[Network]:
    made = Network()
    yield made
    made.close()


@pytest.fixture
def world(sandbox_place: Place, network: Network) -> Iterator[World]:
    with ExitStack() as stack:
        http = network.run(ThreadingHTTPServer, ("127.0.0.1", 0), Hello)
        sixth = network.run(Sixth, ("::1", 0), Hello)
        mute, deaf, unlisted = (network.run(socket.create_server, ("127.0.0.1", 0), backlog=4096) for _ in range(3))
        for server in (http, sixth):
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
        listeners = {"http": http.socket, "sixth": sixth.socket, "mute": mute, "deaf": deaf, "unlisted": unlisted}
        ports = {name: stack.enter_context(made).getsockname()[1] for name, made in listeners.items()}
        threading.Thread(target=hear, args=(mute,), daemon=True).start()
        stack.callback(mute.shutdown, socket.SHUT_RDWR)  # before it is closed, which would wake nobody
        listed = [ports[name] for name in ("http", "sixth", "mute", "deaf")]
        sandbox = Sandbox(sandbox_place, sandbox_place.home(), tcp_ports=listed, network=network)
        stack.callback(sandbox.close)
        yield World(sandbox, ports)


CLIENTS = {
    "a socket": """
import socket
with socket.create_connection(("127.0.0.1", context["http"]), timeout=5) as way:
    way.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    way.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
    return way.makefile().read()[-5:]
""",
    "a socket over IPv6": """
import socket
with socket.create_connection(("::1", context["sixth"]), timeout=5) as way:
    way.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
    return way.makefile().read()[-5:]
""",
    "http.client": """
import http.client
connection = http.client.HTTPConnection("127.0.0.1", context["http"], timeout=5)
connection.request("GET", "/")
answer = connection.getresponse().read().decode()
connection.close()
return answer
""",
    "urllib": """
import urllib.request
with urllib.request.urlopen(f"http://127.0.0.1:{context['http']}/", timeout=5) as answer:
    return answer.read().decode()
""",
    "asyncio": """
import asyncio
async def main():
    reader, writer = await asyncio.open_connection("127.0.0.1", context["http"])
    writer.write(b"GET / HTTP/1.0\\r\\n\\r\\n")
    answer = await reader.read()
    writer.close()
    return answer[-5:].decode()
asyncio.run(main())
""",
    "threads": """
import urllib.request
from concurrent.futures import ThreadPoolExecutor
def get(_):
    with urllib.request.urlopen(f"http://127.0.0.1:{context['http']}/", timeout=5) as answer:
        return answer.read().decode()
with ThreadPoolExecutor(8) as pool:
    (answer,) = set(pool.map(get, range(40)))
return answer
""",
}


@pytest.mark.parametrize("client", CLIENTS)
def test_a_program_talks_to_a_listed_port_and_leaves_nothing(world: World, client: str) -> None:
    outcome = world.run(CLIENTS[client]).outcome
    assert (outcome.status.value, outcome.value) == ("ok", "hello"), outcome
    assert outcome.clean, outcome.residue


def test_a_program_learns_that_a_port_is_not_open_to_it(world: World) -> None:
    outcome = world.run("import socket\nsocket.create_connection(('127.0.0.1', context['unlisted']), 5)").outcome
    assert (outcome.error.type, outcome.status.value) == ("PermissionError", "user_error")


def test_names_are_not_resolved_and_that_is_said_at_once(world: World) -> None:
    ran = world.run("import socket\nsocket.create_connection(('example.com', context['http']), 5)")
    assert ran.outcome.error.type == "gaierror"
    assert ran.seconds < 2


INHERITED = """
import errno, socket
ends = [socket.socket(fileno=3), *socket.socketpair()]
answers = [errno.errorcode[end.connect_ex(context["named"])] for end in ends]
ends[0].detach()
return answers
"""


def test_what_a_program_inherits_or_pairs_connects_nowhere_else(world: World) -> None:
    """To a unix socket by its name, which Landlock does not look at before its ABI 9: the kernel itself refuses."""
    named = world.sandbox.home.path / "named"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(named))
        named.chmod(0o777)
        listener.listen()
        outcome = world.sandbox.run(INHERITED, {"named": str(named)}, validate=False).outcome
    assert outcome.value == ["EISCONN"] * 3


UNSENT = """
import socket
ways = [socket.create_connection(("127.0.0.1", context["deaf"])) for _ in range(3)]
for way in ways:
    way.setblocking(False)
    try:
        while True:
            way.send(bytes(65536))
    except BlockingIOError:
        pass
return len(ways)
"""


def test_a_program_whose_data_is_still_sent_after_its_end_makes_its_sandbox_dirty(world: World) -> None:
    outcome = world.run(UNSENT).outcome
    assert (outcome.value, outcome.residue) == (3, ("connections: 3 still send",))


HALF_SENT = """
import socket, time
for _ in range(100):
    with socket.create_connection(("127.0.0.1", context["deaf"])) as way:
        way.setblocking(False)
        try:
            while True:
                way.send(bytes(65536))
        except BlockingIOError:
            pass
time.sleep(0.2)
return "got in"
"""


def test_connections_that_a_program_lets_go_half_sent_count_as_long_as_they_are(world: World) -> None:
    outcome = world.run(HALF_SENT, limits={"memory_bytes": 50_000_000}).outcome
    assert outcome.status.value == "memory_limit"
    assert any("still send" in said for said in outcome.residue)


CLOSED_FIRST = """
import socket
for _ in range(1100):
    with socket.create_connection(("127.0.0.1", context["mute"]), timeout=5) as way:
        way.shutdown(socket.SHUT_WR)
        way.recv(1)
"""


def test_a_program_that_uses_addresses_up_makes_its_sandbox_dirty(world: World) -> None:
    """The side that closes first keeps the address."""
    outcome = world.run(CLOSED_FIRST).outcome
    (said,) = outcome.residue
    assert outcome.status.value == "ok", outcome.error
    assert said.endswith("addresses are taken for a minute more")


def test_a_connection_counts_as_the_memory_that_it_may_hold(world: World) -> None:
    code = "import socket, time\nway = socket.create_connection(('127.0.0.1', context['deaf']))\ntime.sleep(0.2)"
    peak = world.run(code).outcome.usage.memory_peak_bytes
    both_ends = 2 * COUNTED  # the other one is here, too
    assert both_ends <= peak < both_ends + 3_000_000


# -- what the kernel makes of the bound


@pytest.mark.parametrize("size", [20, 1400, 65536], ids=lambda size: f"{size} bytes at a time")
def test_a_full_connection_holds_no_more_than_is_counted(network: Network, size: int) -> None:
    assert COUNTED // 2 < network.run(most_held, size) <= COUNTED


def most_held(size: int) -> int:
    """By any end of three connections that read until their buffers had grown, and then read no more."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        ends = []
        for _ in range(3):
            ends.append(stack.enter_context(socket.create_connection(listener.getsockname())))
            ends.append(stack.enter_context(listener.accept()[0]))
        for end in ends:
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for one, other in (*zip(ends[::2], ends[1::2], strict=True), *zip(ends[1::2], ends[::2], strict=True)):
            for _ in range(100):
                send_all_that_fits(one, 65536)
                receive_all(other)
        for end in ends * 3:
            send_all_that_fits(end, size)
        return max(map(held, ends))


def send_all_that_fits(end: socket.socket, size: int) -> None:
    with suppress(BlockingIOError):
        while True:
            end.send(bytes(size))


def receive_all(end: socket.socket) -> None:
    with suppress(BlockingIOError):
        while True:
            end.recv(1 << 20)


def held(end: socket.socket) -> int:
    """SO_MEMINFO: what was received, what is to be sent and what is in wait, of nine fields."""
    fields = struct.unpack("9I", end.getsockopt(socket.SOL_SOCKET, 55, 36))
    return sum(fields[place] for place in (0, 5, 7))


# -- the probe

SEEN = """
import asyncio, json, sys
from pathlib import Path
from warmpool_sandbox import kernel, probe
from warmpool_sandbox.confinement import Walls
from warmpool_sandbox.slot import Slot

async def main():
    slot = Slot(Path(sys.argv[1]), None, Walls(**json.loads(sys.argv[2])), tcp_ports=json.loads(sys.argv[3]))
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    report = await probe.probe(slot)
    slot.close()
    print(json.dumps({check.name: check.holds for check in report.checks}))

asyncio.run(main())
"""


def probed(place: Place, network: Network, ports: list[int], walls: dict[str, bool] | None = None) -> dict[str, bool]:
    """What each check says, by name."""
    home = place.home()
    words = ["-c", SEEN, str(home.scratch), json.dumps(walls or {}), json.dumps(ports)]
    process = network.run(place.start, words, home, stdout=subprocess.PIPE)
    output, _ = process.communicate(timeout=30)
    found: dict[str, bool] = json.loads(output)
    return found


PROFILE = ["network: TCP to port 443", "network: TCP to port 9443", "network: TCP to any other port"]


def test_the_probe_tries_every_port(sandbox_place: Place, network: Network) -> None:
    found = probed(sandbox_place, network, [443, 9443])
    assert all(found.values()), found
    assert {*PROFILE, "network: IPv4", "network: unix", "network: MPTCP", "network: listen"} <= found.keys()


def test_without_a_profile_the_probe_sees_that_there_is_no_socket(sandbox_place: Place, network: Network) -> None:
    found = probed(sandbox_place, network, [])
    assert found["network: TCP"]
    assert not found.keys() & set(PROFILE)


@pytest.mark.parametrize(
    ("wall", "check"),
    [("network", "network: TCP to any other port"), ("seccomp", "network: MPTCP"), ("seccomp", "network: unix")],
)
def test_the_probe_sees_a_wall_that_is_missing(sandbox_place: Place, network: Network, wall: str, check: str) -> None:
    assert probed(sandbox_place, network, [443])[check]
    assert not probed(sandbox_place, network, [443], {wall: False})[check]


@pytest.mark.parametrize("bounded", [True, False])
def test_the_probe_demands_that_a_pods_connections_are_bounded(bounded: bool) -> None:
    network = Network(bounded=bounded)
    script = "from warmpool_sandbox import probe as p; print(p._bounded_connections())"
    said = network.run(subprocess.run, [sys.executable, "-c", script], capture_output=True, text=True, check=True)
    network.close()
    assert f"holds={bounded}" in said.stdout

"""TCP connections of this network namespace, of those that programs make. For pools with a network profile only.

The kernel counts connections by namespace, whoever holds them: a process, a message on its way that carries them, or
nobody any more, while data is still to be sent. Each is taken for as large as the namespace lets one become, for how
full it is costs 3 ms to learn. What else comes and goes in a pod is a gateway's stream or a kubelet's question.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_PROC: Final = Path("/proc")
_CLOSED_BYTES: Final = 512
"""Of a connection in TIME_WAIT: its address is taken for a minute. The kernel's object has 250."""
_MOST_LEFT: Final = 1024
"""Of the 28,000 addresses that a pod has towards each server."""
_PACKETS_BYTES: Final = 128 * 1024
"""Each of the two takes one packet more than its bound, and small ones are packed badly: 75 kB were seen."""
_UNSENT_BYTES: Final = 1
"""What an end of file in wait for its acknowledgement counts as."""


@dataclass(frozen=True, slots=True)
class Counts:
    """At one moment."""

    open: int
    """All that may hold data, listeners included."""
    closed: int

    @classmethod
    def now(cls) -> Self:
        """Two reads of 6 µs."""
        fourth = _fields(_PROC / "net/sockstat", "TCP")
        sixth = _fields(_PROC / "net/sockstat6", "TCP6")
        return cls(fourth.get("inuse", 0) + sixth.get("inuse", 0), fourth.get("tw", 0))


class Connections:
    """Those to `ports` that came into being since this was made."""

    def __init__(self, ports: Collection[int]) -> None:
        self._ports = ports
        self._before = Counts.now()
        self._bytes = buffer_bytes() + _PACKETS_BYTES

    def held_bytes(self) -> int:
        """The most that the kernel may hold for them."""
        now = Counts.now()
        opened, closed = now.open - self._before.open, now.closed - self._before.closed
        return max(0, opened) * self._bytes + max(0, closed) * _CLOSED_BYTES

    def left(self) -> tuple[str, ...]:
        """What is left of them without a process, in words; empty where nothing is.

        Looks closer, for 3 ms, only where a count has changed. So a gateway's stream that ends meanwhile may hide one.
        """
        if Counts.now() == self._before:
            return ()
        orphans = [unsent for port, unsent in _orphans() if port in self._ports]
        found: list[str] = []
        if sending := sum(unsent > _UNSENT_BYTES for unsent in orphans):
            found.append(f"connections: {sending} still send")
        if len(orphans) > _MOST_LEFT:
            found.append(f"connections: {len(orphans)} addresses are taken for a minute more")
        return tuple(found)


def buffer_bytes() -> int:
    """Bound of one connection's buffers in this namespace, of both ways. Raises OSError where it is not told."""
    return sum(int((_PROC / f"sys/net/ipv4/tcp_{way}mem").read_text("ascii").split()[2]) for way in ("r", "w"))


def _orphans() -> Iterator[tuple[int, int]]:
    """Remote port and unsent bytes of each connection that no process holds."""
    for name in ("tcp", "tcp6"):
        for line in (_PROC / "net" / name).read_text("ascii").splitlines()[1:]:
            fields = line.split()
            if fields[9] == "0":
                yield int(fields[2].rpartition(":")[2], 16), int(fields[4].partition(":")[0], 16)


def _fields(file: Path, protocol: str) -> dict[str, int]:
    """Of `TCP: inuse 5 orphan 0 tw 2 alloc 9 mem 1`; empty for a protocol that the kernel does not have."""
    try:
        lines = file.read_text("ascii").splitlines()
    except FileNotFoundError:
        return {}
    for line in lines:
        name, _, rest = line.partition(":")
        if name == protocol:
            words = rest.split()
            return dict(zip(words[::2], map(int, words[1::2]), strict=True))
    return {}

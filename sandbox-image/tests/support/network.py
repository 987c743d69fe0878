"""A network namespace, as each pod has one: for sandboxes with a network profile, which count what theirs holds."""

import ctypes
import fcntl
import functools
import os
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from support.unprivileged import AS_ROOT

from warmpool.protocol import TCP_BUFFER_BYTES

_CLONE_NEWNET: Final = 0x4000_0000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1

Result = TypeVar("Result")


@functools.cache
def can_separate() -> bool:
    """Whether a process of ours may have a network of its own: root may, but not in every container."""
    try:
        Network().close()
    except OSError:
        return False
    return AS_ROOT


class Network:
    """One with loopback up, and with buffers as small as a pod's, or as the kernel makes them.

    A thread is in it for good, and `run` runs there what is to be in it. A socket that was made there stays there,
    whoever uses it. Raises OSError where the kernel refuses.
    """

    def __init__(self, *, bounded: bool = True) -> None:
        self._thread = ThreadPoolExecutor(1, "network")
        self.run(_separate)
        if bounded:
            self.run(_bound_buffers)

    def run(self, action: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
        return self._thread.submit(action, *arguments, **options).result()

    def close(self) -> None:
        """It ends with the last socket and process in it."""
        self._thread.shutdown()


def _separate() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        request = fcntl.ioctl(way, _SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
        (flags,) = struct.unpack_from("16xH", request)
        fcntl.ioctl(way, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


def _bound_buffers() -> None:
    for way, usual in (("r", 131072), ("w", 16384)):
        Path(f"/proc/sys/net/ipv4/tcp_{way}mem").write_text(f"4096 {usual} {TCP_BUFFER_BYTES}")

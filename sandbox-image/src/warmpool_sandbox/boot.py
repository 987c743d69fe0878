"""How a pod's process begins: it heeds the kubelet's signal, listens where it asks, and only then loads the rest.

The kubelet asks as soon as it knows that the container runs. What it asks waits until this sandbox serves; a refusal
would cost the API server three events and the pod some seconds. So nothing is loaded before but what the interpreter
has: it listens 2 ms of processor time after it began. `socket` and `typing` would make that 19, the supervisor 90.
"""

import _signal  # type: ignore[import-not-found]  # `signal` loads `enum`
import _socket
import posix
import sys

BACKLOG = 16
STOP = (_signal.SIGTERM, _signal.SIGINT)


def main() -> None:
    end_when_told()
    bell = listening(sys.argv)
    from warmpool_sandbox.__main__ import main as rest

    rest(bell=bell)


def end_when_told() -> None:
    """Process 1 of a container has no default action: a pod that is deleted while it starts would be deaf, and stay for
    the whole of its grace."""
    for number in STOP:
        _signal.signal(number, lambda *_: posix._exit(0))


def listening(arguments: "list[str]") -> "_socket.socket | None":
    """As `--host` and `--health-port` say; None where they do not, or where that fails, which is reported later."""
    try:
        host, port = (arguments[arguments.index(name) + 1] for name in ("--host", "--health-port"))
        return listen(host, int(port))
    except (ValueError, IndexError, OSError):
        return None


def listen(host: str, port: int) -> "_socket.socket":
    """Raises OSError."""
    made = _socket.socket(_socket.AF_INET6 if ":" in host else _socket.AF_INET, _socket.SOCK_STREAM)
    try:
        made.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made

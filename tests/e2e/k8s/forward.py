"""Ways from the machine of the tests to a Service, on any cluster."""

import re
import select
import socket
import subprocess
import time
from types import TracebackType
from typing import Final, Self

REACH_SECONDS: Final = 2.0
START_SECONDS: Final = 20.0


def is_reachable(host: str, port: int) -> bool:
    """Whether the machine has a route to an address of the cluster, as the node itself has."""
    try:
        socket.create_connection((host, port), REACH_SECONDS).close()
    except OSError:
        return False
    return True


class Forward:
    """`kubectl port-forward` to a Service, past all NetworkPolicies. It leads to one pod, and ends with it."""

    def __init__(self, namespace: str, service: str, port: int, here: int | None = None) -> None:
        """From the port `here` of this machine; by default from one that is free."""
        self._process = subprocess.Popen(
            ["kubectl", "port-forward", "--namespace", namespace, f"service/{service}", f"{here or ''}:{port}"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            self.port = self._first_port()
        except BaseException:
            self.end()
            raise

    def _first_port(self) -> int:
        said = ""
        out = self._process.stdout
        assert out is not None
        deadline = time.monotonic() + START_SECONDS
        while select.select([out], [], [], max(0.0, deadline - time.monotonic()))[0]:
            line = out.readline()
            said += line
            if found := re.search(r"127\.0\.0\.1:(\d+) ->", line):
                return int(found[1])
            if not line:
                break
        raise AssertionError(f"no port was forwarded: {said}")

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

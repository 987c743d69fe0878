"""What is counted while the operator is at work: its processor time, memory and requests, and the events it gets."""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from bench.writes import read, written
from k8s.cluster import Cluster

PROGRAM: Final = Path(__file__).with_name("watch.py")
RESOURCES: Final = ("pods", "sandboxpools")


@dataclass(frozen=True, slots=True)
class Operator:
    """The process that is measured."""

    pid: int
    port: int

    def cpu(self) -> float:
        """Processor seconds, by the clock of clock_getcpuclockid(3): /proc counts in steps of 10 ms."""
        return time.clock_gettime((~self.pid << 3) | 2)

    def most_bytes(self) -> int:
        """Of its memory, since it began."""
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024

    async def acts(self) -> bool:
        """Whether it has begun, and leads."""
        try:
            return "\nwarmpool_operator_leads 1.0\n" in await self._metrics()
        except aiohttp.ClientConnectionError:
            return False

    async def writes(self) -> Counter[str]:
        """Its own count, as `POST pods`."""
        return _of_pods_and_pools(read(await self._metrics(), "warmpool_operator_api_requests_total"))

    async def _metrics(self) -> str:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}/metrics") as answer:
            return await answer.text()


class Watch:
    """watch.py at work: the control."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def said(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        return dict(json.loads(await self._process.stdout.readline()))


@asynccontextmanager
async def watching(namespace: str) -> AsyncIterator[Watch]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, PROGRAM, namespace, stdin=pipe, stdout=pipe)
    try:
        yield Watch(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()  # by which it ends
        await process.wait()


async def writes_served(cluster: Cluster) -> Counter[str]:
    """To anyone, as the API server counts them."""
    return _of_pods_and_pools(await written(cluster))


def _of_pods_and_pools(found: Counter[str]) -> Counter[str]:
    return Counter({kind: int(count) for kind, count in found.items() if kind.split()[1].startswith(RESOURCES)})

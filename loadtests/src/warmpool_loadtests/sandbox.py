"""One confined execution against a bare fork and a cold interpreter, in one run; memory of an idle sandbox.

No gateway and no Redis: a client of the stream sends a trivial program and waits for its result.
"""

import asyncio
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from warmpool.local.pod import LocalPod
from warmpool.local.staging import stage
from warmpool.protocol import Limits, Outcome
from warmpool.registry import Lease
from warmpool_gateway.pod_stream import Program
from warmpool_gateway.pods import PodConnections
from warmpool_loadtests.cpu import cpu_seconds, family, memory_bytes
from warmpool_loadtests.figures import percentile, spread

ROUNDS: Final = 7
CYCLES: Final = 300
"""Of each kind in a round, over all sandboxes together."""
PROGRAM: Final = Program(code="return sum(range(10))")


async def measure(pods: int = 2) -> dict[str, Any]:
    """Rounds of all three kinds in turn, so that a machine that slows down slows all of them."""
    folder = Path(tempfile.mkdtemp(prefix="warmpool-bench-"))
    os.chmod(folder, 0o711)  # noqa: S103  the users of sandboxes pass through
    key = secrets.token_hex(32).encode()
    try:
        staged = stage(folder / "sandbox")
        running = [
            LocalPod(folder, staged, pool="bench", key=key, limits=Limits(), uid=2_000_000 + index)
            for index in range(pods)
        ]
        await asyncio.gather(*(pod.start() for pod in running))
        connections = PodConnections(key=key, pool="bench")
        try:
            return await _measure(running, connections)
        finally:
            await connections.aclose()
            await asyncio.gather(*(pod.stop() for pod in running))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _measure(pods: list[LocalPod], connections: PodConnections) -> dict[str, Any]:
    await _round(pods, connections, 40)
    rounds = [
        await _round(pods, connections, CYCLES) | _fork_round(CYCLES) | _interpreter_round(40) for _ in range(ROUNDS)
    ]
    cycle = [r["cpu_ms"] for r in rounds]
    fork = [r["fork_cpu_ms"] for r in rounds]
    interpreter = [r["interpreter_cpu_ms"] for r in rounds]
    idle = [memory_bytes(pid) for pid in family(pods[0].pid)]
    return {
        "pods": len(pods),
        "rounds": ROUNDS,
        "cycles_per_round": CYCLES,
        "cycles_per_second": spread([r["per_second"] for r in rounds]),
        "cpu_ms_per_cycle": spread(cycle),
        "client_cpu_ms_per_cycle": spread([r["client_cpu_ms"] for r in rounds]),
        "wall_ms_p50": spread([r["p50_ms"] for r in rounds]),
        "wall_ms_p99": spread([r["p99_ms"] for r in rounds]),
        "control_fork_wait_cpu_ms": spread(fork),
        "control_python_pass_cpu_ms": spread(interpreter),
        "ratio_to_fork": spread([a / b for a, b in zip(cycle, fork, strict=True)]),
        "ratio_to_python_pass": spread([a / b for a, b in zip(cycle, interpreter, strict=True)]),
        "idle_rss_mib": round(sum(rss for rss, _ in idle) / 2**20, 1),
        "idle_pss_mib": round(sum(pss for _, pss in idle) / 2**20, 1),
    }


async def _round(pods: list[LocalPod], connections: PodConnections, cycles: int) -> dict[str, float]:
    before, own_before, began = _cpu_seconds(pods), time.process_time(), time.perf_counter()
    walls = await asyncio.gather(*(_cycles(pod, connections, cycles // len(pods)) for pod in pods))
    elapsed = time.perf_counter() - began
    done = cycles // len(pods) * len(pods)
    seconds = [second for wall in walls for second in wall]
    return {
        "per_second": done / elapsed,
        "cpu_ms": (_cpu_seconds(pods) - before) / done * 1000,
        "client_cpu_ms": (time.process_time() - own_before) / done * 1000,
        "p50_ms": percentile(seconds, 0.5) * 1000,
        "p99_ms": percentile(seconds, 0.99) * 1000,
    }


def _cpu_seconds(pods: list[LocalPod]) -> float:
    """Of supervisors and zygotes; what a replaced zygote took is its supervisor's by then."""
    return sum(cpu_seconds(family(pod.pid)) for pod in pods)


async def _cycles(pod: LocalPod, connections: PodConnections, count: int) -> list[float]:
    seconds = []
    for _ in range(count):
        execution = f"exe_{secrets.token_hex(8)}"
        lease = Lease(
            pod=pod.id, address=pod.address, execution=execution, tenant="bench", gateway="bench",
            fence=time.time_ns(), deadline=time.time() + 60,
        )  # fmt: skip
        began = time.perf_counter()
        outcome = await connections.run(lease, PROGRAM, _no_tools, asyncio.get_running_loop().create_future())
        seconds.append(time.perf_counter() - began)
        assert isinstance(outcome, Outcome), outcome
        assert outcome.value == 45, outcome
    return seconds


async def _no_tools(tool: str, arguments: dict[str, Any]) -> bytes:
    raise AssertionError(f"the program calls no tool, and called {tool}")


def _fork_round(count: int) -> dict[str, float]:
    """A child of a process as large as a zygote: the same interpreter with the same modules."""
    code = (
        "import importlib, os, resource, gc\n"
        "from warmpool_sandbox.zygote import PRELOADED\n"
        "[importlib.import_module(name) for name in PRELOADED]\n"
        "gc.collect(); gc.freeze()\n"
        "def cpu():\n"
        "    return sum(sum(resource.getrusage(w)[:2]) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))\n"
        "before = cpu()\n"
        f"for _ in range({count}):\n"
        "    pid = os.fork()\n"
        "    if pid == 0: os._exit(0)\n"
        "    os.waitpid(pid, 0)\n"
        f"print((cpu() - before) / {count} * 1000)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return {"fork_cpu_ms": float(ended.stdout)}


def _interpreter_round(count: int) -> dict[str, float]:
    before = os.times()
    for _ in range(count):
        subprocess.run([sys.executable, "-I", "-c", "pass"], timeout=30, check=True)
    after = os.times()
    children = after.children_user + after.children_system - before.children_user - before.children_system
    return {"interpreter_cpu_ms": children / count * 1000}

"""`make soak`: many executions through the gateway, some hostile, then a count of what is left.

Nothing may be: no process, file, lease or descriptor more than after the first tenth, and no supervisor whose
memory grew. Exit code 1 where something is.
"""

import argparse
import asyncio
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from rich.console import Console
from rich.progress import Progress

from warmpool.local import stack
from warmpool_loadtests import figures
from warmpool_loadtests.cpu import family, memory_bytes

EXECUTIONS: Final = 10_000
HOSTILE_EVERY: Final = 100
"""One execution in so many is hostile, each kind in turn."""
AT_ONCE: Final = 8
GROWTH: Final = 1.10
"""Of a supervisor's RSS, from the first tenth to the end."""

HOSTILE: Final[tuple[tuple[str, dict[str, float]], ...]] = (
    ("import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass", {"wall_seconds": 0.5}),
    (("import os, time\nfor _ in range(5):\n    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0:\n"
     "            time.sleep(60)\n        os._exit(0)\nreturn 'daemons'"), {}),
    ("for number in range(10**6):\n    open(str(number), 'w').close()", {}),
    ("with open('big', 'wb') as file:\n    while True:\n        file.write(bytes(1 << 20))", {}),
    ("import os\nfor _ in range(2000):\n    os.mkdir('d')\n    os.chdir('d')\nos.chmod('.', 0)", {}),
    ("hoard = []\nwhile True:\n    hoard.append(bytearray(10_000_000))", {}),
    ("while True:\n    print('x' * 1000)", {}),
    ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", {}),
    (("import os, contextlib\nfor number in range(256):\n    with contextlib.suppress(OSError):\n"
     "        os.write(number, b'\\xff' * 64)"), {}),
    ("import os\nos._exit(0)", {}),
    ("def deep():\n    return deep()\ndeep()", {}),
    ("import time\ntime.sleep(60)", {"wall_seconds": 0.3}),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    """What could leak, counted at one moment."""

    processes: int
    files: int
    leases: int
    descriptors: int
    supervisor_rss: dict[str, int]


async def soak(executions: int, console: Console) -> dict[str, Any]:
    # One supervisor for the whole run: replacing it would hide what it leaks.
    os.environ["WARMPOOL_POOL__MAX_EXECUTIONS"] = str(10 * executions)
    os.environ["WARMPOOL_POOL__MAX_AGE_SECONDS"] = "86400"
    async with stack.running(stack.Plan(products=0)) as running:
        headers = {"Authorization": f"Bearer {running.api_key}"}
        async with aiohttp.ClientSession(
            running.url, headers=headers, timeout=aiohttp.ClientTimeout(total=60)
        ) as session:
            with Progress(console=console) as progress:
                task = progress.add_task("executions", total=executions)
                first = executions // 10
                statuses = await _run(session, range(first), lambda: progress.advance(task))
                before = await _state(running)
                statuses += await _run(session, range(first, executions), lambda: progress.advance(task))
            after = await _state(running)
    left = _left(before, after)
    return {
        "executions": executions,
        "hostile": executions // HOSTILE_EVERY,
        "statuses": dict(statuses.most_common()),
        "after_a_tenth": _as_dict(before),
        "at_the_end": _as_dict(after),
        "left": left,
    }


async def _run(session: aiohttp.ClientSession, numbers: range, done: Any) -> Counter[str]:
    statuses: Counter[str] = Counter()
    waiting = iter(numbers)

    async def worker() -> None:
        for number in waiting:
            statuses[await _one(session, number)] += 1
            done()

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return statuses


async def _one(session: aiohttp.ClientSession, number: int) -> str:
    if number % HOSTILE_EVERY == 0:
        code, limits = HOSTILE[number // HOSTILE_EVERY % len(HOSTILE)]
        answer = await _post(session, {"code": code, "limits": limits})
        return f"hostile {answer['status']}"
    answer = await _post(session, {"code": f"print({number})\nreturn {number} * 2"})
    right = answer["status"] == "ok" and answer["result"] == number * 2 and answer["stdout"] == f"{number}\n"
    return "ok" if right else f"WRONG {answer['status']}"


async def _post(session: aiohttp.ClientSession, body: dict[str, Any]) -> dict[str, Any]:
    async with session.post("/v1/executions", json=body) as response:
        answer: dict[str, Any] = await response.json(content_type=None)
        return answer if response.status == 200 else {"status": f"HTTP {response.status}"}


async def _state(running: stack.Stack) -> State:
    await _settled(running)
    pids = [pid for pod in running.pool.pods for pid in family(pod.pid)]
    services = [running.gateway.pid, running.tools.pid]
    counts = await running.registry.counts()
    return State(
        processes=len(pids),
        files=sum(1 for pod in running.pool.pods for _ in _scratch(pod.pid, running.folder / "pods" / pod.id)),
        leases=counts.leased,
        descriptors=sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in [*pids, *services]),
        supervisor_rss={pod.id: memory_bytes(pod.pid)[0] for pod in running.pool.pods},
    )


async def _settled(running: stack.Stack) -> None:
    """Until every pod is idle again: the last answer is sent before its pod is released."""
    deadline = asyncio.get_running_loop().time() + 10
    while (await running.registry.counts()).idle < len(running.pool.pods):
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError(f"the pool is not whole: {await running.registry.counts()}")
        await asyncio.sleep(0.05)


def _scratch(pid: int, folder: Path) -> list[Path]:
    """As the sandbox's own mounts show it."""
    return [*Path(f"/proc/{pid}/root").joinpath((folder / "scratch").relative_to("/")).iterdir()]


def _left(before: State, after: State) -> list[str]:
    """In words; empty where nothing is."""
    found = [
        f"{name}: {getattr(after, name)}, {getattr(before, name)} after the first tenth"
        for name in ("processes", "files", "leases")
        if getattr(after, name) > getattr(before, name)
    ]
    if after.descriptors > before.descriptors + AT_ONCE:  # the pools of connections may have grown to their size
        found.append(f"descriptors: {after.descriptors}, {before.descriptors} after the first tenth")
    for pod, rss in after.supervisor_rss.items():
        if rss > GROWTH * before.supervisor_rss.get(pod, 0):
            found.append(
                f"memory: supervisor of {pod} at {rss}, {before.supervisor_rss.get(pod)} after the first tenth"
            )
    return found


def _as_dict(state: State) -> dict[str, Any]:
    return {name: getattr(state, name) for name in ("processes", "files", "leases", "descriptors", "supervisor_rss")}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--executions", type=int, default=EXECUTIONS, help="default: %(default)s")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    measured = asyncio.run(soak(options.executions, console))
    path = figures.write(Path(__file__).parents[3] / "benchmarks", "soak", measured)
    console.print_json(data=measured)
    wrong = {name: count for name, count in measured["statuses"].items() if name.startswith("WRONG") or "HTTP" in name}
    console.print(f"wrote {path}; left: {measured['left'] or 'nothing'}; wrong: {wrong or 'none'}", highlight=False)
    sys.exit(1 if measured["left"] or wrong else 0)


if __name__ == "__main__":
    main()

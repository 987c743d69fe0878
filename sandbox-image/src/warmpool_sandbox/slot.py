"""A slot: one zygote, one scratch folder, one execution at a time.

Knows nothing of gateways. The supervisor's server, the probe and the tests drive it.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from warmpool.protocol import Frame, Limits, Outcome, ProgramError, Status, encode_json
from warmpool_sandbox import processes, residue
from warmpool_sandbox.confinement import ALL_WALLS, Walls
from warmpool_sandbox.connections import Connections
from warmpool_sandbox.execution import Ended, Execution, ToolCalls, judge
from warmpool_sandbox.looks import Pod
from warmpool_sandbox.scratch import Scratch
from warmpool_sandbox.zygote_process import ZygoteLost, ZygoteProcess

RUNS_PER_ZYGOTE: Final = 1000
"""A zygote is cheap to replace (about 0.1 s of CPU) and cannot be shown to be untouched for ever."""
_REHEARSALS: Final = 9
"""CPython 3.11 specialises a function's bytecode after 8 calls."""
_REHEARSED: Final = encode_json({"code": "print('x')\nreturn [1]", "context": None, "validate": True})
_ZYGOTE_GROWTH_BYTES: Final = 16 * 1024 * 1024
_NICE: Final = 19
"""Of a program in a pod: the supervisor shares one CPU with up to 32 processes, and has to see in time what they take.
The nicest have a 70th of its weight, each."""
_POLICY: Final = os.SCHED_BATCH
"""Of a program in a pod: what wakes up takes the processor from no other pod's program, which would go on with cold
caches. A thousand programs at once, on forty pods and two cores, take 4.3 s; as usual processes they took 5.1."""
_COUNT_SECONDS: Final = 1.0
"""How old the count of the user's tasks may be: it costs 3 ms where a person's whole session runs under that user."""


class Slot:
    """Runs programs one after another, each in a fresh child of a warm zygote."""

    def __init__(
        self,
        scratch: Path,
        tools: Path | None = None,
        walls: Walls = ALL_WALLS,
        pod: Pod | None = None,
        tcp_ports: Sequence[int] = (),
    ) -> None:
        self.tcp_ports = tcp_ports
        """The network profile: what programs may connect to. Without any they have no sockets."""
        self._pod = pod
        self._scratch = Scratch(scratch)
        self._tools = tools
        self._walls = walls
        self._zygote: ZygoteProcess | None = None
        self._execution: Execution | None = None
        self._connections: Connections | None = None
        self._cancelled = False
        self._changing = asyncio.Lock()
        """Held while zygotes are exchanged; a program that arrives then waits."""
        self._baseline: residue.Baseline
        self._uid_tasks = 0
        self._counted = 0.0
        self._shared_bytes = 0
        self._rss_bytes = 0

    @property
    def zygote_pid(self) -> int | None:
        return self._zygote.pid if self._zygote else None

    async def start(self) -> None:
        """A zygote that is ready. Raises ZygoteLost."""
        self._scratch.wipe()
        zygote = ZygoteProcess(self._on_message, self._on_lost)
        await zygote.start(self._scratch.path, self._tools, self._walls, self.tcp_ports)
        self._zygote = zygote
        if self._pod is not None:
            os.setpriority(os.PRIO_PROCESS, zygote.pid, _NICE)
            os.sched_setscheduler(zygote.pid, _POLICY, os.sched_param(0))
        self._baseline = residue.baseline(zygote.pid, self._scratch.path)
        self._shared_bytes = processes.anonymous_bytes(zygote.pid)
        self._rss_bytes = processes.resident_bytes(zygote.pid)

    async def rehearse(self, limits: Limits) -> bool:
        """Runs a few harmless programs, so that the first caller's is as fast as any other: 5.4 ms from its arrival to
        its result, and 9.2 without. Whether each ended as it should."""
        for _ in range(_REHEARSALS):
            outcome = await self.run("rehearsal", _REHEARSED, limits, lambda frame: None)
            if outcome.status is not Status.OK or not outcome.clean:
                return False
        return True

    async def run(self, execution_id: str, program: bytes, limits: Limits, on_tool_call: ToolCalls) -> Outcome:
        """One program to its end; never raises for anything that the program does.

        `program` is the body of a PROGRAM message. An outcome that is not `clean` means: retire this slot.
        """
        assert self._execution is None, "one execution at a time"
        try:
            async with self._changing:
                if self._zygote is None:
                    await self.start()
            assert self._zygote is not None
            self._count_tasks()
            execution = self._execution = Execution(self._zygote, self._scratch, limits, on_tool_call, self._pod)
            self._connections = Connections(self.tcp_ports) if self.tcp_ports else None
            execution.start(program, self._uid_tasks, self._shared_bytes, self._connections)
        except (ZygoteLost, OSError) as fault:
            self._execution, self._cancelled = None, False
            error = ProgramError(type="SandboxLost", message=f"the program could not be started: {fault}")
            return Outcome(execution=execution_id, status=Status.PLATFORM_ERROR, error=error, residue=("zygote: lost",))
        if self._cancelled:
            self.cancel()
        ended = await execution.done
        self._execution, self._cancelled = None, False
        return self._outcome(execution_id, execution, ended)

    def _count_tasks(self) -> None:
        """RLIMIT_NPROC counts all tasks of this user; those of the platform and of others are not the program's."""
        now = time.monotonic()
        if now - self._counted > _COUNT_SECONDS:
            self._uid_tasks, self._counted = processes.tasks_of_user(os.getuid()), now

    def _outcome(self, execution_id: str, execution: Execution, ended: Ended) -> Outcome:
        usage = self._scratch.usage(execution.limits.scratch_inodes)
        execution.scratch_bytes = max(execution.scratch_bytes, usage.bytes)
        left = self._clean_up(ended)
        status, value, error = judge(execution.stop, execution.value, ended, execution.limits)
        return Outcome(
            execution=execution_id,
            status=status,
            value=value,
            stdout=execution.stdout.stream(),
            stderr=execution.stderr.stream(),
            error=error,
            usage=execution.usage(ended, self._rss_bytes),
            clean=not left,
            residue=left,
        )

    def _clean_up(self, ended: Ended) -> tuple[str, ...]:
        try:
            self._scratch.wipe()
            if ended.lost or self._zygote is None:
                return ("zygote: lost",)
            found = residue.check(self._baseline, self._scratch)
            return (*found, *self._connections.left()) if self._connections is not None else found
        except OSError as fault:
            return (f"clean-up failed: {fault}",)

    def answer(self, frame: Frame) -> None:
        """A tool's result for the program that runs."""
        if self._execution is not None:
            self._execution.answer(frame)

    def cancel(self) -> None:
        """Ends the program that runs or is about to."""
        self._cancelled = True
        if self._execution is not None:
            error = ProgramError(type="Cancelled", message="the caller went away or asked for it")
            self._execution.kill(Status.CANCELLED, error)

    async def refresh(self) -> None:
        """Between executions: replaces a zygote that served its runs, grew or is gone. Raises ZygoteLost."""
        async with self._changing:
            if self._is_fresh():
                return
            self.close()
            await self.start()

    def _is_fresh(self) -> bool:
        zygote = self._zygote
        if zygote is None or zygote.runs >= RUNS_PER_ZYGOTE:
            return False
        return processes.resident_bytes(zygote.pid) - self._rss_bytes < _ZYGOTE_GROWTH_BYTES

    def close(self) -> None:
        """Ends the zygote and all below it."""
        if self._zygote is not None:
            self._zygote.destroy()
            self._zygote = None

    def _on_message(self, message: dict[str, Any]) -> None:
        if self._execution is not None and "ended" in message:
            self._execution.ended(Ended(**message["ended"]))

    def _on_lost(self) -> None:
        self._zygote = None
        if self._execution is not None:
            self._execution.ended(Ended(lost=True))

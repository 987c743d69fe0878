"""When a program's tree is looked at, and when its pod is too full: by what the pod's control group says."""

from dataclasses import dataclass
from typing import Final

from warmpool_sandbox.cgroup import CpuUse, MemoryUse

POLL_SECONDS: Final = 0.025
"""At 1 GB/s of page faults a tree grows by 25 MB between two looks: inside the margin to the pod's limit."""
_NEAR_SECONDS: Final = 0.005
"""Between two looks at a pod that is half full. Many processes grow at once, and to look at each takes longer."""
_FAR_SECONDS: Final = 0.06
"""Between two looks at any pod, however much room it has: its programs' own limits are looked after too."""
_GROWTH_BYTES_PER_SECOND: Final = 7 * 1024**3
"""More than one processor takes in pages of 4 KiB. A pod that is nearly empty may be left alone for 55 ms, and
each look spared is a process not woken up."""
_WORK_SECONDS: Final = 0.01
"""Of processor time in the pod, before its tree is worth a look: what only waits does not change, and a look takes
0.3 ms. Of forty pods on two processors, each would be looked at twelve times for a program of 3 ms."""
_UNSEEN_SECONDS: Final = 0.5
"""Between two looks at the most."""
_POD_SHARE: Final = 0.85
"""Of the pod's memory limit. What is left is 77 MiB of 512, of which trees of 32 processes were seen to take 40 before
they were dead."""


@dataclass(frozen=True, slots=True)
class Pod:
    """The pod that this is in, whose memory limit ends every process in it, the supervisor too, if it is ever met."""

    memory: MemoryUse
    limit_bytes: int
    cpu: CpuUse | None = None
    """None where it cannot be read."""

    def seconds_to_next_look(self) -> float:
        """In which it cannot become too full; near at hand from half full on."""
        charged = self.memory.charged_bytes()
        if charged >= self.limit_bytes // 2:
            return _NEAR_SECONDS
        until_full = (self.limit_bytes * _POD_SHARE - charged) / _GROWTH_BYTES_PER_SECOND
        return min(_FAR_SECONDS, max(_NEAR_SECONDS, until_full))

    def overfull_bytes(self) -> int:
        """What it holds, where that is too much, else 0."""
        most = int(self.limit_bytes * _POD_SHARE)
        if self.memory.charged_bytes() <= most:
            return 0
        held = self.memory.held_bytes()
        return held if held > most else 0


class Looks:
    """When a tree is looked at: as soon as its pod has worked, or always where that is not known."""

    def __init__(self, cpu: CpuUse | None, now: float) -> None:
        self._cpu = cpu
        self._last = now
        self._worked = cpu.seconds() if cpu is not None else 0.0

    def is_due(self, now: float) -> bool:
        """Call it every few milliseconds; a look that is due counts as taken."""
        elapsed = now - self._last
        if elapsed < POLL_SECONDS:
            return False
        if self._cpu is not None:
            worked = self._cpu.seconds()
            if worked - self._worked < _WORK_SECONDS and elapsed < _UNSEEN_SECONDS:
                return False
            self._worked = worked
        self._last = now
        return True

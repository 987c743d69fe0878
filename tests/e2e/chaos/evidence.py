"""What a run of chaos leaves behind to be judged: what was done, what callers heard, and what was seen in Redis.

Times are Unix seconds of the machine that injects the faults, but where said otherwise.
"""

from dataclasses import dataclass, field

from warmpool.registry import PodState


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that was broken on purpose."""

    name: str
    at: float
    target: str = ""
    killed: tuple[str, ...] = ()
    """Pods whose processes had no time to end in order. One of a gateway also begins the name that it leases by."""
    until: float = 0.0
    """When it was over, where it lasts."""
    redis: bool = False
    """Redis did not answer for a while, or broke its connections."""
    api_server: bool = False

    @property
    def end(self) -> float:
        return max(self.at, self.until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of one program, of which there is no other with this number."""

    number: int
    sent: float
    ended: float
    kind: str
    """An execution's status; `503 pool_exhausted` and the like; `lost`, where the connection broke after the program
    was sent; `refused`, where there was none; `hung`, past the longest that an answer may take; `wrong`."""
    detail: str = ""
    execution: str | None = None
    user: int | None = None
    """That the program ran as, by its own word: each pod has one of its own."""
    began: float = 0.0
    """By the program's own monotonic clock, as is `done`."""
    done: float = 0.0
    tool: str = ""
    """`ok`, or what its tool call failed with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    pod: str
    execution: str
    tenant: str
    gateway: str
    fence: int
    at: float
    life: int
    """Of Redis's data: one more each time that all of it was lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A pod came to a state in the registry."""

    pod: str
    state: PodState
    at: float
    life: int
    watch: int
    """One more each time that something may have gone unseen."""
    lease: Lease | None = None
    """Where the state is leased."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An execution as Postgres has it."""

    status: str
    pod: str | None


@dataclass(slots=True)
class Seen:
    """What the commands that Redis carried out tell."""

    life: int = 0
    watch: int = 0
    moves: list[Move] = field(default_factory=list)
    leases: list[Lease] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    """Of pods that retire, or are to: the first one."""
    most_executions: dict[str, int] = field(default_factory=dict)
    """That a pod may serve, as it was registered."""
    per_tenant: set[str] = field(default_factory=set)
    tool_calls: dict[str, int] = field(default_factory=dict)
    """By execution: each program makes one."""
    losses: list[float] = field(default_factory=list)
    """When all data was lost, at the latest."""
    away: list[tuple[float, float]] = field(default_factory=list)
    """From and until when nothing was seen."""
    states: dict[str, PodState] = field(default_factory=dict)
    """Of the pods that the registry knows now."""


@dataclass(slots=True, kw_only=True)
class Evidence:
    seen: Seen
    most_pods: int
    """That there may be at once."""
    faults: list[Fault] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    kept: dict[str, list[Kept]] = field(default_factory=dict)
    """By execution."""
    pods_at_once: int = 0
    """The most that the cluster had."""

"""What the registry hands out: leases, pods and their counts, with times in Unix seconds."""

from collections.abc import Mapping
from dataclasses import dataclass

from warmpool.registry.states import PodState

MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to run one execution in one pod, until the deadline."""

    pod: str
    address: str
    execution: str
    tenant: str
    gateway: str
    fence: int
    """Higher than that of every lease of the pool before; a pod refuses one that is not newer than its last."""
    deadline: float
    """As it was when acquired; `Registry.renew` moves it in Redis only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod as the registry knows it."""

    id: str
    address: str
    """Empty until the pod registers."""
    state: PodState
    executions: int
    """Leases it was given, the present one included."""
    registered_at: float
    seen_at: float
    reason: str | None
    """Why it retires or, while leased, will at its release."""
    lease: Lease | None

    @classmethod
    def from_record(cls, id: str, record: Mapping[str, str], seen: float | None) -> "Pod":
        """The pod of a hash in Redis; `seen` (microseconds) is None once nobody waits for its heartbeat."""
        state = PodState(record["state"])
        address = record.get("address", "")
        return cls(
            id=id,
            address=address,
            state=state,
            executions=int(record.get("executions", 0)),
            registered_at=seconds(record.get("registered", 0)),
            seen_at=seconds(record.get("seen", 0) if seen is None else seen),
            reason=record.get("reason"),
            lease=_lease(id, address, record) if state is PodState.LEASED else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Pods by state. Leased ones include those whose lease expired and was not reaped yet."""

    warming: int
    idle: int
    leased: int
    retiring: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a pod stands, for whoever owns it."""

    state: PodState
    marked: bool = False
    """Leased, and to retire at its release."""
    bound: bool = False
    """Idle, for one tenant only."""
    worn: bool = False
    """Retiring, because it served as many executions as it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a gateway has counted. All but `waiting` only grow, until the gateway starts again."""

    arrivals: int = 0
    """Callers that asked for a pod, those that got none included."""
    releases: int = 0
    held_seconds: float = 0.0
    """Sum over the releases."""
    waiting: int = 0
    """Callers in its queue, `age_seconds` ago."""
    age_seconds: float = 0.0

    @classmethod
    def from_text(cls, text: str, now: str) -> "Demand":
        """Of what demand.lua writes."""
        said_at, arrivals, releases, held, waiting = text.split(" ")
        return cls(
            arrivals=int(arrivals), releases=int(releases), held_seconds=seconds(held), waiting=int(waiting),
            age_seconds=seconds(int(now) - int(said_at)),
        )  # fmt: skip


def micros(seconds: float) -> int:
    return round(seconds * MICROSECONDS)


def seconds(micros: str | float) -> float:
    return float(micros) / MICROSECONDS


def _lease(pod: str, address: str, record: Mapping[str, str]) -> Lease:
    return Lease(
        pod=pod,
        address=address,
        execution=record["execution"],
        tenant=record["tenant"],
        gateway=record["gateway"],
        fence=int(record["fence"]),
        deadline=seconds(record["deadline"]),
    )

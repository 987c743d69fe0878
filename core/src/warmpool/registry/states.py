"""The states of a pod, the moves between them, and the registry's own reasons for retiring one.

The table is the contract; the scripts carry it out, and a test walks every pair of states to see that they agree.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class PodState(StrEnum):
    """Where a pod is in its life. The values name the sets in Redis too."""

    WARMING = "warming"
    """Made, not able to serve yet."""

    IDLE = "idle"
    """Able to serve, and in wait for a lease."""

    LEASED = "leased"
    """Serves one execution; its lease may have expired without anyone having noticed yet."""

    RETIRING = "retiring"
    """Serves nobody again; whoever owns the pods deletes it."""

    GONE = "gone"
    """Deleted. Remembered for a while, so that a late registration cannot bring it back."""


TRANSITIONS: Final[Mapping[PodState | None, frozenset[PodState]]] = MappingProxyType(
    {
        None: frozenset({PodState.WARMING, PodState.IDLE, PodState.RETIRING, PodState.GONE}),
        PodState.WARMING: frozenset({PodState.IDLE, PodState.RETIRING, PodState.GONE}),
        PodState.IDLE: frozenset({PodState.LEASED, PodState.RETIRING, PodState.GONE}),
        PodState.LEASED: frozenset({PodState.IDLE, PodState.RETIRING, PodState.GONE}),
        PodState.RETIRING: frozenset({PodState.GONE}),
        PodState.GONE: frozenset(),
    }
)
"""From a state to those that one step may lead to; None is a pod that the registry does not know."""


class NoPod(StrEnum):
    """Why there was no pod to lease."""

    EMPTY = "empty"
    """None is idle."""

    BOUND = "bound"
    """Those that are idle serve other tenants only."""


class Released(StrEnum):
    """What became of the pod of a released lease."""

    IDLE = "idle"
    """It waits for the next lease."""

    RETIRED = "retired"
    """It was dirty, worn out, late or asked to retire."""

    STALE = "stale"
    """Nothing: the lease was not the pod's any more. It expired and was reaped, or Redis was lost."""


class Retirement(StrEnum):
    """Why the registry retired a pod by itself; callers of `Registry.retire` bring their own word."""

    DIRTY = "Dirty"
    """An execution left something behind, or nobody could prove that it did not."""

    LEASE_EXPIRED = "LeaseExpired"
    """Its gateway did not come back in time, so what runs in it is unknown."""

    HEARTBEAT_LOST = "HeartbeatLost"
    """Nobody saw it alive for longer than the heartbeat allows."""

    MAX_EXECUTIONS = "MaxExecutions"
    """It served as many executions as a pod may."""

    RECORD_LOST = "RecordLost"
    """Redis lost its record alone: keys are being evicted, which this registry does not allow for."""

"""The registry of a pool's pods in Redis: who is idle, who holds which lease, who must be replaced.

The scripts in lua/ own every transition; this package only calls them. It starts and stops no pod
and never asks a cluster: whoever owns the pods registers them, keeps their heartbeat, and acts on
`Registry.retiring`. Redis needs no persistence; it must not evict keys (`maxmemory-policy noeviction`).
"""

from warmpool.registry.connection import connect
from warmpool.registry.pods import Counts, Demand, Lease, Pod, Standing
from warmpool.registry.registry import Registry
from warmpool.registry.states import TRANSITIONS, NoPod, PodState, Released, Retirement

__all__ = [
    "TRANSITIONS", "Counts", "Demand", "Lease", "NoPod", "Pod", "PodState", "Registry", "Released", "Retirement",
    "Standing", "connect",
]  # fmt: skip

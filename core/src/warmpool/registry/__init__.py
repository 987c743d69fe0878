"""The registry of a pool's pods in Redis: who is idle, who holds which lease, who must be replaced.

The scripts in lua/ own every transition; this package only calls them. It starts and stops no pod
and never asks a cluster: whoever owns the pods registers them, keeps their heartbeat, and acts on
`Registry.retiring`. Redis needs no persistence; it must not evict keys (`maxmemory-policy noeviction`).
"""

from warmpool.registry.connection import connect
from warmpool.registry.pods import Counts, Lease, Pod
from warmpool.registry.registry import Registry
from warmpool.registry.states import TRANSITIONS, PodState, Released, Retirement

__all__ = ["TRANSITIONS", "Counts", "Lease", "Pod", "PodState", "Registry", "Released", "Retirement", "connect"]

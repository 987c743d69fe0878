"""A SandboxPool as the operator reads it: typed, with every default filled in by the API server's schema."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

from warmpool.protocol import Limits
from warmpool_operator.demand import Autoscale

GROUP: Final = "warmpool.dev"
VERSION: Final = "v1alpha1"
PLURAL: Final = "sandboxpools"
KIND: Final = "SandboxPool"

POOL_LABEL: Final = f"{GROUP}/pool"
TEMPLATE_LABEL: Final = f"{GROUP}/template"
NETWORK_LABEL: Final = f"{GROUP}/network"
MODE_LABEL: Final = f"{GROUP}/mode"
"""On each pod: `none`, or `tcp` where it has a network profile. NetworkPolicies select by it."""
MANAGED_BY: Final = ("app.kubernetes.io/managed-by", "warmpool-operator")


def camel(name: str) -> str:
    """`memory_bytes` as the API writes it: `memoryBytes`."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


LIMIT_FIELDS: Final = {camel(name): name for name in Limits().as_dict()}
"""A field of `spec.limits` → of protocol.Limits."""

_NOT_OF_THE_TEMPLATE: Final = ("replicas", "autoscale", "recycle", "strategy", "paused")
"""What may change without a new pod."""

SINGLE_USE, PER_TENANT = "single-use", "tenant"
"""Modes of `spec.recycle`; the third, `reuse`, is the default."""


@dataclass(frozen=True, kw_only=True)
class SandboxPool:
    name: str
    namespace: str
    uid: str
    generation: int
    spec: Mapping[str, Any]
    status: Mapping[str, Any]
    deleting: bool

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        meta = body["metadata"]
        return cls(
            name=meta["name"],
            namespace=meta["namespace"],
            uid=meta["uid"],
            generation=meta.get("generation", 0),
            spec=_plain(body["spec"]),
            status=_plain(body.get("status", {})),
            deleting="deletionTimestamp" in meta,
        )

    @property
    def reference(self) -> dict[str, str]:
        """As events name it."""
        return {
            "apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "name": self.name,
            "namespace": self.namespace, "uid": self.uid,
        }  # fmt: skip

    @property
    def replicas(self) -> int:
        return 0 if self.deleting else int(self.spec.get("replicas", 1))

    @property
    def autoscale(self) -> Autoscale | None:
        """None for a pool of a fixed size, and for one that is being deleted."""
        spec = self.spec.get("autoscale")
        if spec is None or self.deleting:
            return None
        return Autoscale(
            least=int(spec.get("min", 1)), most=int(spec["max"]), spare=int(spec.get("spare", 1)),
            cool_down_seconds=float(spec.get("coolDownSeconds", 300)),
        )  # fmt: skip

    @property
    def paused(self) -> bool:
        return bool(self.spec.get("paused", False)) and not self.deleting

    def max_surge(self, replicas: int) -> int:
        """Rounded up, as a Deployment's; with no pod to be missing there is at least one to surge."""
        surge = _share(self._strategy("maxSurge"), replicas, math.ceil)
        return surge if surge or self.max_unavailable(replicas) else 1

    def max_unavailable(self, replicas: int) -> int:
        """Rounded down, as a Deployment's."""
        return _share(self._strategy("maxUnavailable"), replicas, math.floor)

    def _strategy(self, part: str) -> int | str:
        share: int | str = self.spec.get("strategy", {}).get(part, "25%")
        return share

    @property
    def mode(self) -> str:
        mode: str = self.spec.get("recycle", {}).get("mode", "reuse")
        return mode

    @property
    def per_tenant(self) -> bool:
        return self.mode == PER_TENANT

    @property
    def single_use(self) -> bool:
        return self.mode == SINGLE_USE

    @property
    def max_executions(self) -> int:
        if self.single_use:
            return 1
        return int(self.spec.get("recycle", {}).get("maxExecutions", 1000))

    @property
    def max_age_seconds(self) -> float:
        return float(self.spec.get("recycle", {}).get("maxAgeSeconds", 3600))

    @cached_property
    def limits(self) -> Limits:
        """Of each execution. Raises ValueError where the schema let pass what protocol.Limits does not."""
        return Limits().lowered({LIMIT_FIELDS[name]: value for name, value in self.spec.get("limits", {}).items()})

    @property
    def tcp_ports(self) -> tuple[int, ...]:
        """The network profile: what programs may connect to; empty without one."""
        return tuple(self.spec.get("network", {}).get("tcpPorts", ()))

    @cached_property
    def template_hash(self) -> str:
        """Of all that a pod is made from: two pods of one hash differ in nothing but their names."""
        made_from = {name: value for name, value in self.spec.items() if name not in _NOT_OF_THE_TEMPLATE}
        made_from["mode"] = self.mode  # what a pod has been used for, no change of the spec undoes
        return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def selector(self) -> str:
        return f"{POOL_LABEL}={self.name}"


def _share(of: int | str, replicas: int, rounded: Callable[[float], int]) -> int:
    """`2`, or `25%` of the replicas."""
    return int(of) if isinstance(of, int) else rounded(replicas * int(of.removesuffix("%")) / 100)


def _plain(view: Mapping[str, Any]) -> dict[str, Any]:
    """kopf hands out views of a body that changes under them."""
    copy: dict[str, Any] = json.loads(json.dumps(view, default=dict))
    return copy

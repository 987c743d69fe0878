"""The SandboxPool's definition, with names and maxima of the limits taken from the one place that has them.

`python -m warmpool_operator.crd` writes it where the chart takes it from; `--check` says whether it is current.
"""

import sys
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import yaml

from warmpool.protocol import CLOSED_TCP_PORTS, MOST_TCP_PORTS, Limits
from warmpool_operator.pool import GROUP, KIND, LIMIT_FIELDS, NETWORK_LABEL, PER_TENANT, PLURAL, SINGLE_USE, VERSION

FILE: Final = Path(__file__).parents[3] / "helm/warmpool/files/crd/sandboxpools.yaml"
MOST_REPLICAS: Final = 5000
"""As many as `make bench-operator` fills a pool with: more has not been seen to work, and every look costs more with
each pod. Who needs more has several pools."""
POD_OVERHEAD_BYTES: Final = 96 * 1024 * 1024
"""What a pod needs beyond its program's memory: supervisor, zygote, kernel memory, and the growth between two looks."""

_QUANTITY: Final = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"


def definition() -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND, "listKind": f"{KIND}List", "plural": PLURAL, "singular": KIND.lower(),
                "shortNames": ["sbp"], "categories": ["all"],
            },
            "versions": [{
                "name": VERSION, "served": True, "storage": True,
                "schema": {"openAPIV3Schema": {
                    "type": "object", "description": "A pool of warm sandbox pods.", "required": ["spec"],
                    "properties": {
                        "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
                        "spec": _spec(), "status": _status(),
                    },
                }},
                "subresources": {"status": {}, "scale": {
                    "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
                    "labelSelectorPath": ".status.selector",
                }},
                "additionalPrinterColumns": [
                    _column("Desired", "integer", ".status.desired"),
                    _column("Ready", "integer", ".status.readyReplicas"),
                    _column("Idle", "integer", ".status.idle"), _column("Leased", "integer", ".status.leased"),
                    _column("Status", "string", '.status.conditions[?(@.type=="Ready")].reason'),
                    _column("Age", "date", ".metadata.creationTimestamp"),
                ],
            }],
        },
    }  # fmt: skip


def _column(name: str, kind: str, path: str) -> dict[str, str]:
    return {"name": name, "type": kind, "jsonPath": path}


def _object(description: str, properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "description": description, "properties": properties, **more}


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


def _integer(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "integer", "format": "int64", "description": description, **more}


def _strings(description: str) -> dict[str, Any]:
    return {"type": "object", "description": description, "additionalProperties": {"type": "string"}}


def _spec() -> dict[str, Any]:
    memory = (
        "!has(self.resources.limits.memory) || quantity(self.resources.limits.memory).asInteger() >= "
        f"(has(self.limits.memoryBytes) ? self.limits.memoryBytes : {Limits().memory_bytes}) + {POD_OVERHEAD_BYTES}"
    )
    return _object(
        "What the pool should be.",
        {
            "replicas": _integer(
                "Pods to keep; `kubectl scale` and autoscalers set it. Without effect beside `autoscale`.",
                default=1, minimum=0, maximum=MOST_REPLICAS, format="int32",
            ),
            "autoscale": _object(
                "Sizes the pool by demand: callers that come in a second times the seconds that each holds a pod, and "
                "those that wait.",
                {
                    "min": _integer("Never fewer pods.", default=1, minimum=0, maximum=MOST_REPLICAS),
                    "max": _integer("Never more pods.", minimum=1, maximum=MOST_REPLICAS),
                    "spare": _integer("Idle pods beyond demand.", default=1, minimum=0, maximum=MOST_REPLICAS),
                    "coolDownSeconds": _integer(
                        "For so long the pool keeps the size that it needed last.",
                        default=300, minimum=0, maximum=86400,
                    ),
                },
                required=["max"],
                **{"x-kubernetes-validations": [{
                    "rule": "self.min <= self.max",
                    "message": "autoscale.min must not be above autoscale.max: lower min, or raise max",
                }]},
            ),
            "strategy": _object(
                "How pods of an older template are replaced; leased ones always finish first.",
                {
                    "maxUnavailable": _share("Pods that may be missing meanwhile, rounded down."),
                    "maxSurge": _share("Pods that there may be beyond the pool's size, rounded up."),
                },
                default={},
            ),
            "paused": {
                "type": "boolean", "default": False,
                "description": "true makes, replaces and scales nothing; leasing goes on.",
            },
            "image": _text("The sandbox image.", minLength=1, maxLength=1024),
            "imagePullPolicy": _text(
                "When to pull it.", default="IfNotPresent", enum=["Always", "IfNotPresent", "Never"]
            ),
            "imagePullSecrets": {
                "type": "array", "description": "Secrets of the image's registry.", "maxItems": 8,
                "items": {"type": "object", "properties": {"name": {"type": "string"}}},
            },
            "resources": _resources(),
            "limits": _limits(),
            "network": _object(
                "The network profile: what programs may reach beside their tools. Absent is nothing: they have no "
                "sockets then. NetworkPolicies decide to which addresses; they select the pods by "
                f"`{NETWORK_LABEL}: tcp`. Needs Kubernetes 1.32.",
                {"tcpPorts": {
                    "type": "array", "minItems": 1, "maxItems": MOST_TCP_PORTS,
                    "description": "Ports that programs may connect to by TCP, at addresses, not names. Nothing may "
                                   "listen, and there is no UDP, so no DNS: a proxy resolves names.",
                    "items": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535},
                    "x-kubernetes-validations": [{
                        "rule": f"!self.exists(port, port in [{_words(CLOSED_TCP_PORTS)}])",
                        "message": f"network.tcpPorts must not hold {_words(CLOSED_TCP_PORTS)}, which are DNS, the "
                                   "sandbox's own and the kubelet's: leave them out, and reach names through a proxy",
                    }],
                }},
                required=["tcpPorts"],
            ),
            "recycle": _object(
                "When a pod is replaced though it is clean.",
                {
                    "maxExecutions": _integer("Executions a pod serves; 1 is single use.", default=1000, minimum=1),
                    "maxAgeSeconds": _integer(
                        "Age at which a pod is replaced, as by a new template.", default=3600, minimum=1
                    ),
                    "mode": _text(
                        "`reuse`: a pod that is verified clean serves anyone. `tenant`: it serves its first tenant "
                        "only. `single-use`: one execution, whatever maxExecutions says.",
                        default="reuse", enum=["reuse", PER_TENANT, SINGLE_USE],
                    ),
                },
                default={},
            ),
            "tools": _object(
                "The typed stubs that programs import, mounted read-only.",
                {
                    "configMap": _text("ConfigMap that holds them; give a changed one a changed name."),
                    "items": {
                        "type": "array", "description": "Key of the ConfigMap to path below the tools' folder.",
                        "maxItems": 500,
                        "items": {
                            "type": "object", "required": ["key", "path"],
                            "properties": {"key": {"type": "string"}, "path": {"type": "string"}},
                        },
                    },
                },
                required=["configMap", "items"],
            ),
            "keySecret": _object(
                "Secret with the key by which gateways prove themselves to the pods.",
                {"name": _text("Its name.", minLength=1), "key": _text("Its key.", default="pool.key")},
                required=["name"],
            ),
            "minLandlockABI": _integer("With less a pod refuses to serve.", default=6, minimum=6, maximum=64),
            "runtimeClassName": _text("A stronger runtime around the pod, such as gVisor or Kata."),
            "hostUsers": {"type": "boolean", "description": "false gives each pod a user namespace of its own."},
            "template": _template(),
        },
        required=["image", "keySecret"],
        **{
            "x-kubernetes-validations": [{
                "rule": memory, "fieldPath": ".resources.limits.memory",
                "message": "resources.limits.memory must be at least limits.memoryBytes + 96Mi: raise it, or lower "
                           "limits.memoryBytes",
            }],
        },
    )  # fmt: skip


def _words(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _share(description: str) -> dict[str, Any]:
    return {
        "description": f"{description} A number, or a percentage of the replicas.",
        "default": "25%",
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "x-kubernetes-int-or-string": True,
        "minimum": 0,
        "maximum": MOST_REPLICAS,
        "pattern": "^(100|[1-9]?[0-9])%$",
        "maxLength": 4,
    }


def _resources() -> dict[str, Any]:
    quantities = {
        name: {"type": "string", "pattern": _QUANTITY, "maxLength": 24}
        for name in ("cpu", "memory", "ephemeral-storage")
    }
    requests = {"cpu": "50m", "memory": "64Mi"}
    limits = {"cpu": "1", "memory": "512Mi", "ephemeral-storage": "64Mi"}
    return _object(
        "Of the pod's one container.",
        {
            "requests": _object("What the scheduler reserves.", _defaults(quantities, requests), default={}),
            "limits": _object("What the kubelet enforces.", _defaults(quantities, limits), default={}),
        },
        default={},
    )


def _defaults(properties: dict[str, Any], values: dict[str, str]) -> dict[str, Any]:
    return {
        name: {**schema, **({"default": values[name]} if name in values else {})} for name, schema in properties.items()
    }


def _limits() -> dict[str, Any]:
    """Each may be lowered; the supervisor takes none above its own."""
    properties = {}
    standard = Limits()
    kinds = {field.name: getattr(standard, field.name) for field in fields(standard)}
    for name, field in LIMIT_FIELDS.items():
        most = kinds[field]
        number = {"type": "integer", "format": "int64"} if isinstance(most, int) else {"type": "number"}
        properties[name] = {**number, "description": f"Default and most: {most}.", "minimum": 1, "maximum": most}
    properties["memoryBytes"]["minimum"] = 32 * 1024 * 1024  # an interpreter with its imports takes 20 MB
    return _object("Of one execution, lower than the built-in ones.", properties, default={})


def _template() -> dict[str, Any]:
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    constrained = {"type": "array", "maxItems": 16, "items": free}
    return _object(
        "What else the pods carry. A closed list: what would weaken a pod cannot be said here.",
        {
            "metadata": _object("", {"labels": _strings("Labels."), "annotations": _strings("Annotations.")}),
            "spec": _object(
                "Where the pods run.",
                {
                    "nodeSelector": _strings("Labels that a node must have."),
                    "tolerations": {**constrained, "description": "Taints that the pods bear."},
                    "affinity": {**free, "description": "As of any pod."},
                    "topologySpreadConstraints": {**constrained, "description": "As of any pod."},
                    "priorityClassName": _text("As of any pod."),
                    "schedulerName": _text("As of any pod."),
                },
            ),
        },
    )


def _status() -> dict[str, Any]:
    counts = {
        "desired": "Pods that there should be: spec.replicas, or what demand asks for.",
        "replicas": "Pods that live.", "readyReplicas": "Pods that passed their probe and answer.",
        "updatedReplicas": "Pods of the present template.", "warming": "Pods that do not serve yet.",
        "idle": "Pods in wait for a lease; some seconds old.", "leased": "Pods that run a program; some seconds old.",
        "retiring": "Pods that serve nobody again.",
    }  # fmt: skip
    condition = _object(
        "",
        {
            "type": _text(""), "status": _text("True, False or Unknown."), "reason": _text("One word."),
            "message": _text(""), "lastTransitionTime": {"type": "string", "format": "date-time"},
            "observedGeneration": _integer(""),
        },
        required=["type", "status"],
    )  # fmt: skip
    return _object(
        "What the pool is.",
        {
            **{name: _integer(text, format="int32") for name, text in counts.items()},
            "selector": _text("Selects the pods, for `kubectl scale` and autoscalers."),
            "observedGeneration": _integer("Of the spec that this speaks of."),
            "conditions": {
                "type": "array", "items": condition, "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
                "description": "Ready: as many pods serve as are wanted. Progressing: it gets there, or is there. "
                               "Degraded: pods do not come up. Confined: they passed their probe.",
            },
        },
    )  # fmt: skip


def main() -> None:
    text = "# Generated from operator/src/warmpool_operator/crd.py by `make reference`.\n"
    text += yaml.safe_dump(definition(), sort_keys=False, width=120)
    if "--check" in sys.argv:
        if not FILE.exists() or FILE.read_text() != text:
            sys.exit(f"{FILE.name} is not what the code says: run `make reference`")
        return
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(text)


if __name__ == "__main__":
    main()

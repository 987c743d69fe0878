"""The pod that is made for a pool: the `restricted` one, with nothing in it that a program could use."""

import json
import zlib
from collections.abc import Mapping
from typing import Any, Final

from warmpool.protocol import READY_PERIOD_SECONDS, TCP_BUFFER_BYTES, Limits
from warmpool_operator.pool import (
    GROUP,
    KIND,
    MANAGED_BY,
    MODE_LABEL,
    NETWORK_LABEL,
    PER_TENANT,
    POOL_LABEL,
    SINGLE_USE,
    TEMPLATE_LABEL,
    VERSION,
    SandboxPool,
)

PORT: Final = 8888
HEALTH_PORT: Final = 8889
KEY_FOLDER: Final = "/etc/warmpool/pool"

_FIRST_UID: Final = 1_000_000
_UIDS: Final = 1_000_000_000
_BOUNDED_CONNECTIONS: Final = [
    {"name": f"net.ipv4.tcp_{way}mem", "value": f"4096 {usual} {TCP_BUFFER_BYTES}"}
    for way, usual in (("r", 131072), ("w", 16384))
]
"""The middle values are the kernel's own. Kubernetes takes these for safe from 1.32 on."""
_GRACE_SECONDS: Final = 10
"""Beyond an execution's own wall limit: for the result to be sent."""


def user_of(pod: str) -> int:
    """A user of its own for each pod: the kernel counts a user's processes over the whole node, so pods that
    share one would take each other's budget."""
    return _FIRST_UID + zlib.crc32(pod.encode()) % _UIDS


def pod_manifest(pool: SandboxPool, name: str) -> dict[str, Any]:
    """Raises ValueError for limits that protocol.Limits does not take."""
    spec, user = pool.spec, user_of(name)
    template = spec.get("template", {})
    labels, annotations = (template.get("metadata", {}).get(part, {}) for part in ("labels", "annotations"))
    own = {
        "app.kubernetes.io/name": "warmpool-sandbox",
        MANAGED_BY[0]: MANAGED_BY[1],
        POOL_LABEL: pool.name,
        TEMPLATE_LABEL: pool.template_hash,
        MODE_LABEL: pool.mode,
        NETWORK_LABEL: "tcp" if pool.tcp_ports else "none",
    }
    owner = {
        "apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "name": pool.name, "uid": pool.uid,
        "controller": True, "blockOwnerDeletion": False,
    }  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": pool.namespace,
            "labels": {**labels, **own},
            "annotations": annotations,
            "ownerReferences": [owner],
        },
        "spec": {
            **template.get("spec", {}),
            **{field: spec[field] for field in ("runtimeClassName", "hostUsers", "imagePullSecrets") if field in spec},
            # Never: a pod is one supervisor's life, which alone remembers the last fencing number it served.
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": int(pool.limits.wall_seconds) + _GRACE_SECONDS,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "hostname": "sandbox",  # a program can read it, and is told nothing of its pod
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": user, "runAsGroup": user, "fsGroup": user,
                "seccompProfile": {"type": "RuntimeDefault"},
                **({"sysctls": _BOUNDED_CONNECTIONS} if pool.tcp_ports else {}),
            },
            "containers": [_container(pool, name)],
            "volumes": _volumes(pool),
        },
    }  # fmt: skip


def _container(pool: SandboxPool, name: str) -> dict[str, Any]:
    spec = pool.spec
    lowered = {field: value for field, value in pool.limits.as_dict().items() if value != getattr(Limits(), field)}
    arguments = {
        "pod": name, "pool": pool.name, "host": "$(POD_IP)", "port": PORT, "health-port": HEALTH_PORT,
        "key-file": f"{KEY_FOLDER}/pool.key", "limits": json.dumps(lowered, sort_keys=True), "scratch": "/scratch",
        "min-landlock-abi": spec.get("minLandlockABI", 6), **({"tools": "/tools"} if "tools" in spec else {}),
        **({"tcp-ports": ",".join(map(str, pool.tcp_ports))} if pool.tcp_ports else {}),
    }  # fmt: skip
    of_mode = {SINGLE_USE: ["--single-use"], PER_TENANT: ["--one-tenant"]}
    flags = ["--in-pod", *of_mode.get(pool.mode, [])]
    mounts = [("scratch", "/scratch", False), ("key", KEY_FOLDER, True)]
    mounts += [("tools", "/tools", True)] if "tools" in spec else []
    return {
        "name": "sandbox",
        "image": spec["image"],
        "imagePullPolicy": spec.get("imagePullPolicy", "IfNotPresent"),
        "args": ["serve", *flags, *(word for item in arguments.items() for word in (f"--{item[0]}", str(item[1])))],
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "ports": [{"name": "stream", "containerPort": PORT}, {"name": "health", "containerPort": HEALTH_PORT}],
        "resources": spec.get("resources", {}),
        "securityContext": {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": volume, "mountPath": path, "readOnly": closed} for volume, path, closed in mounts],
        # The kubelet asks for the first time as soon as it knows that the container runs, and the answer comes in the
        # moment in which the sandbox is ready: no startup probe, whose end would be a write of its own. Later a program
        # may take all of its processor, so the kubelet is patient.
        "readinessProbe": _probe("/readyz", periodSeconds=READY_PERIOD_SECONDS, timeoutSeconds=10),
        "livenessProbe": _probe("/healthz", periodSeconds=20, timeoutSeconds=10, failureThreshold=3),
    }  # fmt: skip


def _probe(path: str, **timing: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": "health"}, **timing}


def _volumes(pool: SandboxPool) -> list[Mapping[str, Any]]:
    key = pool.spec["keySecret"]
    volumes: list[Mapping[str, Any]] = [
        {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": str(pool.limits.scratch_bytes)}},
        {
            "name": "key",
            "secret": {
                "secretName": key["name"], "defaultMode": 0o440,
                "items": [{"key": key.get("key", "pool.key"), "path": "pool.key"}],
            },
        },
    ]  # fmt: skip
    if "tools" in pool.spec:
        tools = pool.spec["tools"]
        volumes.append({"name": "tools", "configMap": {"name": tools["configMap"], "items": tools["items"]}})
    return volumes

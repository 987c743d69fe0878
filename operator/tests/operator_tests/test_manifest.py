"""The pod of a pool, and the definition that the API server checks pools against."""

import json
import subprocess
import sys
from typing import Any

from warmpool.protocol import Limits
from warmpool_operator.crd import definition
from warmpool_operator.manifest import pod_manifest, user_of
from warmpool_operator.pool import LIMIT_FIELDS, SandboxPool

BODY: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 1},
    "spec": {
        "replicas": 2,
        "image": "example/sandbox:1",
        "keySecret": {"name": "k"},
        "limits": {"wallSeconds": 5, "memoryBytes": 100_000_000},
        "tools": {"configMap": "t", "items": [{"key": "servers.py", "path": "servers/__init__.py"}]},
        "template": {"metadata": {"labels": {"team": "a", "warmpool.dev/pool": "another"}}},
    },
}


def test_the_pod_meets_the_restricted_standard_and_mounts_nothing_writable_but_scratch() -> None:
    spec = pod_manifest(SandboxPool.from_body(BODY), "p-1")["spec"]
    (container,) = spec["containers"]

    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is spec["enableServiceLinks"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert [mount["mountPath"] for mount in container["volumeMounts"] if not mount["readOnly"]] == ["/scratch"]


def test_a_template_cannot_take_the_operators_labels() -> None:
    labels = pod_manifest(SandboxPool.from_body(BODY), "p-1")["metadata"]["labels"]

    assert labels["warmpool.dev/pool"] == "p"
    assert labels["team"] == "a"


def test_only_lowered_limits_are_told_to_the_supervisor() -> None:
    (container,) = pod_manifest(SandboxPool.from_body(BODY), "p-1")["spec"]["containers"]
    told = container["args"][container["args"].index("--limits") + 1]

    assert json.loads(told) == {"wall_seconds": 5.0, "memory_bytes": 100_000_000}


def test_two_pods_have_two_users() -> None:
    users = {user_of(f"p-{index}") for index in range(200)}

    assert len(users) == 200
    assert min(users) >= 1_000_000


def test_size_and_recycling_change_no_template() -> None:
    changed = {**BODY, "spec": {**BODY["spec"], "replicas": 9, "recycle": {"maxExecutions": 1}}}
    other = {**BODY, "spec": {**BODY["spec"], "image": "example/sandbox:2"}}

    template = SandboxPool.from_body(BODY).template_hash

    assert SandboxPool.from_body(changed).template_hash == template
    assert SandboxPool.from_body(other).template_hash != template


def test_the_definition_has_every_limit_of_the_protocol_with_its_value_as_the_most() -> None:
    (version,) = definition()["spec"]["versions"]
    limits = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["limits"]["properties"]

    assert {LIMIT_FIELDS[name]: schema["maximum"] for name, schema in limits.items()} == Limits().as_dict()


def test_the_charts_copy_of_the_definition_is_current() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "warmpool_operator.crd", "--check"], capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stderr

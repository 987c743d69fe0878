"""The pod of a pool, and the definition that the API server checks pools against."""

import json
import subprocess
import sys
from typing import Any

from warmpool.protocol import CLOSED_TCP_PORTS, TCP_BUFFER_BYTES, Limits
from warmpool_operator.crd import definition
from warmpool_operator.manifest import HEALTH_PORT, PORT, pod_manifest, user_of
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


def with_network(*ports: int) -> SandboxPool:
    return SandboxPool.from_body({**BODY, "spec": {**BODY["spec"], "network": {"tcpPorts": list(ports)}}})


def test_a_pod_is_told_whom_it_may_serve_again() -> None:
    told = {}
    for mode in ("reuse", "tenant", "single-use"):
        body = {**BODY, "spec": {**BODY["spec"], "recycle": {"mode": mode}}}
        words = pod_manifest(SandboxPool.from_body(body), "p-1")["spec"]["containers"][0]["args"]
        told[mode] = {"--one-tenant", "--single-use"}.intersection(words)

    assert told == {"reuse": set(), "tenant": {"--one-tenant"}, "single-use": {"--single-use"}}


def test_a_network_profile_is_told_to_the_supervisor_and_to_network_policies() -> None:
    pod = pod_manifest(with_network(443, 8443), "p-1")
    arguments = pod["spec"]["containers"][0]["args"]

    assert arguments[arguments.index("--tcp-ports") + 1] == "443,8443"
    assert pod["metadata"]["labels"]["warmpool.dev/network"] == "tcp"
    assert {one["name"]: one["value"].split()[2] for one in pod["spec"]["securityContext"]["sysctls"]} == {
        "net.ipv4.tcp_rmem": str(TCP_BUFFER_BYTES),
        "net.ipv4.tcp_wmem": str(TCP_BUFFER_BYTES),
    }


def test_without_a_network_profile_a_pod_has_none_of_it_whatever_its_template_says() -> None:
    spec = {**BODY["spec"], "template": {"metadata": {"labels": {"warmpool.dev/network": "tcp"}}}}
    pod = pod_manifest(SandboxPool.from_body({**BODY, "spec": spec}), "p-1")

    assert pod["metadata"]["labels"]["warmpool.dev/network"] == "none"
    assert "--tcp-ports" not in pod["spec"]["containers"][0]["args"]
    assert "sysctls" not in pod["spec"]["securityContext"]


def test_a_network_profile_is_part_of_the_template() -> None:
    hashes = {pool.template_hash for pool in (SandboxPool.from_body(BODY), with_network(443), with_network(8443))}

    assert len(hashes) == 3


def test_no_port_of_the_pods_own_may_be_in_a_network_profile() -> None:
    assert {PORT, HEALTH_PORT} <= set(CLOSED_TCP_PORTS)


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

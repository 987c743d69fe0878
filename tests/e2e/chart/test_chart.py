"""The chart as Helm renders it and as an API server judges it; what an installed one does is in test_release.py."""

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from k8s.helm import CHART, helm, kubectl
from k8s.release import PREFIX, Release

from warmpool.protocol import CLOSED_TCP_PORTS, MOST_TCP_PORTS

VALUES: Final = Path(__file__).parent / "values"
SETS: Final = sorted(file.stem for file in VALUES.glob("*.yaml"))
NAMESPACE: Final = f"{PREFIX}-chart"
SANDBOXES: Final = f"{NAMESPACE}-sandboxes"
MAY_CALL_THE_API_SERVER: Final = {"operator", "pool", "drain"}

Object = dict[str, Any]
every_set = pytest.mark.parametrize("values", ["default", *SETS])


def arguments(values: str, namespace: str = NAMESPACE) -> list[str]:
    chosen = [] if values == "default" else ["--values", str(VALUES / f"{values}.yaml")]
    return ["--namespace", namespace, "--kube-version", "1.34.0", *chosen]


def render(values: str, *more: str) -> list[Object]:
    text = helm("template", "warmpool", str(CHART), *arguments(values), *more)
    return [document for document in yaml.safe_load_all(text) if document]


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [found for found in objects if found["kind"] in kinds]


def pod_specs(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Component and spec of all that becomes a pod."""
    for found in of_kind(objects, "Deployment", "StatefulSet", "Job", "Pod"):
        spec = found["spec"] if found["kind"] == "Pod" else found["spec"]["template"]["spec"]
        yield found["metadata"]["labels"]["app.kubernetes.io/component"], spec


def the_pool(objects: list[Object]) -> Object:
    (found,) = [item for item in of_kind(objects, "ConfigMap") if "pool.json" in item["data"]]
    pool: Object = json.loads(found["data"]["pool.json"])
    return pool


@every_set
def test_helm_finds_no_fault(values: str) -> None:
    helm("lint", "--strict", str(CHART), *arguments(values))


def test_the_sets_of_values_touch_every_key() -> None:
    touched = [yaml.safe_load((VALUES / f"{values}.yaml").read_text()) for values in SETS]

    def untouched(defaults: Object, given: list[Object], path: str) -> Iterator[str]:
        for key, default in defaults.items():
            below = [values[key] for values in given if key in values]
            if isinstance(default, dict) and default:
                yield from untouched(default, below, f"{path}{key}.")
            elif not below:
                yield path + key

    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    # What a container may use has defaults of its own, and is replaced as a whole.
    assert [key for key in untouched(defaults, touched, "") if ".resources." not in key] == []


@pytest.fixture(scope="module")
def namespaces() -> Iterator[None]:
    for name in (NAMESPACE, SANDBOXES):
        labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        _apply([made])
    yield
    kubectl("delete", "namespace", NAMESPACE, SANDBOXES, "--wait=false")


def _apply(objects: list[Object], *more: str) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    words = ["kubectl", "apply", "--server-side", "--force-conflicts", "--warnings-as-errors", *more, "--filename", "-"]
    ended = subprocess.run(words, input=text, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr


@every_set
def test_the_api_server_takes_every_object_and_warns_of_none(values: str, namespaces: None, release: Release) -> None:
    """Pods that break `restricted` are warned of where their Deployment is created."""
    objects = render(values, "--set", f"sandbox.namespace={SANDBOXES}")
    pools = [] if values == "names" else [the_pool(objects)]
    _apply(of_kind(objects, "ServiceAccount"))  # without its own the test's pod is not even looked at
    _apply([*objects, *pools], "--dry-run=server")


@every_set
def test_only_what_must_has_a_way_to_the_api_server(values: str) -> None:
    objects = render(values)
    accounts = {
        item["metadata"]["name"]: item["automountServiceAccountToken"] for item in of_kind(objects, "ServiceAccount")
    }
    for component, spec in pod_specs(objects):
        has_token = spec.get("automountServiceAccountToken", accounts[spec["serviceAccountName"]])
        assert has_token == (component in MAY_CALL_THE_API_SERVER), component
    assert not of_kind(objects, "ClusterRole", "ClusterRoleBinding")
    subjects = {subject["name"] for binding in of_kind(objects, "RoleBinding") for subject in binding["subjects"]}
    assert {name.rpartition("-")[2] for name in subjects} == MAY_CALL_THE_API_SERVER


def test_pool_and_gateways_agree_on_what_a_program_may_use() -> None:
    objects = render("pool")
    pool = the_pool(objects)
    (gateway,) = [spec for component, spec in pod_specs(objects) if component == "gateway"]
    environment = {item["name"]: item["value"] for item in gateway["containers"][0]["env"]}
    assert environment["WARMPOOL_POOL__NAME"] == pool["metadata"]["name"] == "numbers"
    assert environment["WARMPOOL_POOL__MAX_EXECUTIONS"] == str(pool["spec"]["recycle"]["maxExecutions"]) == "1"
    assert environment["WARMPOOL_POOL__LIMITS__MEMORY_BYTES"] == str(pool["spec"]["limits"]["memoryBytes"])
    assert environment["WARMPOOL_POOL__LIMITS__WALL_SECONDS"] == str(pool["spec"]["limits"]["wallSeconds"]) == "12.5"
    told = {name for name in environment if name.startswith("WARMPOOL_POOL__LIMITS__")}
    assert len(told) == len(pool["spec"]["limits"])


def test_the_pool_mounts_exactly_the_tools_that_the_chart_brings() -> None:
    objects = render("default")
    tools = the_pool(objects)["spec"]["tools"]
    (made,) = [item for item in of_kind(objects, "ConfigMap") if item["metadata"]["name"] == tools["configMap"]]
    content = {item["path"]: made["data"][item["key"]] for item in tools["items"]}
    folder = CHART / "files" / "tools"
    assert content == {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*.py")}
    assert len(made["data"]) == len(content)


def test_a_render_without_a_cluster_is_the_same_each_time_but_for_secrets() -> None:
    first, second = render("default"), render("default")
    assert [item for item in first if item["kind"] != "Secret"] == [item for item in second if item["kind"] != "Secret"]


def test_both_namespaces_get_one_pool_key() -> None:
    keys = [
        item["data"]["pool.key"] for item in of_kind(render("default"), "Secret") if "pool.key" in item.get("data", {})
    ]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert len(base64.b64decode(keys[0])) >= 32


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("gateway.replicas=-1", "replicas"),
        ("pool.replicas=5001", "replicas"),
        ("pool.replica=3", "replica"),
        ("pool.limits.memory=5", "memory"),
        ("pool.limits.processes=0", "processes"),
        ("pool.template.spec.hostNetwork=true", "hostNetwork"),
        *[(f"pool.network.tcpPorts={{{port}}}", "tcpPorts") for port in (0, 53, 8888, 8889, 10250, 10255, 65536)],
        *[
            (f"pool.network.tcpPorts={{443}},pool.network.egress[0].cidr={cidr}", "cidr")
            for cidr in ("10.0.0.0", "8.0.0.0/5", "10.0.0.0/0", "example.com", "e000::/1")
        ],
        ("pool.network.egress[0].cidr=10.0.0.0/8", "say in pool.network.tcpPorts to which ports"),
        ("gateway.service.type=ExternalName", "type"),
        ("images.pullPolicy=Sometimes", "pullPolicy"),
        ("sandbox.namespace=Upper", "namespace"),
        ("embedding.dimensions=4", "dimensions"),
        ("redis.embedded.enabled=false", "redis.existingSecret"),
        ("postgres.embedded.enabled=false", "postgres.existingSecret"),
        ("keys.existingSecret=ours", "existingPoolSecret"),
        (f"sandbox.namespace={NAMESPACE}", "sandbox.namespace"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(given: str, named: str) -> None:
    with pytest.raises(AssertionError, match=named):
        helm("template", "warmpool", str(CHART), *arguments("default"), "--set", given)


def egress(objects: list[Object], namespace: str = SANDBOXES) -> list[Object]:
    """The policies that let sandbox pods out."""
    found = [item for item in of_kind(objects, "NetworkPolicy") if item["metadata"]["namespace"] == namespace]
    return [policy for policy in found if policy["spec"].get("egress")]


@every_set
def test_nothing_leaves_the_sandbox_namespace_without_a_network_profile_and_addresses(values: str) -> None:
    objects = render(values)
    (pool,) = [the_pool(objects)] if values != "names" else [{"metadata": {"namespace": "code-runs"}, "spec": {}}]
    policies = egress(objects, pool["metadata"]["namespace"])
    assert len(policies) == ("network" in pool["spec"])
    assert egress(render(values, "--set", "pool.network.egress=null"), pool["metadata"]["namespace"]) == []


def test_a_network_profile_lets_out_its_own_pools_pods_to_its_ports_and_addresses() -> None:
    objects = render("pool")
    (policy,) = egress(objects)
    pool = the_pool(objects)
    assert policy["spec"]["podSelector"]["matchLabels"] == {
        "app.kubernetes.io/name": "warmpool-sandbox",
        "warmpool.dev/pool": pool["metadata"]["name"],
        "warmpool.dev/network": "tcp",
    }
    (rule,) = policy["spec"]["egress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": port} for port in pool["spec"]["network"]["tcpPorts"]]
    blocks = {peer["ipBlock"]["cidr"]: peer["ipBlock"].get("except") for peer in rule["to"]}
    assert list(blocks) == ["0.0.0.0/0", "10.9.0.0/16", "2001:db8::/32"]
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "203.0.113.0/24"} <= set(blocks["0.0.0.0/0"] or ())
    assert (blocks["10.9.0.0/16"], blocks["2001:db8::/32"]) == (None, None)


def test_a_network_profile_is_refused_where_a_pod_cannot_bound_its_connections() -> None:
    with pytest.raises(AssertionError, match=r"needs Kubernetes 1\.32"):
        render("pool", "--kube-version", "1.31.9")


def test_the_chart_closes_the_ports_that_the_definition_closes() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    ports = schema["properties"]["pool"]["properties"]["network"]["properties"]["tcpPorts"]
    assert tuple(ports["items"]["not"]["enum"]) == CLOSED_TCP_PORTS
    assert ports["maxItems"] == MOST_TCP_PORTS


def test_secrets_survive_an_upgrade(release: Release) -> None:
    """As the server would have them after it: nothing is changed here."""
    options = ["--namespace", release.namespace, "--reuse-values", "--dry-run=server", "--output", "json"]
    upgraded = json.loads(helm("upgrade", release.name, str(CHART), *options))
    after = {item["metadata"]["name"]: item for item in _secrets(upgraded["manifest"])}
    assert set(after) >= {"warmpool-keys", "warmpool-redis", "warmpool-postgres"}
    for name, secret in after.items():
        here = json.loads(kubectl("get", "secret", name, "-n", secret["metadata"]["namespace"], "-o", "json"))["data"]
        said = {key: base64.b64encode(value.encode()).decode() for key, value in secret.get("stringData", {}).items()}
        assert said | secret.get("data", {}) == here


def _secrets(manifest: str) -> list[Object]:
    return of_kind([document for document in yaml.safe_load_all(manifest) if document], "Secret")

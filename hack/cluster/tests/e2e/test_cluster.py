"""A second cluster beside the one in use: what it must be able to do, how it is mended, and that nothing of it stays.

Needs root and the binaries; takes about two minutes. Run it with `pytest hack/cluster/tests/e2e`.
"""

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hack.cluster import binaries, boot, cgroups, config, images, processes, teardown
from hack.cluster.instance import Instance
from hack.cluster.shell import ClusterError, run, succeeds

INSTANCE = Instance("warmpool-test", octet=1)
CLIENT_IMAGE = "localhost/kubectl:dev"
"""kubectl, which is a static binary that can ask any server for a path: a client to put into pods."""

pytestmark = [
    pytest.mark.timeout(300),
    # Components outlive the command that starts them, which here is this very process.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
_numbers = itertools.count(1)


def waits_until(answers: Callable[[], bool], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not answers():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def built(name: str) -> Path:
    return binaries.KUBERNETES.folder() / name


def kubectl(*words: str | Path, **given: Any) -> str:
    return run(built("kubectl"), f"--kubeconfig={INSTANCE.admin}", *words, **given)


def apply(*objects: dict[str, Any]) -> None:
    kubectl("apply", "-f", "-", input="\n---\n".join(map(json.dumps, objects)))


@pytest.fixture(scope="module")
def machine() -> Iterator[Instance]:
    """The instance, and at the end nothing of it."""
    teardown.down(INSTANCE)
    yield INSTANCE
    teardown.down(INSTANCE)


@pytest.fixture
def cluster(machine: Instance) -> Instance:
    """Up, whatever the test before did to it."""
    boot.up(machine)
    return machine


@pytest.fixture
def namespace(cluster: Instance, tmp_path: Path) -> str:
    """One of its own, as strict as they come, with the pod `client`."""
    archive = tmp_path / "kubectl.tar"
    images.write_archive(archive, CLIENT_IMAGE, built("kubectl"), ["/kubectl"])
    images.load(cluster, [archive])
    name = f"strict-{next(_numbers)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    # Made by the controller manager, which a test before may have started anew; without it no pod is admitted.
    kubectl("-n", name, "wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    apply(pod(name, "client"))
    kubectl("-n", name, "wait", "--for=condition=Ready", "pod/client", "--timeout=30s")
    return name


def pod(namespace: str, name: str, **context: Any) -> dict[str, Any]:
    hardened = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    container = {
        "name": "client", "image": CLIENT_IMAGE, "imagePullPolicy": "IfNotPresent", "securityContext": hardened,
        "command": ["/kubectl", "proxy", "--server=http://127.0.0.1:1"],  # to stay
    }  # fmt: skip
    unprivileged = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}, **context}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "securityContext": unprivileged, "containers": [container], "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
        },
    }  # fmt: skip


def dns_metrics() -> str:
    address = kubectl("-n", "kube-system", "get", "pods", "-o=jsonpath={.items[0].status.podIP}")
    return f"http://{address}:9153"


def reaches(namespace: str, server: str) -> bool:
    asks = ("/kubectl", f"--server={server}", "--request-timeout=2s", "get", "--raw", "/metrics")
    return succeeds(built("kubectl"), f"--kubeconfig={INSTANCE.admin}", "exec", "-n", namespace, "client", "--", *asks)


def test_a_whole_cluster_is_left_as_it_is_within_two_seconds(cluster: Instance) -> None:
    before, began = processes.recorded(cluster), time.monotonic()
    boot.up(cluster)
    assert time.monotonic() - began < 2
    assert processes.recorded(cluster) == before
    assert boot.problem(cluster) is None


def test_a_pod_that_breaks_restricted_is_refused_and_one_that_keeps_it_runs(namespace: str) -> None:
    with pytest.raises(ClusterError, match="violates PodSecurity"):
        apply(pod(namespace, "rooted", runAsUser=0, runAsNonRoot=False))
    assert kubectl("-n", namespace, "get", "pod/client", "-o=jsonpath={.status.phase}") == "Running"


def test_a_network_policy_blocks_and_its_deletion_opens(namespace: str) -> None:
    server = dns_metrics()
    assert reaches(namespace, server)
    apply({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "nothing-out", "namespace": namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"]},
    })  # fmt: skip
    assert waits_until(lambda: not reaches(namespace, server))
    kubectl("-n", namespace, "delete", "networkpolicy", "nothing-out")
    assert waits_until(lambda: reaches(namespace, server))


def test_a_service_is_found_by_name_and_answers(namespace: str) -> None:
    assert reaches(namespace, "http://kube-dns.kube-system.svc.cluster.local:9153")


def test_logs_and_exec_and_port_forward_work(namespace: str) -> None:
    assert "Starting to serve" in kubectl("-n", namespace, "logs", "client")
    assert "v1.34" in kubectl("-n", namespace, "exec", "client", "--", "/kubectl", "version", "--client")
    forward = (built("kubectl"), f"--kubeconfig={INSTANCE.admin}", "-n", namespace, "port-forward")
    with subprocess.Popen([*forward, "pod/client", ":8001"], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        port = child.stdout.readline().split("127.0.0.1:")[1].split()[0]
        assert succeeds("bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}")
        child.terminate()


def test_helm_installs_and_uninstalls(cluster: Instance, tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: one\nversion: 0.1.0\n")
    object_ = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "of-the-chart"}}
    (tmp_path / "templates" / "one.yaml").write_text(json.dumps(object_))
    helm = (built("helm"), f"--kubeconfig={cluster.admin}")
    run(*helm, "install", "one", tmp_path, "--wait")
    assert kubectl("get", "configmap", "of-the-chart", "-o=name") == "configmap/of-the-chart\n"
    run(*helm, "uninstall", "one", "--wait")


def kill(name: str) -> None:
    """The component itself, which is the child of the process that entered the node for it."""
    run("pkill", "-KILL", "--parent", str(processes.recorded(INSTANCE)[name].pid))


def test_a_half_made_cluster_and_one_of_other_versions_are_noticed(cluster: Instance) -> None:
    mark = cluster.state / "whole"
    key = mark.read_text()
    mark.unlink()
    assert "no whole cluster" in (boot.problem(cluster) or "")
    mark.write_text("another")
    assert "other versions" in (boot.problem(cluster) or "")
    mark.write_text(key)
    assert boot.problem(cluster) is None


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda: kill("etcd"), "etcd died"),
        (lambda: processes.recorded(INSTANCE)["node"].kill(), "node, etcd"),
        (lambda: shutil.rmtree(INSTANCE.state, ignore_errors=True), "no whole cluster"),
    ],
    ids=["a dead component", "a dead node", "its folder removed"],
)
def test_a_broken_cluster_is_noticed_and_made_anew(cluster: Instance, damage: Callable[[], None], told: str) -> None:
    before = processes.recorded(cluster)
    damage()
    assert waits_until(lambda: told in (boot.problem(cluster) or ""))
    boot.up(cluster)
    assert boot.problem(cluster) is None
    assert not any(process.alive for process in before.values())


def test_a_component_is_down_for_a_while_and_then_answers_again(cluster: Instance) -> None:
    before = processes.recorded(cluster)
    with ThreadPoolExecutor() as threads:
        restarting = threads.submit(boot.restart, cluster, "kube-apiserver", 2.0)
        assert waits_until(lambda: "kube-apiserver died" in (boot.problem(cluster) or ""))
        restarting.result()
    assert waits_until(lambda: boot.problem(cluster) is None)
    changed = {name for name, process in processes.recorded(cluster).items() if process != before[name]}
    assert changed == {"kube-apiserver"}


def test_what_is_no_component_is_not_restarted(cluster: Instance) -> None:
    with pytest.raises(ClusterError, match="there are etcd"):
        boot.restart(cluster, "node", 0.0)


def test_two_ups_at_once_make_one_cluster(cluster: Instance) -> None:
    (cluster.state / "whole").unlink()
    code = (
        "from hack.cluster import boot, instance, shell\n"
        f"one = instance.Instance({cluster.name!r}, {cluster.octet})\n"
        "with shell.locked(one.state.parent): boot.up(one)"
    )
    both = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [one.communicate()[1] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert sorted("cluster: up after" in words for words in said) == [False, True]
    assert boot.problem(cluster) is None


def test_a_start_that_fails_names_the_component_its_last_words_and_the_cause(
    machine: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    teardown.down(machine)
    as_it_should_be = config.etcd
    monkeypatch.setattr(config, "etcd", lambda instance: (*as_it_should_be(instance), "--nonsense"))
    with pytest.raises(ClusterError, match=r"(?s)etcd died.*--config-file.*Likely cause: .*does not know"):
        boot.up(machine)


@pytest.mark.parametrize("dead", [(), ("containerd", "kubelet")], ids=["whole", "half dead"])
def test_down_leaves_nothing(machine: Instance, dead: Sequence[str]) -> None:
    teardown.down(machine)
    before = traces()
    boot.up(machine)
    inside = processes_of(machine)
    assert len(inside) > len(config.commands(machine))
    for name in dead:
        kill(name)
    teardown.down(machine)
    assert traces() == before
    assert not any(process.alive for process in inside)
    assert teardown.remains(machine) == []
    teardown.down(machine)  # harmless where there is nothing


def processes_of(instance: Instance) -> list[processes.Process]:
    """Those whose process numbers the node gave, directly or to a container's own namespace."""
    node = os.readlink(f"/proc/{processes.recorded(instance)['node'].pid}/ns/pid")
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.readlink(folder / "ns/pid") == node or f"{instance.cgroup}/" in (folder / "cgroup").read_text():
                found.append(processes.Process.of(int(folder.name)))
    return [process for process in found if process is not None]


def traces() -> dict[str, list[str]]:
    """All places of the machine where a cluster could leave something."""
    places = (
        "/etc", "/etc/cni/net.d", "/opt", "/run", "/run/netns", "/usr/libexec", "/var/cache", "/var/lib",
        "/var/lib/cni", "/var/log",
    )  # fmt: skip
    groups = [group for hierarchy in cgroups.ROOT.iterdir() for group in hierarchy.glob("*/") if group.is_dir()]
    return {
        "files": sorted(str(path) for place in places for path in Path(place).glob("*")),
        "cgroups": sorted(map(str, groups)),
        "mounts": sorted(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()),
        "links": sorted(link["ifname"] for link in json.loads(run("ip", "-json", "link"))),
        "routes": run("ip", "route").splitlines(),
        "firewall": run("nft", "list", "ruleset").splitlines(),
        "processes": run("pgrep", "--full", "--list-full", f"/{INSTANCE.name}-", check=False).splitlines(),
    }

"""Bringing a cluster up, component after component, each waited for until it answers."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from hack.cluster import binaries, causes, cgroups, config, images, network, processes, teardown
from hack.cluster.binaries import console
from hack.cluster.instance import Instance
from hack.cluster.shell import ClusterError, inside, missing_packages, run, succeeds
from hack.cluster.state import State, key, load_state, save_state

PACKAGES: Final = (
    "catatonit", "conntrack", "containerd", "containernetworking-plugins", "ipset", "iproute2", "iptables", "nftables",
    "procps", "runc",
)  # fmt: skip
START_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.1


def up(instance: Instance) -> None:
    """A whole cluster is left as it is; whatever else is found is taken away first."""
    if os.geteuid() != 0:
        raise ClusterError("a cluster needs root: namespaces, mounts and cgroups are made")
    built = binaries.folder()
    wrong = problem(instance, built)
    if wrong is None:
        return
    if instance.state.exists() or instance.run.exists():
        console.print(f"cluster: {wrong}; making it anew")
        teardown.down(instance)
    _install_packages()
    try:
        _boot(instance, built)
    except KeyboardInterrupt:
        teardown.down(instance)
        raise


def problem(instance: Instance, built: Path) -> str | None:
    """What is wrong with the cluster as it stands, or None."""
    state = load_state(instance)
    if state is None:
        return "there is no whole cluster here"
    if state.key != key(instance, built):
        return "it was made by other files than these"
    dead = [name for name, process in processes.recorded(instance).items() if not process.alive]
    if dead:
        return f"{', '.join(dead)} died; last words in {instance.logs}"
    kubectl = (built / "kubectl", f"--kubeconfig={instance.admin}", "--request-timeout=5s")
    ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    try:
        said = run(*kubectl, "get", "node", config.NODE, "-o", ready, timeout=10)
    except ClusterError as fault:
        return f"the API server does not answer ({fault})"
    return None if said == "True" else "its node is not ready"


def _install_packages() -> None:
    missing = missing_packages(PACKAGES)
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise ClusterError(f"these Debian packages are needed: {' '.join(missing)}")
    console.print(f"cluster: installing {' '.join(missing)}")
    if not succeeds("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing, timeout=600):
        run("apt-get", "update", "-qq", timeout=300)
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing, timeout=600)


def _boot(instance: Instance, built: Path) -> None:
    began = time.monotonic()
    with _step("network, certificates"):
        for folder in (instance.state, instance.run, instance.logs, instance.kubeconfigs):
            folder.mkdir(parents=True, exist_ok=True)
        instance.state.chmod(0o711)
        config.write(instance)
        network.make(instance)
        cgroups.make(instance)
        _certificates(instance, built)
    kubectl: Sequence[str | Path] = (built / "kubectl", f"--kubeconfig={instance.admin}", "--request-timeout=10s")

    component = _Components(instance, built)
    component.start("etcd", config.etcd(instance), component.listens("127.0.0.1:2379"))
    component.start(
        "containerd",
        config.containerd_command(instance),
        partial(succeeds, "ctr", "--address", instance.containerd_socket, "version"),
    )
    component.start(
        "kube-apiserver", config.apiserver(instance), partial(succeeds, *kubectl, "get", "--raw", "/readyz")
    )
    # Before the first call of logs or exec: the kubelet remembers a refusal.
    run(
        *kubectl, "create", "clusterrolebinding", "kubeadm:cluster-admins",
        "--clusterrole=cluster-admin", "--group=kubeadm:cluster-admins",
    )  # fmt: skip
    component.start("kube-controller-manager", config.controller_manager(instance))
    component.start("kube-scheduler", config.scheduler(instance))
    component.start("kube-proxy", config.proxy(instance))
    with _step("images of the node"):
        images.load_own(instance, built)
    component.start(
        "kubelet", config.kubelet_command(instance), partial(succeeds, *kubectl, "get", "node", config.NODE)
    )
    component.start("kube-router", config.router(instance))  # ends itself where the node is not there yet
    with _step("CoreDNS"):
        run(*_kubeadm(instance, built), "addon", "coredns", f"--kubeconfig={instance.admin}")
        run(*kubectl, "-n", "kube-system", "scale", "deployment/coredns", "--replicas=1")
        for what, question in (
            ("kubelet", ("wait", "--for=condition=Ready", f"node/{config.NODE}", "--timeout=1s")),
            ("coredns", ("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=5s")),
        ):
            component.wait(what, partial(succeeds, *kubectl, *question))
    component.check()
    save_state(instance, State(key=key(instance, built)))
    console.print(f"cluster: up after {time.monotonic() - began:.0f} s; logs in {instance.logs}")


def _kubeadm(instance: Instance, built: Path) -> Sequence[str | Path]:
    phase = (built / "kubeadm", "init", "phase")
    return (*phase, f"--config={instance.config('kubeadm.yaml')}")


def _certificates(instance: Instance, built: Path) -> None:
    given = f"--config={instance.config('kubeadm.yaml')}"
    run(built / "kubeadm", "init", "phase", "certs", "all", given)
    run(built / "kubeadm", "init", "phase", "kubeconfig", "all", given, f"--kubeconfig-dir={instance.kubeconfigs}")


class _Components:
    """Starts them in the node's network and tells which one failed, with its last words."""

    def __init__(self, instance: Instance, built: Path) -> None:
        self._instance = instance
        self._built = built

    def start(self, name: str, command: Sequence[str], answers: Callable[[], bool] | None = None) -> None:
        program = self._built / command[0] if (self._built / command[0]).exists() else Path(command[0])
        with _step(name):
            processes.start(
                self._instance, name, inside(self._instance.network_namespace, program, *command[1:]),
                {"TMPDIR": str(self._instance.state)},
            )  # fmt: skip
            if answers is not None:
                self.wait(name, answers)

    def listens(self, address: str) -> Callable[[], bool]:
        host, _, port = address.partition(":")
        probe = f"exec 3<>/dev/tcp/{host}/{port}"
        return lambda: succeeds(*inside(self._instance.network_namespace, "bash", "-c", probe))

    def wait(self, name: str, answers: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not answers():
            self.check()
            if time.monotonic() > deadline:
                raise ClusterError(self._blame(name, f"did not answer within {START_SECONDS:.0f} s"))
            time.sleep(POLL_SECONDS)

    def check(self) -> None:
        """Raises ClusterError for a component that died."""
        for name, process in processes.recorded(self._instance).items():
            if not process.alive:
                raise ClusterError(self._blame(name, "died"))

    def _blame(self, name: str, what: str) -> str:
        file = self._instance.logs / f"{name}.log"
        log = file.read_text(errors="replace") if file.exists() else ""
        cause = causes.likely(log)
        said = f"{name} {what}. Its last words, of {file}:\n{causes.tail(log) or '  (none)'}"
        return f"{said}\nLikely cause: {cause}" if cause else said


@contextmanager
def _step(name: str) -> Iterator[None]:
    began = time.monotonic()
    if console.is_terminal:
        with console.status(f"cluster: {name}"):
            yield
    else:
        yield
    console.print(f"cluster: {name} [dim]{time.monotonic() - began:.1f} s[/dim]")

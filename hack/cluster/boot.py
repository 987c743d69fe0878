"""Bringing a cluster up, component after component, each waited for until it answers."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from hack.cluster import binaries, causes, cgroups, config, images, node, processes, state, teardown
from hack.cluster.binaries import console
from hack.cluster.instance import Instance
from hack.cluster.processes import Process
from hack.cluster.shell import ClusterError, missing_packages, run, succeeds

PACKAGES: Final = (
    "catatonit", "conntrack", "containerd", "containernetworking-plugins", "ipset", "iproute2", "iptables", "nftables",
    "procps", "runc",
)  # fmt: skip
START_SECONDS: Final = 120.0
PATIENCE_SECONDS: Final = 15.0
"""How long a cluster whose processes all live may fail to answer before it is made anew: a busy machine is slow."""
POLL_SECONDS: Final = 0.1


def up(instance: Instance) -> Path:
    """Leaves a whole cluster as it is and takes away whatever else is found; the folder of the binaries."""
    binaries.KUBERNETES.go()  # first, for its absence is the one thing that is not mended here
    _install_packages()
    built = binaries.KUBERNETES.ensure()
    wrong = _broken(instance, built) or _patiently(partial(_unwell, instance, built))
    if wrong is None:
        return built
    if teardown.remains(instance):
        console.print(f"cluster: {wrong}; making it anew")
        teardown.down(instance)
    try:
        _Boot(instance, built).all()
    except KeyboardInterrupt:
        teardown.down(instance)
        raise
    return built


def restart(instance: Instance, name: str, down_seconds: float) -> None:
    """Kills one component, and starts it again after so long, whatever comes between.

    The others go on meanwhile. Raises ClusterError where there is no such component.
    """
    known = processes.recorded(instance)
    if name not in config.commands(instance) or name not in known or not known["node"].alive:
        raise ClusterError(f"there is no {name} here; there are {', '.join(config.commands(instance))}")
    try:
        processes.kill_inside(known[name])
        console.print(f"cluster: {name} is down for {down_seconds:g} s")
        time.sleep(down_seconds)
    finally:
        _Boot(instance, binaries.KUBERNETES.folder()).start(known["node"], name)


def problem(instance: Instance) -> str | None:
    """What is wrong with the cluster as it stands, or None."""
    built = binaries.KUBERNETES.folder()
    return _broken(instance, built) or _unwell(instance, built)


def _broken(instance: Instance, built: Path) -> str | None:
    """What time does not mend."""
    made_from = state.whole(instance)
    if made_from is None:
        return "there is no whole cluster here"
    if made_from != state.key(instance, built):
        return "it was made from other versions or settings than these"
    dead = [name for name, process in processes.recorded(instance).items() if not process.alive]
    return f"{', '.join(dead)} died; last words in {instance.logs}" if dead else None


def _unwell(instance: Instance, built: Path) -> str | None:
    ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    try:
        said = run(*_kubectl(instance, built), "get", "node", config.NODE, "-o", ready, timeout=10)
    except ClusterError as fault:
        return f"the API server does not answer ({fault})"
    return None if said == "True" else "its node is not ready"


def _patiently(question: Callable[[], str | None]) -> str | None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (wrong := question()) is not None and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return wrong


def _kubectl(instance: Instance, built: Path) -> Sequence[str | Path]:
    return (built / "kubectl", f"--kubeconfig={instance.admin}", "--request-timeout=5s")


def _install_packages() -> None:
    missing = missing_packages(PACKAGES)
    if not missing:
        return
    console.print(f"cluster: installing {' '.join(missing)}")
    install = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq", "--no-install-recommends")
    if not succeeds(*install, *missing, timeout=600):
        run("apt-get", "update", "-qq", timeout=300)
        run(*install, *missing, timeout=600)


class _Boot:
    """One start, step after step; says which component failed, with its last words."""

    def __init__(self, instance: Instance, built: Path) -> None:
        self._instance = instance
        self._built = built
        self._kubectl = _kubectl(instance, built)

    def all(self) -> None:
        began = time.monotonic()
        with _step("node"):
            inner = self._node()
        for name in ("etcd", "containerd", "kube-apiserver"):
            self.start(inner, name)
        self._allow_administrators()
        for name in ("kube-controller-manager", "kube-scheduler", "kube-proxy"):
            self.start(inner, name)
        with _step("images of the node"):
            images.load_own(self._instance, self._built)
        for name in ("kubelet", "kube-router"):  # the latter ends itself where the node is not there yet
            self.start(inner, name)
        with _step("CoreDNS"):
            self._dns()
        self._check()
        state.mark_whole(self._instance, state.key(self._instance, self._built))
        console.print(f"cluster: up after {time.monotonic() - began:.0f} s; logs in {self._instance.logs}")

    def _node(self) -> Process:
        instance = self._instance
        for folder in (instance.state, instance.logs, instance.kubeconfigs, instance.binaries):
            folder.mkdir(parents=True)
        for name, text in config.files(instance).items():
            path = instance.config(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self._kubeadm("certs", "all")
        self._kubeadm("kubeconfig", "all", f"--kubeconfig-dir={instance.kubeconfigs}")
        cgroups.make(instance)
        return node.make(instance, self._built)

    def _kubeadm(self, *phase: str) -> None:
        run(self._built / "kubeadm", "init", "phase", *phase, f"--config={self._instance.config('kubeadm.yaml')}")

    def start(self, inner: Process, name: str) -> None:
        """Returns once it answers, where it is one that answers."""
        program, *flags = config.commands(self._instance)[name]
        ours = program in binaries.KUBERNETES.tools()
        with _step(name):
            command = node.enter(inner, self._instance.binaries / program if ours else program, *flags)
            processes.start(self._instance, name, command)
            if (question := self._question(inner, name)) is not None:
                self._wait(name, partial(succeeds, *question))

    def _question(self, inner: Process, name: str) -> Sequence[str | Path] | None:
        """The command that succeeds once a component answers."""
        match name:
            case "etcd":
                return node.enter(inner, "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/2379")
            case "containerd":
                return ("ctr", "--address", self._instance.containerd_socket, "version")
            case "kube-apiserver":
                return (*self._kubectl, "get", "--raw", "/readyz")
            case "kubelet":
                return (*self._kubectl, "get", "node", config.NODE)
        return None

    def _allow_administrators(self) -> None:
        """Before the first call of logs or exec: the kubelet remembers a refusal for 30 s."""
        group = "kubeadm:cluster-admins"
        run(*self._kubectl, "create", "clusterrolebinding", group, "--clusterrole=cluster-admin", f"--group={group}")

    def _dns(self) -> None:
        self._kubeadm("addon", "coredns", f"--kubeconfig={self._instance.admin}")
        run(*self._kubectl, "-n", "kube-system", "scale", "deployment/coredns", "--replicas=1")
        ready = ("wait", "--for=condition=Ready", f"node/{config.NODE}", "--timeout=1s")
        self._wait("kubelet", partial(succeeds, *self._kubectl, *ready))
        rolled_out = ("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=5s")
        self._wait("coredns", partial(succeeds, *self._kubectl, *rolled_out))

    def _wait(self, name: str, answers: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not answers():
            self._check()
            if time.monotonic() > deadline:
                raise ClusterError(self._blame(name, f"did not answer within {START_SECONDS:.0f} s"))
            time.sleep(POLL_SECONDS)

    def _check(self) -> None:
        """Raises ClusterError for a component that died."""
        for name, process in processes.recorded(self._instance).items():
            if not process.alive:
                raise ClusterError(self._blame(name, "died"))

    def _blame(self, name: str, what: str) -> str:
        log = self._last_words(name)
        cause = causes.likely(log) or "not one that is known here"
        last = causes.tail(log) or "  (none)"
        return f"{name} {what}. Its last words:\n{last}\nLikely cause: {cause}\nMore: {self._instance.logs}"

    def _last_words(self, name: str) -> str:
        file = self._instance.logs / f"{name}.log"
        if file.exists():
            return file.read_text(errors="replace")
        try:  # a pod: why it does not run is an event, what it said itself a log
            events = run(*self._kubectl, "-n", "kube-system", "get", "events", "--field-selector=type=Warning")
        except ClusterError as fault:
            events = str(fault)
        said = [path.read_text(errors="replace") for path in (self._instance.state / "pod-logs").rglob("*.log")]
        return "\n".join([*said, events])


@contextmanager
def _step(name: str) -> Iterator[None]:
    began = time.monotonic()
    if console.is_terminal:
        with console.status(f"cluster: {name}"):
            yield
    else:
        yield
    console.print(f"cluster: {name} [dim]{time.monotonic() - began:.1f} s[/dim]")

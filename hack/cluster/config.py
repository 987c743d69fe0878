"""What each component is told: command lines and configuration files, as pure functions of the instance.

The reason behind a flag that one would not expect stands beside it.
"""

import json
from collections.abc import Sequence
from textwrap import dedent
from typing import Any, Final

from hack.cluster.binaries import KUBERNETES
from hack.cluster.instance import Instance

NODE: Final = "node"
MAX_PODS: Final = 250  # the /24 of the pods leaves 253 addresses
POD_PIDS: Final = 512
CNI_PLUGINS: Final = "/usr/lib/cni"
PAUSE_IMAGE: Final = "localhost/pause:dev"
COREDNS_IMAGE: Final = "localhost/coredns:dev"


def files(instance: Instance) -> dict[str, str]:
    """By their name below instance.config."""
    return {
        "kubeadm.yaml": kubeadm(instance),
        "containerd.toml": containerd(instance),
        "kubelet.yaml": json.dumps(kubelet(instance), indent=2),
        "resolv.conf": f"nameserver {instance.host_address}\n",
        "cni/10-pods.conflist": json.dumps(network(instance), indent=2),
    }


def commands(instance: Instance) -> dict[str, Sequence[str]]:
    """By component; the first word is a binary of ours or Debian's."""
    return {
        "etcd": etcd(instance),
        "containerd": ("containerd", f"--config={instance.config('containerd.toml')}", "--log-level=warn"),
        "kube-apiserver": apiserver(instance),
        "kube-controller-manager": controller_manager(instance),
        "kube-scheduler": scheduler(instance),
        "kube-proxy": proxy(instance),
        "kubelet": kubelet_command(instance),
        "kube-router": router(instance),
    }


def kubeadm(instance: Instance) -> str:
    """For its phases that make certificates, kubeconfigs and CoreDNS; kubeadm starts nothing here."""
    return dedent(f"""\
        apiVersion: kubeadm.k8s.io/v1beta4
        kind: InitConfiguration
        localAPIEndpoint: {{advertiseAddress: {instance.node_address}, bindPort: 6443}}
        nodeRegistration: {{name: {NODE}, criSocket: "unix://{instance.containerd_socket}"}}
        ---
        apiVersion: kubeadm.k8s.io/v1beta4
        kind: ClusterConfiguration
        kubernetesVersion: {KUBERNETES.version("k8s.io/kubernetes")}
        clusterName: {instance.name}
        certificatesDir: {instance.certificates}
        networking: {{podSubnet: {instance.pod_subnet}, serviceSubnet: {instance.service_subnet}}}
        dns: {{imageRepository: localhost, imageTag: dev}}
        """)


def containerd(instance: Instance) -> str:
    return dedent(f"""\
        version = 2
        root = "{instance.state}/containerd"
        state = "{instance.state}/containerd-state"
        [grpc]
        address = "{instance.containerd_socket}"
        [plugins."io.containerd.grpc.v1.cri"]
        sandbox_image = "{PAUSE_IMAGE}"
        # Lowering oom_score_adj needs CAP_SYS_RESOURCE; without this runc dies with "can't get final child's PID".
        restrict_oom_score_adj = true
        [plugins."io.containerd.grpc.v1.cri".cni]
        bin_dir = "{CNI_PLUGINS}"
        conf_dir = "{instance.config("cni")}"
        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
        runtime_type = "io.containerd.runc.v2"
        [plugins."io.containerd.internal.v1.opt"]
        path = "{instance.state}/opt"
        """)


def network(instance: Instance) -> dict[str, Any]:
    """`ptp`: pods are routed through the node, so its firewall sees traffic between two pods without br_netfilter."""
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": instance.pod_subnet}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": f"{instance.state}/addresses",
    }
    plugins = [
        {"type": "ptp", "ipMasq": False, "ipam": ipam},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    return {"cniVersion": "1.0.0", "name": f"{instance.name}-pods", "plugins": plugins}


def kubelet(instance: Instance) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True, "cacheTTL": "10s"},
            "x509": {"clientCAFile": f"{instance.certificates}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{instance.containerd_socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": instance.cgroup,  # of its own: a kubelet removes pods' cgroups that it does not know
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,  # an image that was loaded cannot be pulled again
        "maxPods": MAX_PODS,
        "podPidsLimit": POD_PIDS,
        "clusterDNS": [instance.dns_address],
        "clusterDomain": "cluster.local",
        # Nothing answers there. With 127.0.0.1 CoreDNS would see itself and stop: "Loop detected".
        "resolvConf": str(instance.config("resolv.conf")),
        "podLogsDir": f"{instance.state}/pod-logs",
        "volumePluginDir": f"{instance.state}/volume-plugins",
        "registryPullQPS": 0,
        "serializeImagePulls": False,
    }


def etcd(instance: Instance) -> Sequence[str]:
    # Without fsync: it holds nothing that anybody would miss, and a write costs less.
    return (
        "etcd", f"--data-dir={instance.state}/etcd", "--unsafe-no-fsync", "--log-level=warn",
        "--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        "--initial-cluster=default=http://127.0.0.1:2380",
    )  # fmt: skip


def apiserver(instance: Instance) -> Sequence[str]:
    pki = instance.certificates
    return (
        "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", "--secure-port=6443",
        f"--advertise-address={instance.node_address}", f"--bind-address={instance.node_address}",
        f"--service-cluster-ip-range={instance.service_subnet}", "--allow-privileged",
        "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
        # Else exec and logs look the node's name up in DNS.
        "--kubelet-preferred-address-types=InternalIP",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/apiserver.crt", f"--tls-private-key-file={pki}/apiserver.key",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet-client.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet-client.key",
        f"--service-account-key-file={pki}/sa.pub", f"--service-account-signing-key-file={pki}/sa.key",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt", "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={pki}/front-proxy-client.crt",
        f"--proxy-client-key-file={pki}/front-proxy-client.key",
    )  # fmt: skip


def controller_manager(instance: Instance) -> Sequence[str]:
    pki, kubeconfig = instance.certificates, instance.kubeconfigs / "controller-manager.conf"
    return (
        "kube-controller-manager", f"--kubeconfig={kubeconfig}", f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}", "--leader-elect=false", "--bind-address=127.0.0.1",
        "--use-service-account-credentials", "--controllers=*,bootstrapsigner,tokencleaner",
        f"--cluster-signing-cert-file={pki}/ca.crt", f"--cluster-signing-key-file={pki}/ca.key",
        f"--root-ca-file={pki}/ca.crt", f"--service-account-private-key-file={pki}/sa.key",
        f"--service-cluster-ip-range={instance.service_subnet}",
        f"--flex-volume-plugin-dir={instance.state}/volume-plugins",
    )  # fmt: skip


def scheduler(instance: Instance) -> Sequence[str]:
    kubeconfig = instance.kubeconfigs / "scheduler.conf"
    return (
        "kube-scheduler", f"--kubeconfig={kubeconfig}", f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}", "--leader-elect=false", "--bind-address=127.0.0.1",
    )  # fmt: skip


def kubelet_command(instance: Instance) -> Sequence[str]:
    return (
        "kubelet", f"--config={instance.config('kubelet.yaml')}", f"--kubeconfig={instance.kubeconfigs}/kubelet.conf",
        f"--root-dir={instance.state}/kubelet", f"--cert-dir={instance.state}/kubelet-pki",
        f"--hostname-override={NODE}", f"--node-ip={instance.node_address}",
    )  # fmt: skip


def proxy(instance: Instance) -> Sequence[str]:
    return (
        "kube-proxy", f"--kubeconfig={instance.admin}", f"--hostname-override={NODE}", "--proxy-mode=nftables",
        f"--cluster-cidr={instance.pod_subnet}", "--bind-address=127.0.0.1",
        # 0 leaves alone what it may not set in a namespace of ours.
        "--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
    )  # fmt: skip


def router(instance: Instance) -> Sequence[str]:
    """For NetworkPolicy alone."""
    return (
        "kube-router", f"--kubeconfig={instance.admin}", f"--hostname-override={NODE}", "--run-firewall=true",
        "--run-router=false", "--run-service-proxy=false", "--health-port=0", "--metrics-port=0",
        f"--service-cluster-ip-range={instance.service_subnet}",
    )  # fmt: skip


def host_routes(instance: Instance) -> Sequence[str]:
    """What the host reaches through the node."""
    return (instance.pod_subnet, instance.service_subnet)

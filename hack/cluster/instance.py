"""What tells one cluster on a machine from another: its name, its addresses, its folders.

Everything that `up` makes hangs on these, so that `down` can find all of it and two clusters can stand side by side.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parents[2]
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "warmpool"
"""Of the user, outside the work tree: what takes minutes to make outlives a checkout."""


@dataclass(frozen=True)
class Instance:
    """One cluster of one node. `octet` sets its address ranges apart."""

    name: str = "warmpool"
    octet: int = 0

    @property
    def host_address(self) -> str:
        return f"10.9.{self.octet}.1"

    @property
    def node_address(self) -> str:
        return f"10.9.{self.octet}.2"

    @property
    def pod_subnet(self) -> str:
        return f"10.{244 - self.octet}.0.0/24"

    @property
    def service_subnet(self) -> str:
        return f"10.{96 + self.octet}.0.0/16"

    @property
    def dns_address(self) -> str:
        return f"10.{96 + self.octet}.0.10"

    @property
    def server(self) -> str:
        return f"https://{self.node_address}:6443"

    @property
    def host_link(self) -> str:
        return f"{self.name[:11]}-h"  # a link's name has 15 characters at most

    @property
    def node_link(self) -> str:
        return f"{self.name[:11]}-n"

    @property
    def state(self) -> Path:
        """All of it: records, certificates, etcd, images, logs. Short, for it holds sockets: 107 bytes are their limit.

        Not below /run or /var/lib, of which the node has its own.
        """
        return Path("/var/cache") / f"{self.name}-cluster"

    @property
    def binaries(self) -> Path:
        return self.state / "bin"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def certificates(self) -> Path:
        return self.state / "pki"

    @property
    def kubeconfigs(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def admin(self) -> Path:
        """The kubeconfig that may do everything."""
        return self.kubeconfigs / "super-admin.conf"

    @property
    def containerd_socket(self) -> Path:
        return self.state / "containerd.sock"

    @property
    def cgroup(self) -> str:
        """Of the pods, below each hierarchy's root."""
        return f"/{self.name}-cluster"

    def config(self, name: str) -> Path:
        """A component's configuration file."""
        return self.state / "config" / name

"""The mark of a whole cluster: written last, so that a half-made one has none."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from hack.cluster import config
from hack.cluster.instance import Instance


@dataclass(frozen=True, slots=True)
class State:
    key: str
    """Of all that the cluster was made from."""


def key(instance: Instance, built: Path) -> str:
    made_from = (
        str(built), config.kubeadm(instance), config.containerd(instance), config.kubelet(instance),
        config.network(instance), config.etcd(instance), config.apiserver(instance), config.scheduler(instance),
        config.controller_manager(instance), config.kubelet_command(instance), config.proxy(instance),
        config.router(instance),
    )  # fmt: skip
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:16]


def load_state(instance: Instance) -> State | None:
    try:
        return State(**json.loads((instance.run / "whole.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def save_state(instance: Instance, state: State) -> None:
    (instance.run / "whole.json").write_text(json.dumps(asdict(state)))

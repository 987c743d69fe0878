"""The mark of a whole cluster: written last, so that a half-made one has none."""

import hashlib
import json
from pathlib import Path

from hack.cluster import config
from hack.cluster.instance import Instance


def key(instance: Instance, built: Path) -> str:
    """Of all that the cluster is made from; the folder around `built` is named by what the binaries were built from."""
    made_from = (built.parent.name, config.files(instance), config.commands(instance))
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:16]


def mark_whole(instance: Instance, key: str) -> None:
    _mark(instance).write_text(key)


def whole(instance: Instance) -> str | None:
    """The key that the cluster was made with; None where there is none, or a part of one."""
    return _mark(instance).read_text() if _mark(instance).exists() else None


def _mark(instance: Instance) -> Path:
    return instance.state / "whole"

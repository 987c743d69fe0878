"""A release of the chart in namespaces of its own, with the images that were built."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from kubernetes.aio import client

from k8s.cluster import DEFINITION, Cluster, suppress_missing
from k8s.helm import apply, is_installed, uninstall

IMAGES_FILE: Final = Path(__file__).parents[3] / ".cache" / "images.json"
PREFIX: Final = "warmpool-e2e"
"""Of every namespace that these tests make."""

Values: TypeAlias = dict[str, Any]


def images() -> dict[str, str]:
    """References by component, of the file that IMAGES names, or of `make images`."""
    named = os.environ.get("IMAGES") or IMAGES_FILE
    return dict(json.loads(Path(named).read_text()))


@dataclass(frozen=True, slots=True)
class Release:
    """Named `warmpool`, as its objects then are."""

    namespace: str
    values: Values
    name: str = "warmpool"

    @property
    def sandboxes(self) -> str:
        """The namespace that the chart makes for the pods."""
        return f"{self.namespace}-sandboxes"

    async def install(self, cluster: Cluster) -> None:
        """Anew: what an earlier run left goes first."""
        await self.end(cluster)
        await cluster.make_namespace(self.namespace)
        if self.values.get("crds", {}).get("enabled", True):
            await self._adopt_definition(cluster)
        self.apply()

    async def _adopt_definition(self, cluster: Cluster) -> None:
        """The definition outlives releases, or came without one; Helm takes it over only where it is told to."""
        owner = {"meta.helm.sh/release-name": self.name, "meta.helm.sh/release-namespace": self.namespace}
        metadata = {"annotations": owner, "labels": {"app.kubernetes.io/managed-by": "Helm"}}
        definitions = client.ApiextensionsV1Api(cluster.api)
        with suppress_missing():
            await definitions.patch_custom_resource_definition(
                DEFINITION, {"metadata": metadata}, _content_type="application/merge-patch+json"
            )

    def apply(self, **changed: Any) -> str:
        return apply(self.name, self.namespace, merged(self.values, changed))

    def uninstall(self, *, wait: bool = True) -> str:
        return uninstall(self.name, self.namespace, wait=wait)

    async def end(self, cluster: Cluster, *, wait: bool = True) -> None:
        """Uninstalls it, if it is there, and removes the namespaces with what the chart keeps. Without `wait` the
        cluster is left to it: a next install waits."""
        if is_installed(self.name, self.namespace):
            self.uninstall(wait=wait)
        for namespace in (self.sandboxes, self.namespace):
            await cluster.end_namespace(namespace, wait=wait)


def small(**changed: Any) -> Values:
    """Values for a machine of two cores: one of each component, and a pool of two."""
    built = images()
    components = ("operator", "gateway", "servers", "sandbox", "stores")
    values = {
        "images": {name: built[name] for name in components},
        "operator": {"replicas": 1},
        "gateway": {"replicas": 1},
        "servers": {"replicas": 1},
        "pool": {"replicas": 2},
    }
    return merged(values, changed)


def merged(values: Values, changes: Values) -> Values:
    result = dict(values)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result

"""The cluster under test, by its API. Nothing here knows what kind of cluster it is."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from harness.waiting import until
from kubernetes.aio import client, config
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.stream import WsApiClient

GROUP, VERSION, PLURAL = "warmpool.dev", "v1alpha1", "sandboxpools"
DEFINITION: Final = f"{PLURAL}.{GROUP}"

RESTRICTED: Final = {"pod-security.kubernetes.io/enforce": "restricted"}

Object: TypeAlias = dict[str, Any]
"""An object of the API as JSON has it."""

CLOSING_SECONDS: Final = 0.05
"""aiohttp gives TLS connections up when it is closed, and does not wait for their goodbye; a loop that ends before it
leaves transports that complain when they are collected, in whatever test comes then."""

_STDOUT, _STDERR, _ERROR = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command in a container ended."""

    code: int
    output: str
    errors: str

    def json(self) -> Any:
        assert self.code == 0, self
        return json.loads(self.output)


class Cluster:
    def __init__(self, api: client.ApiClient, sockets: WsApiClient) -> None:
        self.api = api
        self.core = client.CoreV1Api(api)
        self.apps = client.AppsV1Api(api)
        self.networking = client.NetworkingV1Api(api)
        self.authorization = client.AuthorizationV1Api(api)
        self.custom = client.CustomObjectsApi(api)
        self._sockets = client.CoreV1Api(sockets)

    async def pods(self, namespace: str, **labels: str) -> list[client.V1Pod]:
        """`component="gateway"` stands for the label app.kubernetes.io/component."""
        names = {"component": "app.kubernetes.io/component", "pool": "warmpool.dev/pool"}
        selector = ",".join(f"{names[key]}={value}" for key, value in labels.items())
        found = await self.core.list_namespaced_pod(namespace, label_selector=selector)
        return list(found.items)

    async def ready_pods(self, namespace: str, **labels: str) -> list[client.V1Pod]:
        return [pod for pod in await self.pods(namespace, **labels) if is_ready(pod)]

    async def delete_pod(self, pod: client.V1Pod, grace_seconds: int = 0) -> None:
        await self.core.delete_namespaced_pod(
            pod.metadata.name, pod.metadata.namespace, grace_period_seconds=grace_seconds
        )

    async def run_in(self, pod: client.V1Pod, *command: str) -> Ran:
        """Runs a command in the pod's first container."""
        text = {_STDOUT: "", _STDERR: "", _ERROR: ""}
        asked = await self._sockets.connect_get_namespaced_pod_exec_without_preload_content(
            pod.metadata.name,
            pod.metadata.namespace,
            command=list(command),
            container=pod.spec.containers[0].name,
            stdin=False,
            stdout=True,
            stderr=True,
            tty=False,
        )
        async with asked as socket:
            async for message in socket:
                text[message.data[0]] += message.data[1:].decode(errors="replace")
        return Ran(_exit_code(text[_ERROR]), text[_STDOUT], text[_STDERR])

    async def python_in(self, pod: client.V1Pod, code: str, *arguments: str) -> Any:
        """What a program prints as JSON, run by the container's own python3."""
        return (await self.run_in(pod, "python3", "-c", code, *arguments)).json()

    async def events(self, namespace: str, **of: str) -> list[client.CoreV1Event]:
        """`name="default"` stands for the name of the object that they are about."""
        selector = ",".join(f"involvedObject.{key}={value}" for key, value in of.items())
        found = await self.core.list_namespaced_event(namespace, field_selector=selector)
        return list(found.items)

    async def metrics(self) -> str:
        """The API server's own, in Prometheus's text."""
        asked = await self.api.param_serialize("GET", "/metrics", auth_settings=["BearerToken"])
        answer = await self.api.call_api(*asked)
        return str((await answer.read()).decode())

    async def make_namespace(self, name: str, labels: Mapping[str, str] = RESTRICTED) -> None:
        await self.core.create_namespace(
            client.V1Namespace(metadata=client.V1ObjectMeta(name=name, labels=dict(labels)))
        )

    async def end_namespace(self, name: str, seconds: float = 60.0, *, wait: bool = True) -> None:
        """Deletes it, if it is there, and waits until it is gone."""
        if await absent(self.core.read_namespace, name):
            return
        with suppress_missing():
            await self.core.delete_namespace(name)
        if not wait:
            return

        async def is_gone() -> bool:
            return await absent(self.core.read_namespace, name)

        await until(is_gone, seconds, f"namespace {name} is gone")


class Pools:
    """The SandboxPools of one namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.namespace = namespace
        self._cluster = cluster
        self._where = {"group": GROUP, "version": VERSION, "namespace": namespace, "plural": PLURAL}

    async def get(self, name: str) -> Object:
        return dict(await self._cluster.custom.get_namespaced_custom_object(name=name, **self._where))

    async def names(self) -> list[str]:
        found = await self._cluster.custom.list_namespaced_custom_object(**self._where)
        return [pool["metadata"]["name"] for pool in found["items"]]

    async def create(self, name: str, spec: Object, *, dry_run: bool = False) -> Object:
        """Raises ApiException where the API server refuses it, unknown fields included."""
        body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "SandboxPool", "metadata": {"name": name}, "spec": spec}
        how = {"dry_run": "All"} if dry_run else {}
        made = await self._cluster.custom.create_namespaced_custom_object(
            body=body, field_validation="Strict", **how, **self._where
        )
        return dict(made)

    async def merge(self, name: str, spec: Object) -> None:
        await self._cluster.custom.patch_namespaced_custom_object(
            name=name, body={"spec": spec}, _content_type="application/merge-patch+json", **self._where
        )

    async def delete(self, name: str) -> None:
        """Asks for it; its operator drains it."""
        with suppress_missing():
            await self._cluster.custom.delete_namespaced_custom_object(name=name, **self._where)

    async def strike_off(self, name: str) -> None:
        """Deletes it where no operator is there to drain it. Its pods are left to whoever collects garbage."""
        await self.delete(name)
        with suppress_missing():
            await self.unhold(name)

    async def end(self, name: str, seconds: float = 60.0) -> None:
        """Deletes it and waits until it and its pods are gone."""
        await self.delete(name)
        await until(lambda: self._is_gone(name), seconds, f"pool {name} is gone")

    async def unhold(self, name: str) -> None:
        """Takes off the finalizer by which an operator holds a deleted pool until its pods are gone."""
        await self._cluster.custom.patch_namespaced_custom_object(
            name=name, body={"metadata": {"finalizers": None}}, _content_type="application/merge-patch+json",
            **self._where,
        )  # fmt: skip

    async def _is_gone(self, name: str) -> bool:
        return name not in await self.names() and not await self.pods(name)

    async def pods(self, name: str) -> list[client.V1Pod]:
        return await self._cluster.pods(self.namespace, pool=name)

    async def ready_pods(self, name: str) -> list[client.V1Pod]:
        return await self._cluster.ready_pods(self.namespace, pool=name)

    async def condition(self, name: str, type: str) -> Object | None:
        """The condition, once it speaks of the pool's present spec."""
        pool = await self.get(name)
        conditions = pool.get("status", {}).get("conditions", [])
        found = next((item for item in conditions if item["type"] == type), None)
        current = found and found.get("observedGeneration") == pool["metadata"]["generation"]
        return found if current else None

    async def until_condition(
        self, name: str, type: str, status: str, seconds: float, reason: Callable[[str], bool] = bool
    ) -> Object:
        """Waits until the pool says so, for a reason that `reason` takes."""
        seen: Object | None = None

        async def holds() -> Object | None:
            nonlocal seen
            seen = await self.condition(name, type)
            return seen if seen and seen["status"] == status and reason(seen["reason"]) else None

        try:
            found = await until(holds, seconds, f"{name}: {type} is {status}")
        except AssertionError as fault:
            raise AssertionError(f"{fault}; the condition is {seen}") from fault
        assert found is not None
        return found


@asynccontextmanager
async def connected() -> AsyncIterator[Cluster]:
    """The cluster of KUBECONFIG."""
    configuration = client.Configuration()
    await config.load_kube_config(client_configuration=configuration)
    async with client.ApiClient(configuration) as api, WsApiClient(configuration) as sockets:
        yield Cluster(api, sockets)
    await asyncio.sleep(CLOSING_SECONDS)


@contextmanager
def suppress_missing() -> Iterator[None]:
    """For what need not be there."""
    try:
        yield
    except ApiException as fault:
        if fault.status != 404:
            raise


async def absent(read: Callable[..., Any], *what: str) -> bool:
    """Whether reading it says that there is no such thing."""
    with suppress_missing():
        await read(*what)
        return False
    return True


def is_ready(pod: client.V1Pod) -> bool:
    conditions = pod.status.conditions or []
    alive = pod.metadata.deletion_timestamp is None
    return alive and any(item.type == "Ready" and item.status == "True" for item in conditions)


def image_of(pod: client.V1Pod) -> str:
    return str(pod.spec.containers[0].image)


def restarts(pods: list[client.V1Pod]) -> int:
    return sum(status.restart_count for pod in pods for status in pod.status.container_statuses or [])


def _exit_code(verdict: str) -> int:
    said = json.loads(verdict)
    if said["status"] == "Success":
        return 0
    causes = {cause.get("reason"): cause["message"] for cause in said.get("details", {}).get("causes", [])}
    if "ExitCode" not in causes:
        raise AssertionError(f"the command did not run: {said['message']}")
    return int(causes["ExitCode"])

"""What the chart makes: who may do what, upgrades that touch no running program, and what is left in the end."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from harness.caller import Caller
from harness.waiting import until
from k8s.cluster import Cluster, Pools, absent, connected, image_of, is_ready
from k8s.helm import helm, kubectl
from k8s.release import PREFIX, Release, images, small
from k8s.service import TIMEOUT, addresses, any_pod
from k8s.wholeness import POOL
from kubernetes.aio import client

from warmpool.registry import Registry, connect

# -- the common release


async def may(cluster: Cluster, user: str, verb: str, resource: str, namespace: str | None, group: str = "") -> bool:
    attributes = client.V1ResourceAttributes(verb=verb, resource=resource, namespace=namespace, group=group)
    review = client.V1SubjectAccessReview(
        spec=client.V1SubjectAccessReviewSpec(user=user, resource_attributes=attributes)
    )
    return bool((await cluster.authorization.create_subject_access_review(review)).status.allowed)


async def user_of(cluster: Cluster, release: Release, component: str) -> str:
    pod = await any_pod(cluster, release, component)
    return f"system:serviceaccount:{release.namespace}:{pod.spec.service_account_name}"


async def test_the_operator_may_work_in_its_namespace_and_nowhere_else(cluster: Cluster, release: Release):
    user = await user_of(cluster, release, "operator")
    there, group = release.sandboxes, "warmpool.dev"
    for verb in ("list", "watch", "create", "delete"):
        assert await may(cluster, user, verb, "pods", there)
    assert await may(cluster, user, "watch", "sandboxpools", there, group)
    forbidden = [
        *((verb, "secrets", where) for verb in ("get", "list") for where in (there, release.namespace, "kube-system")),
        *(("create", "pods", where) for where in (release.namespace, "kube-system", "default", None)),
        *((verb, "pods", where) for verb in ("list", "delete") for where in (release.namespace, "default", None)),
        ("create", "pods/exec", there), ("list", "nodes", None), ("list", "namespaces", None),
        ("create", "clusterrolebindings", None), ("create", "rolebindings", there),
    ]  # fmt: skip
    assert [asked for asked in forbidden if await may(cluster, user, *asked)] == []


@pytest.mark.parametrize("component", ["gateway", "servers", "redis", "postgres"])
async def test_no_other_component_may_do_anything_or_has_a_token(cluster: Cluster, release: Release, component: str):
    user = await user_of(cluster, release, component)
    asked = [(verb, what, where) for verb in ("get", "list", "create") for what in ("pods", "secrets", "leases")
             for where in (release.namespace, release.sandboxes, None)]  # fmt: skip
    assert [question for question in asked if await may(cluster, user, *question)] == []
    for pod in await cluster.pods(release.namespace, component=component):
        mounts = [mount.mount_path for container in pod.spec.containers for mount in container.volume_mounts or []]
        assert not any("serviceaccount" in path for path in mounts)


async def test_every_pod_of_the_release_is_restricted_and_its_root_read_only(cluster: Cluster, release: Release):
    """The namespaces are labelled so, and the API server took the pods."""
    for name in (release.namespace, release.sandboxes):
        labels = (await cluster.core.read_namespace(name)).metadata.labels
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for pod in await cluster.pods(release.namespace):
        assert all(container.security_context.read_only_root_filesystem for container in pod.spec.containers)


@pytest.mark.timeout(120)
async def test_the_charts_own_test_passes(caller: Caller, release: Release):
    said = await asyncio.to_thread(helm, "test", release.name, "--namespace", release.namespace, "--timeout", "90s")
    assert "Phase:          Succeeded" in said


async def test_the_notes_say_two_commands_that_work(caller: Caller, release: Release):
    notes = helm("get", "notes", release.name, "--namespace", release.namespace)
    commands = re.findall(r"^\s+(?:\$ )?((?:kubectl|curl|KEY=).*)", notes, re.MULTILINE)
    assert len(commands) >= 2, notes
    assert any("warmpool keys create" in command for command in commands)


# -- a release of one's own


class Second:
    """A release that tests upgrade and uninstall, installed anew when one that needs it finds it gone."""

    def __init__(self) -> None:
        # The CustomResourceDefinition belongs to one release of a cluster.
        self.release = Release(f"{PREFIX}-second", small(crds={"enabled": False}))
        self.installed = False

    async def installed_release(self, cluster: Cluster) -> Release:
        if not self.installed:
            await self.release.install(cluster)
            self.installed = True
        return self.release

    def end(self) -> None:
        async def end() -> None:
            async with connected() as cluster:
                await self.release.end(cluster, wait=False)

        asyncio.run(end())


@pytest.fixture(scope="module")
def second(release: Release) -> Iterator[Second]:
    made = Second()
    yield made
    made.end()


@asynccontextmanager
async def calling(release: Release) -> AsyncIterator[tuple[Caller, Registry]]:
    ways = addresses(release)
    reached = await asyncio.to_thread(ways.__enter__)
    redis = connect(reached.redis)
    try:
        async with aiohttp.ClientSession(reached.gateway, timeout=TIMEOUT) as session:
            caller = Caller(session, reached.api_key)
            await until(caller.is_known, 10, "the key is known")
            yield caller, Registry(redis, POOL)
    finally:
        await redis.aclose()
        ways.__exit__(None, None, None)


async def are_of(pools: Pools, image: str, number: int, but: str = "") -> bool:
    """Whether so many pods are ready, or one more, all of the image; beside the one that is left out."""
    pods = [pod for pod in await pools.pods(POOL) if pod.metadata.name != but]
    return number <= len(pods) <= number + 1 and all(is_ready(pod) and image_of(pod) == image for pod in pods)


async def secrets(cluster: Cluster, *namespaces: str) -> dict[str, Any]:
    found = [item for name in namespaces for item in (await cluster.core.list_namespaced_secret(name)).items]
    return {item.metadata.name: item.data for item in found if item.type == "Opaque"}


@pytest.mark.timeout(300)
async def test_an_upgrade_replaces_idle_pods_first_and_a_leased_one_when_its_program_has_ended(
    cluster: Cluster, second: Second
):
    release = await second.installed_release(cluster)
    pools, built = Pools(cluster, release.sandboxes), images()
    await until(lambda: are_of(pools, built["sandbox"], 2), 40, "the pool of the install")
    before = await secrets(cluster, release.namespace, release.sandboxes)
    async with calling(release) as (caller, registry):
        asking = asyncio.create_task(caller.run("import time\ntime.sleep(25)\nreturn 'undisturbed'", seconds=29))
        busy = await until(lambda: leased(registry), 10, "a pod is leased")
        assert busy is not None
        try:
            await asyncio.to_thread(lambda: release.apply(images={"sandbox": built["sandbox-data"]}))
            await until(lambda: are_of(pools, built["sandbox-data"], 1, but=busy), 25, "idle pods are replaced")
            assert not asking.done(), "the program must outlast the replacement of the idle pods"
            old = await cluster.core.read_namespaced_pod(busy, release.sandboxes)
            assert (image_of(old), old.metadata.deletion_timestamp) == (built["sandbox"], None)
            ran = await asking
        finally:
            asking.cancel()
        assert (ran["status"], ran["result"]) == ("ok", "undisturbed"), ran
        await until(lambda: are_of(pools, built["sandbox-data"], 2), 30, "the leased one is replaced")
        ran = await caller.run("import numpy\nreturn numpy.arange(3).tolist()", seconds=10)
        assert (ran["status"], ran["result"]) == ("ok", [0, 1, 2]), ran
        assert await secrets(cluster, release.namespace, release.sandboxes) == before
        await asyncio.to_thread(helm, "rollback", release.name, "--namespace", release.namespace, "--wait")
        await until(lambda: are_of(pools, built["sandbox"], 2), 40, "the rollback's pods")
        assert (await caller.run("return 1"))["result"] == 1


async def leased(registry: Registry) -> str | None:
    return next((pod.id for pod in await registry.pods() if pod.lease is not None), None)


@pytest.mark.timeout(300)
async def test_an_uninstall_leaves_the_definition_and_the_secrets_that_it_names(cluster: Cluster, second: Second):
    release = await second.installed_release(cluster)
    second.installed = False
    said = await asyncio.to_thread(release.uninstall)
    kept = set(re.findall(r"^\[Secret\] (\S+)", said, re.MULTILINE))
    assert kept == {"warmpool-keys"}

    async def is_gone() -> bool:
        """Gateways end what they have first."""
        return not await cluster.pods(release.namespace) and await absent(
            cluster.core.read_namespace, release.sandboxes
        )

    await until(is_gone, 75, "the last pod and the sandboxes' namespace are gone")
    assert objects(release.namespace) == {f"secret/{name}" for name in kept}
    selector = f"app.kubernetes.io/instance={release.name},app.kubernetes.io/part-of=warmpool"
    roles = client.RbacAuthorizationV1Api(cluster.api)
    for found in (await roles.list_cluster_role(label_selector=selector)).items:
        assert release.namespace not in found.metadata.name
    kubectl("get", "crd", "sandboxpools.warmpool.dev")


def objects(namespace: str) -> set[str]:
    """Everything in a namespace that the cluster did not put there itself."""
    kinds = kubectl("api-resources", "--namespaced", "--verbs=list", "--output=name").split()
    ours = [kind for kind in kinds if not kind.startswith(("events", "endpoints", "podmetrics"))]
    found = kubectl("get", ",".join(ours), "--namespace", namespace, "--output=name", "--ignore-not-found").split()
    of_the_cluster = {"configmap/kube-root-ca.crt", "serviceaccount/default"}
    return {name for name in found if name not in of_the_cluster and not name.startswith("endpointslice")}

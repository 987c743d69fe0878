"""An operator of a test's own, outside the cluster: a process that can be measured, cut off, or killed at any step.

It is the product's own program, with a kubeconfig in place of a service account and a Redis of this machine. Pods are
real ones of the cluster; nothing leases them but the test.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml
from harness.waiting import until
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException

from k8s.cluster import GROUP, PLURAL, VERSION, Cluster, Pools, suppress_missing
from k8s.release import images
from warmpool_operator.crd import definition

Process: TypeAlias = asyncio.subprocess.Process

SECRET: Final = "warmpool-keys"
PROGRAM: Final = (sys.executable, "-m", "warmpool_operator")
END_SECONDS: Final = 20.0
NOT_YET: Final = (404, 429)
"""How an API server answers for a kind that it does not serve yet; the second while it makes the kind's storage."""


async def define(cluster: Cluster) -> None:
    """The SandboxPool, where the cluster does not know it yet."""
    definitions = client.ApiextensionsV1Api(cluster.api)
    try:
        await definitions.create_custom_resource_definition(definition())
    except ApiException as fault:
        if fault.status != 409:
            raise

    async def is_known() -> bool:
        try:
            await cluster.custom.list_cluster_custom_object(GROUP, VERSION, PLURAL)
        except ApiException as fault:
            if fault.status not in NOT_YET:
                raise
            return False
        return True

    await until(is_known, 20, "the API server serves SandboxPools")


@asynccontextmanager
async def namespace(cluster: Cluster, name: str) -> AsyncIterator[str]:
    """With the Secret that a pool's pods mount. Empty at first; it goes at the end, with or without an operator."""
    await end_namespace(cluster, name)
    await cluster.make_namespace(name)
    key = client.V1Secret(metadata=client.V1ObjectMeta(name=SECRET), string_data={"pool.key": "k" * 64})
    await cluster.core.create_namespaced_secret(name, key)
    try:
        yield name
    finally:
        await end_namespace(cluster, name, wait=False)


async def end_namespace(cluster: Cluster, name: str, *, wait: bool = True) -> None:
    """With the pools that are left in it."""
    pools = Pools(cluster, name)
    for pool in await pools.names():
        await abandon(pools, pool)
    await cluster.end_namespace(name, wait=wait)


async def abandon(pools: Pools, name: str) -> None:
    """Deletes it without any operator: its pods follow when they do."""
    with suppress_missing():
        await pools.unhold(name)
        await pools.delete(name)


def spec(**changed: Any) -> dict[str, Any]:
    """Of a pool in such a namespace."""
    return {"replicas": 2, "image": images()["sandbox"], "keySecret": {"name": SECRET}, **changed}


def environment(namespace: str, redis_url: str, **changed: str) -> dict[str, str]:
    """Of an operator for one namespace; its Lease is there too."""
    return {
        **os.environ,
        "WARMPOOL_REDIS__URL": redis_url,
        "WARMPOOL_OPERATOR__NAMESPACE": namespace,
        "WARMPOOL_OPERATOR__LEASE_NAMESPACE": namespace,
        "WARMPOOL_OPERATOR__PORT": "0",
        **changed,
    }


def as_bearer(token: str, file: Path) -> str:
    """The path of a kubeconfig for the present cluster and whomever the token names."""
    found = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    for user in found["users"]:
        user["user"] = {"token": token}
    file.write_text(yaml.safe_dump(found))
    return str(file)


@asynccontextmanager
async def operating(
    variables: Mapping[str, str], log: Path, program: Sequence[str] = PROGRAM
) -> AsyncIterator[Process]:
    """The process, ended by SIGTERM if it still runs. What it says is appended to `log`."""
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(*program, env=dict(variables), stdout=out, stderr=out)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(END_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

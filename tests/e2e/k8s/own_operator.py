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
from typing import Any, Final

from kubernetes.aio import client

from k8s.cluster import Cluster
from k8s.release import images

SECRET: Final = "warmpool-keys"
PROGRAM: Final = (sys.executable, "-m", "warmpool_operator")
END_SECONDS: Final = 20.0


@asynccontextmanager
async def namespace(cluster: Cluster, name: str) -> AsyncIterator[str]:
    """With the Secret that a pool's pods mount. Empty at first; gone at the end."""
    await cluster.end_namespace(name)
    await cluster.make_namespace(name)
    key = client.V1Secret(metadata=client.V1ObjectMeta(name=SECRET), string_data={"pool.key": "k" * 64})
    await cluster.core.create_namespaced_secret(name, key)
    try:
        yield name
    finally:
        await cluster.end_namespace(name)


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


@asynccontextmanager
async def operating(
    variables: Mapping[str, str], log: Path, program: Sequence[str] = PROGRAM
) -> AsyncIterator[asyncio.subprocess.Process]:
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

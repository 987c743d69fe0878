"""A pod of nobody's, with a Python, to try from inside the cluster what a stranger there could."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from harness.waiting import until
from kubernetes.aio import client

from k8s.cluster import Cluster, is_ready

START_SECONDS = 40.0
WAIT = "import signal; signal.sigwait({signal.SIGTERM})"


@asynccontextmanager
async def visitor(
    cluster: Cluster, namespace: str, image: str, name: str = "visitor", program: str = WAIT
) -> AsyncIterator[client.V1Pod]:
    """`program` is what its python3 runs, until it is told to end."""
    made = await cluster.core.create_namespaced_pod(namespace, _pod(name, image, program))

    async def ready() -> client.V1Pod | None:
        pod = await cluster.core.read_namespaced_pod(name, namespace)
        return pod if is_ready(pod) else None

    try:
        pod = await until(ready, START_SECONDS, f"pod {name} is ready")
        assert pod is not None
        yield pod
    finally:
        await cluster.delete_pod(made)


def _pod(name: str, image: str, program: str) -> client.V1Pod:
    return client.V1Pod(
        metadata=client.V1ObjectMeta(name=name),
        spec=client.V1PodSpec(
            automount_service_account_token=False,
            restart_policy="Never",
            security_context=client.V1PodSecurityContext(
                run_as_non_root=True,
                run_as_user=65532,
                seccomp_profile=client.V1SeccompProfile(type="RuntimeDefault"),
            ),
            containers=[
                client.V1Container(
                    name="visitor",
                    image=image,
                    command=["python3", "-c", program],
                    security_context=client.V1SecurityContext(
                        allow_privilege_escalation=False,
                        read_only_root_filesystem=True,
                        capabilities=client.V1Capabilities(drop=["ALL"]),
                    ),
                )
            ],
        ),
    )

"""`make bench-operator`: what thousands of pods cost the operator, written to benchmarks/operator.json.

The product's own operator runs as a process of this machine, with a Redis of this machine, against the cluster of
KUBECONFIG, where kwok plays nodes and pods. First one pool of thousands, then many small ones: each is filled, left
alone, told of changes, robbed of a tenth of its pods a minute, and deleted. A process that only reads the same watch is
the control. Exit code 1 where a goal is missed; the figures are written all the same.
"""

import argparse
import asyncio
import json
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from kubernetes.aio.client.exceptions import ApiException

sys.path.append(str(Path(__file__).parents[1]))  # `k8s` and this folder
sys.path.append(str(Path(__file__).parents[2]))  # `harness`

from bench_operator.counted import Operator, watching
from bench_operator.phases import Bench, Size
from harness.waiting import until
from k8s.cluster import Cluster, Pools, connected
from k8s.fake_nodes import fake_nodes, version
from k8s.helm import kubectl
from k8s.own_operator import environment, namespace, operating

from warmpool.local.embedded import RedisServer, service_folder
from warmpool.registry import connect
from warmpool_loadtests.figures import write

CHECKOUT: Final = Path(__file__).parents[3]
DEFINITION: Final = CHECKOUT / "helm/warmpool/files/crd/sandboxpools.yaml"
NAMESPACE: Final = "warmpool-bench-operator"
LOGS: Final = CHECKOUT / ".cache" / "bench-operator"
ROOM: Final = 1.2
"""Places on the fake nodes for each pod that is wanted: those that end have theirs for a while."""

Goals = dict[str, tuple[Callable[[dict[str, Any]], float], float]]
GOALS: Final[Goals] = {
    "processor time of an event, ms": (lambda f: f["events"]["operator_ms"]["median"], 0.2),
    "API-server writes of a pod's life": (lambda f: f["writes"]["of_a_pod"], 2.0),
    "status writes of a pool a second": (lambda f: f["writes"]["status_of_a_pool_a_second"], 1.0),
    "memory, MiB": (lambda f: f["memory_mib"]["most"], 250.0),
    "pods beyond replicas and surge": (lambda f: f["pods_at_most"]["beyond"], 0.0),
}
GOALS_OF_ONE_POOL: Final[Goals] = {
    "processor with 10 % churn a minute, % of a core": (lambda f: f["churn"]["cpu_percent"]["median"], 5.0),
}
"""Of thousands of pods. Many pools cost a look each, once a second."""


async def measure(kwok: Path, sizes: list[Size], minutes: int) -> list[dict[str, Any]]:
    async with connected() as cluster:
        kubectl("apply", "--server-side", "--force-conflicts", "--filename", str(DEFINITION))
        await until(lambda: are_served(cluster), 30, "the API server serves pools")
        await empty(cluster)  # of what a run left that was killed
        room = round(ROOM * max(size.pods for size in sizes))
        async with fake_nodes(cluster, kwok, room, LOGS / "kwok.log"), namespace(cluster, NAMESPACE):
            try:
                return [await one(cluster, size, minutes) for size in sizes]
            finally:
                await empty(cluster)


async def one(cluster: Cluster, size: Size, minutes: int) -> dict[str, Any]:
    """With an operator and a Redis of its own."""
    port = free_port()
    with redis_url() as url:
        variables = environment(NAMESPACE, url, WARMPOOL_OPERATOR__PORT=str(port))
        async with operating(variables, LOGS / "operator.log") as process, watching(NAMESPACE) as watch:
            redis, operator = connect(url), Operator(process.pid, port)
            try:
                await until(operator.acts, 30, "the operator acts")
                return await Bench(cluster, Pools(cluster, NAMESPACE), size, redis, operator, watch).measure(minutes)
            finally:
                await redis.aclose()


async def are_served(cluster: Cluster) -> bool:
    """It takes the API server a moment to take over a changed definition."""
    try:
        await Pools(cluster, NAMESPACE).names()
    except ApiException as fault:
        if fault.status not in (404, 429):
            raise
        return False
    return True


async def empty(cluster: Cluster) -> None:
    """Without an operator, and without waiting for kubelets."""
    pools = Pools(cluster, NAMESPACE)
    for name in await pools.names():
        await pools.strike_off(name)
    while (await cluster.core.list_namespaced_pod(NAMESPACE, limit=1)).items:
        try:
            await cluster.core.delete_collection_namespaced_pod(NAMESPACE, grace_period_seconds=0)
        except ApiException as fault:
            if fault.status != 504:  # so many take longer than a request may
                raise


@contextmanager
def redis_url() -> Iterator[str]:
    with service_folder() as folder:
        server = RedisServer(folder)
        server.start()
        try:
            yield server.address
        finally:
            server.stop()


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def judge(measured: list[dict[str, Any]]) -> int:
    """1 where a figure misses its goal."""
    missed = 0
    for figures in measured:
        size = Size(figures["pools"], figures["pods_of_each"])
        for what, (value, most) in (GOALS | (GOALS_OF_ONE_POOL if size.pools == 1 else {})).items():
            met = value(figures) <= most
            missed += not met
            sys.stdout.write(f"{size}: {what}: {value(figures):g}, goal {most:g}: {'met' if met else 'MISSED'}\n")
    return 1 if missed else 0


async def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make bench-operator", description="What thousands of pods cost the operator."
    )
    parser.add_argument("--kwok", type=Path, required=True, help="the program that plays nodes")
    parser.add_argument("--pods", type=int, default=5000, help="of the large pool (default: %(default)s)")
    parser.add_argument(
        "--pools", type=int, default=50, help="small ones of 20 pods, 0 for none (default: %(default)s)"
    )
    parser.add_argument("--minutes", type=int, default=3, help="of churn (default: %(default)s)")
    parser.add_argument("--into", type=Path, default=CHECKOUT / "benchmarks", help="folder of the result")
    options = parser.parse_args()
    # Nodes and namespace go in any case.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    LOGS.mkdir(parents=True, exist_ok=True)
    sizes = [Size(1, options.pods), *([Size(options.pools, 20)] if options.pools else [])]
    measured = await measure(options.kwok, sizes, options.minutes)
    versions = {"kubernetes": kubernetes_version(), "kwok": version(options.kwok)}
    sys.stdout.write(f"{write(options.into, 'operator', versions | {'sizes': measured})}\n")
    return judge(measured)


def kubernetes_version() -> str:
    return str(json.loads(kubectl("version", "--output=json"))["serverVersion"]["gitVersion"])


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

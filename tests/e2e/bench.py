"""`make bench-k8s`: what the product costs on a real Kubernetes, written to benchmarks/kubernetes.json.

Latencies are taken inside the cluster, by the gateway's own code in a gateway's container, so that no route from the
machine of the benchmark is in them. "First instruction" is counted from the moment a pod is asked for to what the
program reads from the clock before all else; one node has one clock. Exit code 1 where a goal is missed; the figures
are written all the same.
"""

import asyncio
import json
import sys
import tarfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

sys.path.append(str(Path(__file__).parent))  # `k8s`
sys.path.append(str(Path(__file__).parents[1]))  # `harness`

from harness.waiting import until
from k8s.cluster import Cluster, Pools, connected
from k8s.helm import kubectl
from k8s.release import IMAGES_FILE, PREFIX, Release, images, small
from k8s.service import Addresses, addresses, any_pod

from warmpool.registry import Counts, Registry, connect
from warmpool_loadtests.cpu import memory_bytes
from warmpool_loadtests.figures import percentile, spread, write

FOLDER: Final = Path(__file__).parents[2] / "benchmarks"
POOL: Final = "default"
PODS: Final = 10
ROUNDS: Final = 5
EXECUTIONS: Final = 1000
LIFE_CYCLES: Final = 20

INSIDE: Final = (Path(__file__).parent / "bench_inside.py").read_text()

GOALS: Final[dict[str, tuple[Callable[[dict[str, Any]], float], float]]] = {
    "lone lease to first instruction, p50 ms": (lambda f: f["lone"]["first_instruction_ms_p50"]["median"], 5.0),
    "lone lease to first instruction, p99 ms": (lambda f: f["lone"]["first_instruction_ms_p99"]["median"], 20.0),
    "API-server writes of 1,000 executions": (lambda f: f["api_server"]["writes_of_executions"]["median"], 0.0),
    "PSS of an idle sandbox pod, MiB": (lambda f: f["idle_pod_pss_mib"] or 0.0, 35.0),
}


async def measure(cluster: Cluster, release: Release, reached: Addresses) -> dict[str, Any]:
    pools, redis = Pools(cluster, release.sandboxes), connect(reached.redis)
    registry = Registry(redis, POOL)
    try:
        await until_idle(registry, PODS)
        await inside(cluster, release, reached, "leases", 1, 100)  # warm
        figures: dict[str, Any] = {"rounds": ROUNDS, "pods": PODS, "kubernetes": kubernetes_version()}
        stages: dict[str, Callable[[], Awaitable[Any]]] = {
            "lone": lambda: latencies(cluster, release, reached, at_once=1, each=200),
            "ten_at_once": lambda: latencies(cluster, release, reached, at_once=10, each=40),
            "api_server": lambda: api_writes(cluster, release, reached),
            "pod_life": lambda: pod_life(cluster, pools, registry),
        }
        for name, stage in stages.items():
            sys.stderr.write(f"measuring {name} ...\n")
            figures[name] = await stage()
        return figures | {"idle_pod_pss_mib": await idle_pss_mib(pools), "images_mb": image_sizes()}
    finally:
        await redis.aclose()


def kubernetes_version() -> str:
    return str(json.loads(kubectl("version", "--output=json"))["serverVersion"]["gitVersion"])


async def inside(cluster: Cluster, release: Release, reached: Addresses, *what: object) -> dict[str, Any]:
    """Runs `bench_inside.py` in a gateway's container."""
    pod = await any_pod(cluster, release, "gateway")
    return dict(await cluster.python_in(pod, INSIDE, reached.api_key, *map(str, what)))


async def latencies(
    cluster: Cluster, release: Release, reached: Addresses, *, at_once: int, each: int
) -> dict[str, Any]:
    """Rounds over the pods' streams and through the gateway's API in turn; Redis's ping is the control."""
    rounds = []
    for _ in range(ROUNDS):
        leases = await inside(cluster, release, reached, "leases", at_once, each)
        rounds.append(leases | await inside(cluster, release, reached, "http", at_once, each))
    figures: dict[str, Any] = {"executions_per_round": at_once * each}
    for name in ("first_instruction_ms", "lease_to_result_ms", "http_ms", "control_redis_ping_ms"):
        for share in (50, 99):
            figures[f"{name}_p{share}"] = spread([percentile(r[name], share / 100) for r in rounds])
    return figures


async def api_writes(cluster: Cluster, release: Release, reached: Addresses) -> dict[str, Any]:
    """Writes that the API server counted during 1,000 executions, less those of as long without one."""
    busy, idle, seconds = [], [], []

    async def counted(work: Callable[[], Awaitable[Any]]) -> float:
        before = await writes(cluster)
        await work()
        return await writes(cluster) - before

    for _ in range(3):
        began = time.monotonic()
        busy.append(await counted(lambda: inside(cluster, release, reached, "http", 10, EXECUTIONS // 10)))
        took = time.monotonic() - began
        seconds.append(took)
        idle.append(await counted(lambda took=took: inside(cluster, release, reached, "sleep", took)))
    return {
        "executions": EXECUTIONS,
        "seconds": spread(seconds),
        "writes_while_busy": spread(busy),
        "writes_while_idle": spread(idle),
        "writes_of_executions": spread([max(0.0, b - i) for b, i in zip(busy, idle, strict=True)]),
    }


async def writes(cluster: Cluster) -> float:
    """Of objects, by anyone; the Leases by which components say that they live are written all the time."""
    total = 0.0
    for line in (await cluster.metrics()).splitlines():
        if not line.startswith("apiserver_request_total{") or 'resource="leases"' in line:
            continue
        if any(f'verb="{verb}"' in line for verb in ("POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION")):
            total += float(line.rpartition(" ")[2])
    return total


async def pod_life(cluster: Cluster, pools: Pools, registry: Registry) -> dict[str, Any]:
    """From the moment that a pod is there for all to see to the moment that it can be leased, one pod after another."""
    seconds = []
    for _ in range(LIFE_CYCLES):
        before = await pools.pods(POOL)
        known = {pod.metadata.name for pod in before}
        await cluster.delete_pod(before[0])
        made = await until(lambda known=known: new_pod(pools, known), 20, "a pod in its place")
        began = time.monotonic()
        await until(lambda made=made: is_idle(registry, str(made)), 30, "it is idle")
        seconds.append(time.monotonic() - began)
        await until_idle(registry, PODS)
    return {
        "pods": LIFE_CYCLES,
        "created_to_idle_seconds_p50": round(percentile(seconds, 0.5), 3),
        "created_to_idle_seconds_p99": round(percentile(seconds, 0.99), 3),
        "created_to_idle_seconds": spread(seconds),
    }


async def new_pod(pools: Pools, known: set[str]) -> str | None:
    return next((pod.metadata.name for pod in await pools.pods(POOL) if pod.metadata.name not in known), None)


async def is_idle(registry: Registry, name: str) -> bool:
    return any(pod.id == name and pod.state == "idle" for pod in await registry.pods())


async def until_idle(registry: Registry, number: int) -> None:
    expected = Counts(warming=0, idle=number, leased=0, retiring=0)

    async def are_idle() -> bool:
        return await registry.counts() == expected

    await until(are_idle, 90, f"{number} pods are idle")


async def idle_pss_mib(pools: Pools) -> float | None:
    """Of all processes of a pod that has served; None where the node is another machine."""
    (uid, *_) = [pod.metadata.uid for pod in await pools.pods(POOL)]
    sizes = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            belongs = uid in (process / "cgroup").read_text().replace("_", "-")
            if belongs and b"warmpool" in (process / "cmdline").read_bytes():  # without the pause container
                sizes.append(memory_bytes(int(process.name))[1])
        except OSError:
            continue
    return round(sum(sizes) / 2**20, 1) if sizes else None


def image_sizes() -> dict[str, dict[str, float]]:
    """Of the archives: all layers, and those beyond the base that the components share."""
    layers = {}
    for name in images():
        archive = IMAGES_FILE.with_suffix("") / f"{name}.tar"
        if archive.exists():
            with tarfile.open(archive) as tar:
                (manifest,) = json.load(tar.extractfile("manifest.json"))
                layers[name] = {layer: tar.getmember(layer).size for layer in manifest["Layers"]}
    bases = {next(iter(of)) for name, of in layers.items() if not name.startswith("sandbox")}
    return {
        name: {
            "total": round(sum(of.values()) / 1e6, 1),
            "beyond_base": round(sum(size for layer, size in of.items() if layer not in bases) / 1e6, 1),
        }
        for name, of in layers.items()
    }


async def main() -> int:
    release = Release(f"{PREFIX}-bench", small(pool={"replicas": PODS}))
    async with connected() as cluster:
        await release.install(cluster)
        try:
            ways = addresses(release)
            reached = await asyncio.to_thread(ways.__enter__)
            try:
                figures = await measure(cluster, release, reached)
            finally:
                ways.__exit__(None, None, None)
        finally:
            await release.end(cluster)
    sys.stdout.write(f"{write(FOLDER, 'kubernetes', figures)}\n")
    missed = 0
    for name, (value, bound) in GOALS.items():
        met = value(figures) <= bound
        missed += not met
        sys.stdout.write(f"{name}: {value(figures):g}, goal {bound:g}: {'met' if met else 'MISSED'}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

"""`make bench-k8s`: what the product costs on a real Kubernetes, written to benchmarks/kubernetes.json.

Latencies are taken inside the cluster, in a gateway's container, so that no route from the machine of the benchmark is
in them. "First instruction" is counted from the moment a pod is asked for to what the program reads from the clock
before all else; one node has one clock. Exit code 1 where a goal is missed; the figures are written all the same.
"""

import argparse
import asyncio
import json
import sys
import tarfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

sys.path.append(str(Path(__file__).parents[1]))  # `k8s` and `bench`
sys.path.append(str(Path(__file__).parents[2]))  # `harness`

from bench import executions, peer, pods
from bench.ground import POOL, Ground
from k8s.cluster import Pools, connected
from k8s.helm import kubectl
from k8s.release import IMAGES_FILE, PREFIX, Release, images, small
from k8s.service import addresses

from warmpool.registry import Registry, connect
from warmpool_loadtests.figures import machine, write

FOLDER: Final = Path(__file__).parents[3] / "benchmarks"
LONGEST_WAIT_SECONDS: Final = 240
"""For a pod, of a hundred callers at once of forty pods of single use."""

VALUES: Final[dict[str, Any]] = {
    "pool": {
        # As the peer's pods had, so that forty of them find room beside the release on two cores.
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        "recycle": {"maxExecutions": 1_000_000},
        "strategy": {"maxUnavailable": "100%"},  # a stage that changes the mode waits for new pods
    },
    "gateway": {"extraEnv": [{"name": "WARMPOOL_QUEUE__MAX_WAIT_SECONDS", "value": str(LONGEST_WAIT_SECONDS)}]},
}

STAGES: Final[dict[str, Callable[[Ground], Awaitable[Any]]]] = {
    "lone": executions.lone,
    "ten_at_once": executions.ten_at_once,
    "api_server": executions.api_server,
    "idle_pod_pss_mib": pods.idle_pss_mib,
    "pod_life": pods.pod_life,
    "fill": pods.fill,
    "recycled": peer.recycled,
    "per_tenant": peer.per_tenant,
    "single_use": peer.single_use,
    "refill": pods.refill,
}


@dataclass(frozen=True, slots=True)
class Goal:
    """The most that a figure of a stage may be."""

    what: str
    stage: str
    path: tuple[str, ...]
    most: float

    def value(self, figures: Mapping[str, Any]) -> float:
        found: Any = figures[self.stage]
        for key in self.path:
            found = found[key]
        return float(found or 0.0)


def _goals_of_a_column(stage: str, largest: str, writes: float) -> tuple[Goal, ...]:
    return (
        Goal(f"{stage}: lone, p50 ms", stage, ("lone", "ms_p50", "median"), 8.0),
        Goal(f"{stage}: 40 at once, p99 ms", stage, ("forty_at_once", "ms_p99", "median"), 250.0),
        Goal(f"{stage}: errors of {largest}", stage, (largest, "errors"), 0.0),
        Goal(f"{stage}: API-server writes each", stage, ("forty_at_once", "writes_per_execution", "in_all"), writes),
    )


GOALS: Final = (
    Goal("lone lease to first instruction, p50 ms", "lone", ("first_instruction_ms_p50", "median"), 5.0),
    Goal("lone lease to first instruction, p99 ms", "lone", ("first_instruction_ms_p99", "median"), 20.0),
    Goal("API-server writes of 1,000 executions", "api_server", ("writes_of_executions", "median"), 0.0),
    Goal("PSS of an idle sandbox pod, MiB", "idle_pod_pss_mib", (), 35.0),
    Goal("40 pods to a bare Deployment's 40, times its seconds", "fill", ("ratio", "median"), 1.3),
    *_goals_of_a_column("recycled", "thousand_at_once", 0.0),
    Goal("recycled: 1,000 at once, p99 ms", "recycled", ("thousand_at_once", "ms_p99", "max"), 5000.0),
    *_goals_of_a_column("per_tenant", "thousand_at_once", 0.0),
    Goal("per_tenant: 1,000 at once, p99 ms", "per_tenant", ("thousand_at_once", "ms_p99", "max"), 5000.0),
    *_goals_of_a_column("single_use", "hundred_at_once", 12.0),
    Goal("from an answer to the pod in place of its own, p99 ms", "refill", ("answer_to_pod_ms_p99",), 100.0),
)


async def measure(release: Release, stages: Sequence[str], figures: dict[str, Any]) -> None:
    """Fills `figures` as it goes."""
    async with connected() as cluster:
        await release.install(cluster)
        try:
            ways = addresses(release)
            reached = await asyncio.to_thread(ways.__enter__)
            redis = connect(reached.redis)
            ground = Ground(
                cluster=cluster, release=release, reached=reached, pools=Pools(cluster, release.sandboxes),
                registry=Registry(redis, POOL),
            )  # fmt: skip
            try:
                for name in stages:
                    began = time.monotonic()
                    sys.stderr.write(f"measuring {name} ... ")
                    sys.stderr.flush()
                    figures[name] = await STAGES[name](ground)
                    sys.stderr.write(f"{time.monotonic() - began:.0f} s\n")
            finally:
                await redis.aclose()
                ways.__exit__(None, None, None)
        finally:
            await release.end(cluster)


def kubernetes_version() -> str:
    return str(json.loads(kubectl("version", "--output=json"))["serverVersion"]["gitVersion"])


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


def judge(figures: Mapping[str, Any]) -> int:
    """1 where a figure that was taken misses its goal."""
    missed = 0
    for goal in GOALS:
        if goal.stage in figures:
            value = goal.value(figures)
            missed += value > goal.most
            verdict = "met" if value <= goal.most else "MISSED"
            sys.stdout.write(f"{goal.what}: {value:g}, goal {goal.most:g}: {verdict}\n")
    return 1 if missed else 0


def earlier(file: Path) -> dict[str, Any]:
    """Figures that were taken on this machine."""
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found if found.pop("machine", None) == machine() else {}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-k8s", description="What the product costs on a real Kubernetes.")
    parser.add_argument(
        "--only", choices=tuple(STAGES), nargs="+", default=[],
        help="measure these anew; the others stay as they are in the file, if it is of this machine",
    )  # fmt: skip
    parser.add_argument("--into", type=Path, default=FOLDER, help="folder of the results (default: benchmarks/)")
    options = parser.parse_args()
    chosen = [name for name in STAGES if not options.only or name in options.only]
    kept = earlier(options.into / "kubernetes.json") if options.only else {}
    figures: dict[str, Any] = {**kept, "kubernetes": kubernetes_version(), "peer": peer.PEER}
    try:
        asyncio.run(measure(Release(f"{PREFIX}-bench", small(**VALUES)), chosen, figures))
    finally:
        written = write(options.into, "kubernetes", figures | {"images_mb": image_sizes()})
        sys.stdout.write(f"{written}\n")
    return judge(figures)


if __name__ == "__main__":
    sys.exit(main())

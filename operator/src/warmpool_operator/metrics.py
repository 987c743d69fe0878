"""What Prometheus sees of the operator. Labels are pools, states, reasons and kinds of requests, never a pod."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from warmpool.registry import Counts

_PASS_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

created = Counter("warmpool_operator_pods_created_total", "Pods made.", ["pool"])
deleted = Counter("warmpool_operator_pods_deleted_total", "Pods whose deletion was asked for.", ["pool", "reason"])
retired = Counter("warmpool_operator_pods_retired_total", "Pods that the operator retired.", ["pool", "reason"])
pass_time = Histogram(
    "warmpool_operator_pass_seconds", "One look at a pool with all that follows.", ["pool"], buckets=_PASS_SECONDS
)
drift = Counter(
    "warmpool_operator_drift_total",
    "Pods about which cluster and registry did not agree: `unknown` ones serve, `vanished` ones are no more.",
    ["pool", "kind"],
)
wanted = Gauge("warmpool_pool_desired", "Pods that a pool should have.", ["pool"])
leads = Gauge("warmpool_operator_leads", "1 while this operator acts.")
_requests = Counter(
    "warmpool_operator_api_requests_total",
    "Requests to the API server by how they ended, 0 without an answer. Those that kopf makes for a pool are left out.",
    ["verb", "resource", "code"],
)
_pods = Gauge("warmpool_pool_pods", "Pods of a pool by their state in the registry.", ["pool", "state"])


def requested(verb: str, path: str, code: int) -> None:
    """`path` is of a namespace's objects, as all are that the operator asks for."""
    _, _, below = path.partition("/namespaces/")
    _, resource, *_ = below.split("/")
    _requests.labels(verb=verb, resource=resource, code=code).inc()


def pods(pool: str, counts: Counts | None) -> None:
    """Nothing changes while the registry is away."""
    if counts is not None:
        for state in ("warming", "idle", "leased", "retiring"):
            _pods.labels(pool=pool, state=state).set(getattr(counts, state))


def forget(pool: str) -> None:
    """A pool that is no more leaves no series behind."""
    for metric in (created, deleted, retired, pass_time, drift, wanted, _pods):
        metric.remove_by_labels({"pool": pool})

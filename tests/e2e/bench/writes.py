"""What the API server was asked to write, by its own count."""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

from k8s.cluster import Cluster

VERBS: Final = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"})
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')


async def written(cluster: Cluster) -> Counter[str]:
    """Requests so far by anyone, as `PATCH pods/status`. Without Leases, by which components say that they live."""
    return read(await cluster.metrics())


def read(metrics: str, counter: str = "apiserver_request_total") -> Counter[str]:
    """Of a counter that has what it counts in the API server's words."""
    found: Counter[str] = Counter()
    for line in metrics.splitlines():
        if not line.startswith(counter + "{"):
            continue
        labels, _, value = line.rpartition(" ")
        named = dict(_LABEL.findall(labels))
        if named["verb"] in VERBS and named["resource"] != "leases":
            whole = "/".join(part for part in (named["resource"], named.get("subresource")) if part)
            found[f"{named['verb']} {whole}"] += float(value)
    return found


async def during(cluster: Cluster, work: Callable[[], Awaitable[Any]]) -> Counter[str]:
    """Those that came while it was done; kinds of which none came are left out."""
    before = await written(cluster)
    await work()
    after = await written(cluster)
    return Counter({kind: count - before[kind] for kind, count in after.items() if count > before[kind]})


async def when_idle(cluster: Cluster, seconds: float = 30.0) -> Counter[str]:
    """How many come in a second in which nothing runs."""
    came = await during(cluster, lambda: asyncio.sleep(seconds))
    return Counter({kind: count / seconds for kind, count in came.items()})


def per_execution(came: Counter[str], seconds: float, idle: Counter[str], executions: int) -> dict[str, Any]:
    """In all and by kind, less what comes in as long a time in which nothing runs."""
    more = {kind: (count - seconds * idle[kind]) / executions for kind, count in came.items()}
    by_kind = {kind: round(count, 3) for kind, count in sorted(more.items(), key=lambda item: -item[1])}
    in_all = (came.total() - seconds * idle.total()) / executions
    return {"in_all": round(max(0.0, in_all), 3), "by_kind": {kind: n for kind, n in by_kind.items() if n > 0}}

"""`warmpool pool`: how the pools of a cluster stand, why one has no idle pod, and how to empty one."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import click

from warmpool.errors import WarmpoolError
from warmpool_operator.api import MERGE_PATCH, Api, ApiError
from warmpool_operator.explain import explain as findings
from warmpool_operator.informer import Pod
from warmpool_operator.pool import GROUP, PLURAL, VERSION, SandboxPool

COLUMNS: Final = ("desired", "readyReplicas", "idle", "leased", "warming", "retiring")
POLL_SECONDS: Final = 0.5

T = TypeVar("T")

namespace_option = click.option(
    "--namespace",
    "-n",
    envvar="WARMPOOL_OPERATOR__NAMESPACE",
    default="warmpool-sandboxes",
    show_default=True,
    help="Namespace of the pools.",
)


@click.group()
def pool() -> None:
    """The pools of a cluster, by the kubeconfig (KUBECONFIG) or the pod's own service account."""


@pool.command()
@click.argument("name", required=False)
@namespace_option
def status(name: str | None, namespace: str) -> None:
    """Counts and conditions of NAME, or of every pool."""
    pools = _with_api(lambda api: _pools(api, namespace, name))
    head = ("pool", *(column.removesuffix("Replicas") for column in COLUMNS))
    rows = [(one.name, *(str(one.status.get(column, 0)) for column in COLUMNS)) for one in pools]
    widths = [max(len(row[index]) for row in (head, *rows)) for index in range(len(head))]
    for row in (head, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for one in pools:
        click.echo(f"\n{one.name}")
        for condition in one.status.get("conditions", ()):
            click.echo(f"  {condition['type']:<12} {condition['status']:<8} {condition['reason']}")
            click.echo(f"               {condition['message']}")


@pool.command()
@click.argument("name")
@namespace_option
def explain(name: str, namespace: str) -> None:
    """Why NAME has no idle pod, cause by cause, and what to do."""

    async def look(api: Api) -> tuple[SandboxPool, list[Pod]]:
        (one,) = await _pools(api, namespace, name)
        return one, await _pods(api, one)

    one, pods = _with_api(look)
    for depth, finding in enumerate(findings(one, pods)):
        click.echo(f"{'   ' * depth}{'└─ ' if depth else ''}{finding.fact}")
        if finding.remedy:
            click.echo(f"{'   ' * (depth + 1)}→ {finding.remedy}")


@pool.command()
@click.argument("name")
@namespace_option
@click.option("--timeout", default=120.0, show_default=True, help="Seconds to wait for the last pod.")
def drain(name: str, namespace: str, timeout: float) -> None:
    """Makes NAME empty: idle pods go at once, leased ones end with their programs. The pool itself stays."""

    async def empty(api: Api) -> int:
        (one,) = await _pools(api, namespace, name)
        spec = {"replicas": 0, "autoscale": None, "paused": False}
        await api.call("PATCH", _path(namespace, name), {"spec": spec}, patch=MERGE_PATCH)
        ends, said = time.monotonic() + timeout, -1
        while left := len(await _pods(api, one)):
            if left != said:
                click.echo(f"{left} pods left", err=True)
                said = left
            if time.monotonic() > ends:
                return left
            await asyncio.sleep(POLL_SECONDS)
        return 0

    left = _with_api(empty)
    if left:
        raise click.ClickException(
            f"{left} pods of {name} are still there after {timeout:g} s; they end with their programs"
        )
    click.echo(f"{name} is empty. To fill it again: kubectl scale sbp/{name} --namespace {namespace} --replicas=N")


def _with_api(work: Callable[[Api], Awaitable[T]]) -> T:
    async def call() -> T:
        api = await Api.connect()
        try:
            return await work(api)
        finally:
            await api.close()

    try:
        return asyncio.run(call())
    except ApiError as fault:
        raise WarmpoolError(f"the API server: {fault.message or fault.reason}") from fault


def _path(namespace: str, name: str = "") -> str:
    return f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}/{name}".rstrip("/")


async def _pools(api: Api, namespace: str, name: str | None) -> list[SandboxPool]:
    bodies: list[dict[str, Any]] = (await api.call("GET", _path(namespace)))["items"]
    found = [SandboxPool.from_body(body) for body in bodies]
    if name is None:
        return found
    chosen = [one for one in found if one.name == name]
    if not chosen:
        names = ", ".join(sorted(one.name for one in found)) or "none"
        raise click.ClickException(f"no SandboxPool {name!r} in namespace {namespace}; there: {names}")
    return chosen


async def _pods(api: Api, one: SandboxPool) -> list[Pod]:
    query = {"labelSelector": one.selector}
    page = await api.call("GET", f"/api/v1/namespaces/{one.namespace}/pods", query=query)
    return [Pod.from_object(item) for item in page["items"]]

"""Why a pool has no idle pod: the chain of causes, from the outermost to the one that can be mended. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from warmpool_operator.informer import Pod
from warmpool_operator.pool import SandboxPool
from warmpool_operator.reasons import REASONS
from warmpool_operator.status import pool_conditions, trouble


@dataclass(frozen=True, slots=True)
class Finding:
    """One link: what is so, and what to do about it where something can be done."""

    fact: str
    remedy: str = ""


def explain(pool: SandboxPool, pods: Sequence[Pod]) -> list[Finding]:
    """From the pool's own status and its pods. The last finding is the nearest to a remedy."""
    status = pool.status
    if status.get("observedGeneration") != pool.generation:
        return [
            Finding(
                "No operator has looked at the pool since its spec changed.",
                "See that an operator runs, and what it says: kubectl logs --selector "
                "app.kubernetes.io/component=operator --tail=20 in the release's namespace",
            )
        ]
    idle, leased, desired = (int(status.get(name, 0)) for name in ("idle", "leased", "desired"))
    if idle:
        return [Finding(f"{idle} of {desired} pods are idle: a caller gets one at once.")]
    found = [Finding(f"No pod is idle; {leased} of {desired} run a program.")]
    conditions = {one["type"]: one for one in pool_conditions(pool)}
    if leased >= desired > 0:
        return found + _full(pool, desired)
    if desired == 0:
        return [*found, Finding("The pool should have no pod.", "Raise spec.replicas, or spec.autoscale.min.")]
    if why := trouble([pod for pod in pods if pod.template == pool.template_hash], None):
        return [*found, Finding(f"{why.reason}: {why.message}"), _of_reason(why.reason, pool)]
    for kind in ("Degraded", "Progressing", "Ready"):
        condition: Mapping[str, str] = conditions.get(kind, {})
        reason = condition.get("reason", "")
        if reason in REASONS and (kind == "Ready" or REASONS[reason].remedy):
            return [*found, Finding(f"{reason}: {condition['message']}"), _of_reason(reason, pool)]
    return found


def _full(pool: SandboxPool, desired: int) -> list[Finding]:
    autoscale = pool.autoscale
    if autoscale is None:
        return [Finding("Every pod is in use.", f"Make the pool larger: kubectl scale sbp/{pool.name} --replicas=N")]
    if desired >= autoscale.most:
        return [Finding(f"Every pod is in use, and spec.autoscale.max is {autoscale.most}.", "Raise it.")]
    return [Finding("Every pod is in use; more are on their way.")]


def _of_reason(reason: str, pool: SandboxPool) -> Finding:
    explained = REASONS[reason]
    return Finding(explained.meaning, explained.remedy.replace("NAMESPACE", pool.namespace).replace("NAME", pool.name))

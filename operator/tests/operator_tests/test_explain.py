"""Why a pool has no idle pod, cause by cause."""

from dataclasses import replace
from typing import Any

import pytest

from warmpool_operator.explain import explain
from warmpool_operator.informer import Pod
from warmpool_operator.pool import SandboxPool
from warmpool_operator.reasons import REASONS
from warmpool_operator.status import CAUSES, QUIET, TEMPLATE_AT_FAULT

SPEC = {"replicas": 2, "image": "i", "keySecret": {"name": "k"}}


def pool(spec: dict[str, Any] | None = None, **status: Any) -> SandboxPool:
    said = {"observedGeneration": 1, "desired": 2, "idle": 0, "leased": 0, **status}
    return SandboxPool(
        name="p", namespace="n", uid="u", generation=1, deleting=False, spec=SPEC | (spec or {}), status=said
    )


def conditions(**of: str) -> list[dict[str, str]]:
    return [
        {"type": kind, "status": "False", "reason": reason, "message": f"{reason} it said"}
        for kind, reason in of.items()
    ]


def pod(**changes: Any) -> Pod:
    made = Pod(
        name="p-1", uid="1", pool="p", template=pool().template_hash, phase="Pending", ready=False, ip="",
        deleting=False,
    )  # fmt: skip
    return replace(made, **changes)


def remedies(pool: SandboxPool, *pods: Pod) -> list[str]:
    return [finding.remedy for finding in explain(pool, pods) if finding.remedy]


def test_where_a_pod_is_idle_there_is_nothing_to_explain() -> None:
    (only,) = explain(pool(idle=1), [])
    assert "1 of 2 pods are idle" in only.fact


def test_a_spec_that_no_operator_has_seen_is_the_first_cause() -> None:
    (said,) = remedies(pool(observedGeneration=0))
    assert "component=operator" in said


@pytest.mark.parametrize(
    ("one", "next_step"),
    [
        (pool(leased=2), "kubectl scale sbp/p --replicas=N"),
        (pool({"autoscale": {"max": 2}}, leased=2), "Raise it."),
        (pool(desired=0), "Raise spec.replicas"),
        (pool(conditions=conditions(Degraded="QuotaExceeded")), "kubectl describe quota --namespace n"),
        (pool(conditions=conditions(Degraded="AsExpected", Progressing="Paused")), "kubectl patch sbp p"),
    ],
    ids=["all in use", "at the maximum", "no pod wanted", "quota", "paused"],
)
def test_each_cause_has_its_next_step(one: SandboxPool, next_step: str) -> None:
    assert any(next_step in said for said in remedies(one)), explain(one, [])


def test_a_pod_in_trouble_is_named_with_what_the_kubelet_says() -> None:
    stuck = pod(trouble="ImagePullBackOff", message="no such image")
    facts = [finding.fact for finding in explain(pool(), [stuck])]
    assert any("p-1: ImagePullBackOff no such image" in fact for fact in facts)
    assert remedies(pool(), stuck) == [REASONS["ImagePullFailed"].remedy]


def test_pods_that_are_on_their_way_need_no_remedy() -> None:
    said = explain(pool(conditions=conditions(Ready="PodsStarting")), [pod()])
    assert remedies(pool(conditions=conditions(Ready="PodsStarting")), pod()) == []
    assert "PodsStarting it said" in said[-2].fact


def test_every_reason_that_the_operator_gives_is_explained() -> None:
    given = {*CAUSES.values(), *TEMPLATE_AT_FAULT, *QUIET, "PodsCrashing", "QuotaExceeded", "RegistryUnavailable"}
    assert given <= set(REASONS)

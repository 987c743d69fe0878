"""What each reason of a pool's conditions means, and what to do: for `warmpool pool explain` and the docs."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Explained:
    meaning: str
    remedy: str = ""
    """Empty where there is nothing to do."""


REASONS: Final[Mapping[str, Explained]] = MappingProxyType({
    # -- as it should be
    "PoolReady": Explained("As many pods serve as the pool should have."),
    "PoolComplete": Explained("Every pod is of the present template."),
    "AsExpected": Explained("No pod of the present template is in trouble."),
    "ProbePassed": Explained("Each ready pod has tried every wall from inside and found it standing."),
    "NoPodYet": Explained("No pod has passed its probe yet."),
    "PodsStarting": Explained("Pods are on their way; one takes some seconds."),
    "RollingOut": Explained("Pods of an older template are replaced: idle ones first, leased ones at their release."),
    "Draining": Explained("The pool is being deleted; leased pods end with their executions."),
    "Paused": Explained(
        "`spec.paused` is set: nothing is made, replaced or scaled.",
        "kubectl patch sbp NAME --namespace NAMESPACE --type merge -p '{\"spec\":{\"paused\":false}}'",
    ),
    # -- trouble
    "RegistryUnavailable": Explained(
        "The operator does not reach Redis. Pods stay as they are; gateways that do not reach it either answer 503.",
        "See that Redis runs and that NetworkPolicies let the operator through; its address is in the Secret that the "
        "chart's `redis` names.",
    ),
    "ImagePullFailed": Explained(
        "A node cannot pull `spec.image`. A rollout stops here; pods of the old template serve on.",
        "Correct `spec.image` (the chart's `images.sandbox`), or give `spec.imagePullSecrets`.",
    ),
    "PodsUnschedulable": Explained(
        "No node has room for another pod, or none that the pool's selectors and tolerations allow. No more are made.",
        "Add a node, lower `spec.resources.requests`, or make the pool smaller.",
    ),
    "PodsMisconfigured": Explained(
        "The kubelet cannot start the container: a Secret or ConfigMap that the pool names is missing.",
        "See that `spec.keySecret` and `spec.tools.configMap` exist in the pool's namespace.",
    ),
    "PodsCrashing": Explained(
        "Pods end before they serve. The next is made after a growing pause.",
        "Read what the last one said: kubectl logs --namespace NAMESPACE --selector warmpool.dev/pool=NAME --tail=20",
    ),
    "SandboxBelowFloor": Explained(
        "A pod found a wall missing and refused to serve: the message says which.",
        "Run the pool on nodes with Linux 6.12 or newer and a container runtime whose default seccomp profile lets "
        "Landlock through.",
    ),
    "QuotaExceeded": Explained(
        "The namespace's ResourceQuota forbids another pod.",
        "Raise the quota, or make the pool smaller: kubectl describe quota --namespace NAMESPACE",
    ),
    "PodsForbidden": Explained(
        "The API server refuses the pods: by the operator's permissions, Pod Security, or an admission policy.",
        "The message names who refused; the chart's Role and the `restricted` standard suffice for what it installs.",
    ),
    "PodsRefused": Explained(
        "The API server does not take the pods as the pool describes them.", "The message names the field; correct it."
    ),
    "InvalidLimits": Explained("`spec.limits` holds a value that no sandbox takes.", "The message names the limit."),
    "RolloutHalted": Explained(
        "The first pods of the new template failed, so that no more of the old ones are replaced.",
        "Correct the template, or go back: helm rollback, or kubectl apply of the former spec.",
    ),
})  # fmt: skip
"""By the word that condition, event and metric share."""

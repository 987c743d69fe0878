"""From a component's last words to what is likely wrong: the traps that this set-up is known to fall into."""

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Cause:
    pattern: str
    meaning: str


KNOWN: Final = (
    Cause(r"address already in use", "something else listens there: is another cluster of this name half alive?"),
    Cause(
        r"can't get final child's PID", "containerd may not lower oom_score_adj: restrict_oom_score_adj must be true"
    ),
    Cause(r"no space left on device", "the disk is full; images and logs lie below /var/lib"),
    Cause(r"wal/0\.tmp.*no such file", "an earlier etcd still shut down in this folder: run cluster-down, then up"),
    Cause(r"Loop detected", "CoreDNS asks itself: the kubelet's resolv.conf names a loopback address"),
    Cause(
        r"operation not permitted.*conntrack|conntrack.*permission denied", "kube-proxy may not set conntrack's limits"
    ),
    Cause(
        r"cgroup.*(no such file|not exist)|invalid cgroup root", "a cgroup hierarchy is missing: see /proc/self/cgroup"
    ),
    Cause(r"running with swap on", "the kubelet met swap: failSwapOn must be false"),
    Cause(r"overlay.*(not supported|invalid argument|no such device)", "this file system or kernel has no overlayfs"),
    Cause(
        r"certificate (has expired|is not yet valid)", "the clock changed, or certificates are of an earlier cluster"
    ),
    Cause(
        r"nft.*(No such file|not supported)|nftables.*not (found|supported)", "the kernel lacks nftables for kube-proxy"
    ),
    Cause(r"ipset.*(Kernel error|not supported|doesn't exist)", "the kernel lacks ip_set, which kube-router needs"),
)


def likely(log: str) -> str | None:
    """The meaning of the first known pattern in a log, or None."""
    return next((cause.meaning for cause in KNOWN if re.search(cause.pattern, log, re.IGNORECASE)), None)


def tail(log: str, lines: int = 12) -> str:
    return "\n".join(f"  | {line}" for line in log.splitlines()[-lines:])

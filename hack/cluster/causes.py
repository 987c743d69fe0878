"""From a component's last words to what is likely wrong: the traps that this set-up is known to fall into."""

import re
from dataclasses import dataclass
from typing import Final

LINE_LENGTH: Final = 400


@dataclass(frozen=True, slots=True)
class Cause:
    pattern: str
    meaning: str


KNOWN: Final = (
    Cause("unknown flag|unknown field|flag provided but not defined", "config.py has what this version does not know"),
    Cause("address already in use", "two components were given one address, or something of ours was started by hand"),
    Cause("no space left on device", "the disk is full; a cluster keeps all it has below /var/cache"),
    Cause(r"wal/0\.tmp.*no such file", "an earlier etcd removed this one's files: run cluster-down, then cluster-up"),
    Cause("can't get final child's PID", "runc may not lower oom_score_adj: containerd needs restrict_oom_score_adj"),
    Cause("nf_conntrack.*permission denied", "kube-proxy may not set conntrack's limits here: each flag must be 0"),
    Cause("cgroup v1 support is in maintenance mode", "cgroups are of version 1 here: failCgroupV1 must be false"),
    Cause("cgroup.*(missing paths|missing controllers)", "the pods' cgroup is not there, or lacks controllers"),
    Cause("running with swap on", "the kubelet met swap: failSwapOn must be false"),
    Cause("overlayfs.*(not supported|invalid argument)|failed to mount.*overlay", "/var/cache is on a file system "
          "that cannot carry overlayfs, such as another overlayfs"),
    Cause("plugin/loop: Loop", "CoreDNS asks itself: the kubelet's resolvConf names a loopback address"),
)  # fmt: skip


def likely(log: str) -> str | None:
    """The meaning of the first known pattern in a log, or None."""
    return next((cause.meaning for cause in KNOWN if re.search(cause.pattern, log, re.IGNORECASE)), None)


def tail(log: str, lines: int = 12) -> str:
    return "\n".join(f"  | {line[:LINE_LENGTH]}" for line in log.strip().splitlines()[-lines:])

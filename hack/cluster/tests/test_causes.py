import pytest

from hack.cluster import causes

SAID = [
    ("Error: unknown flag: --nonsense", "does not know"),
    ("flag provided but not defined: -nonsense", "does not know"),
    ('"error":"listen tcp 127.0.0.1:2379: bind: address already in use"', "one address"),
    ("write /var/cache/x/etcd/member/wal: no space left on device", "disk is full"),
    ("rename /x/wal/1.tmp /x/wal/0.tmp: no such file or directory", "earlier etcd"),
    ("runc create failed: unable to start container process: can't get final child's PID from pipe: EOF", "oom_score"),
    ('err="open /proc/sys/net/netfilter/nf_conntrack_max: permission denied"', "conntrack"),
    ("kubelet is configured to not run on cgroup v1. cgroup v1 support is in maintenance mode", "version 1"),
    ('invalid configuration: cgroup ["nowhere"] has some missing paths: /sys/fs/cgroup/pids/nowhere', "cgroup"),
    ("running with swap on is not supported, please disable swap", "swap"),
    ('[FATAL] plugin/loop: Loop (127.0.0.1:44147 -> :53) detected for zone "."', "loopback"),
]


@pytest.mark.parametrize(("log", "meaning"), SAID)
def test_what_a_component_said_is_told_as_a_cause(log: str, meaning: str) -> None:
    assert meaning in (causes.likely(f"something before\n{log}\nsomething after") or "")


def test_words_that_nobody_knows_have_no_cause() -> None:
    assert causes.likely("all is well") is None


def test_the_tail_is_the_last_lines_each_cut_to_a_screen() -> None:
    shown = causes.tail("first\n" + "x" * 10_000 + "\nlast\n", lines=2).splitlines()
    assert shown == ["  | " + "x" * causes.LINE_LENGTH, "  | last"]

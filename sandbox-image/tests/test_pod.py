"""What is different in a pod: its control group, its file systems, process 1."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.serving import free_port, is_gone, wait_until
from support.unprivileged import Home, Place, can_mount

import warmpool_sandbox.__main__ as command
from warmpool_sandbox import cgroup, probe
from warmpool_sandbox.looks import Looks, Pod
from warmpool_sandbox.probe import Check, Report
from warmpool_sandbox.scratch import Scratch

MIB = 1 << 20
PYTHON = os.path.realpath(sys.executable)


@pytest.fixture(params=[1, 2], ids=["version 1", "version 2"])
def group(request, tmp_path: Path) -> Callable[..., Path]:
    """A container's view of its own group, with these figures."""

    def make(
        limit: str = str(512 * MIB), used: int = 30 * MIB, cached: int = 0, quota: str = "100000", worked: float = 0.0
    ) -> Path:
        stat = f"anon 1\n{'total_' if request.param == 1 else ''}inactive_file {cached}\n"
        stat += f"{'total_' if request.param == 1 else ''}active_file {cached}\nunevictable 0\n"
        if request.param == 1:
            files = {
                "memory/memory.limit_in_bytes": limit if limit != "max" else str(2**63 - 4096),
                "memory/memory.usage_in_bytes": str(used),
                "memory/memory.stat": stat,
                "cpu/cpu.cfs_quota_us": quota if quota != "max" else "-1",
                "cpu/cpu.cfs_period_us": "100000",
                "cpuacct/cpuacct.usage": str(round(worked * 1e9)),
            }
        else:
            files = {
                "cgroup.controllers": "cpu memory",
                "memory.max": limit,
                "memory.current": str(used),
                "memory.stat": stat,
                "cpu.max": f"{quota} 100000",
                "cpu.stat": f"usage_usec {round(worked * 1e6)}\nuser_usec 1\nsystem_usec 2",
            }
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text + "\n")
        return tmp_path

    return make


def test_limits_are_those_of_the_group(group):
    assert cgroup.Limits.read(group(quota="150000")) == cgroup.Limits(512 * MIB, 1.5)


def test_what_is_without_limit_has_none(group):
    assert cgroup.Limits.read(group(limit="max", quota="max")) == cgroup.Limits(None, None)


def test_what_cannot_be_read_has_no_limit(tmp_path):
    assert cgroup.Limits.read(tmp_path) == cgroup.Limits(None, None)


def test_pages_of_files_are_charged_and_not_held(group):
    use = cgroup.MemoryUse(group(used=100 * MIB, cached=20 * MIB))
    assert (use.charged_bytes(), use.held_bytes()) == (100 * MIB, 60 * MIB)


def test_processor_time_is_that_of_the_group(group):
    use = cgroup.CpuUse(group(worked=12.5))
    assert use.seconds() == 12.5
    group(worked=13.25)
    assert use.seconds() == 13.25


def test_where_the_group_has_no_processor_time_it_cannot_be_read(tmp_path):
    with pytest.raises(OSError):
        cgroup.CpuUse(tmp_path)


@pytest.mark.parametrize(
    ("seconds", "worked", "due"),
    [(0.01, 0.02, False), (0.03, 0.001, False), (0.03, 0.02, True), (0.4, 0.001, False), (0.6, 0.0, True)],
    ids=["so soon", "it waits", "it works", "it waits for long", "for too long"],
)
def test_a_tree_is_looked_at_once_its_pod_has_worked(group, seconds, worked, due):
    looks = Looks(cgroup.CpuUse(group(worked=7.0)), now=100.0)
    group(worked=7.0 + worked)
    assert looks.is_due(now=100.0 + seconds) == due


def test_the_work_of_many_short_whiles_adds_up_to_a_look(group):
    looks = Looks(cgroup.CpuUse(group(worked=7.0)), now=100.0)
    dues = []
    for number in range(1, 11):
        group(worked=7.0 + 0.004 * number)
        dues.append(looks.is_due(now=100.0 + 0.03 * number))
    assert dues == [False, False, True] * 3 + [False]


def test_where_processor_time_is_not_known_a_tree_is_looked_at_each_time():
    looks = Looks(None, now=100.0)
    assert [looks.is_due(now=100.0 + 0.03 * number) for number in range(1, 4)] == [True] * 3


def test_a_large_pod_is_looked_at_as_often_as_its_programs_own_limits_need(group):
    assert Pod(cgroup.MemoryUse(group(used=MIB)), 65_536 * MIB).seconds_to_next_look() == 0.06


@pytest.mark.parametrize(
    ("used", "cached", "overfull"),
    [(400, 0, 0), (450, 0, 450), (450, 20, 0), (500, 10, 480)],
    ids=["below", "above", "above by pages of files only", "above without them too"],
)
def test_a_pod_is_overfull_by_what_it_holds(group, used, cached, overfull):
    pod = Pod(cgroup.MemoryUse(group(used=used * MIB, cached=cached * MIB)), 512 * MIB)
    assert pod.overfull_bytes() == overfull * MIB


@pytest.mark.parametrize("limit", [128, 512])
def test_a_pod_that_fills_up_is_looked_at_more_often_and_before_it_can_be_full(group, limit):
    seconds = [
        Pod(cgroup.MemoryUse(group(used=limit * percent // 100 * MIB)), limit * MIB).seconds_to_next_look()
        for percent in (10, 30, 50, 70)
    ]
    assert seconds[0] > seconds[1] > seconds[2] == seconds[3] == 0.005
    for percent, wait in zip((10, 30), seconds, strict=False):
        assert limit * percent / 100 + wait * 7 * 1024 < limit


# -- a whole pod, made of mounts and process numbers of its own

POD = """
mount --make-rprivate /
mount --bind "$GROUP" /sys/fs/cgroup
mount -t tmpfs -o "$SCRATCH_OPTIONS" scratch "$SCRATCH"
chown 0:"$GROUP_ID" "$SCRATCH"; chmod 2777 "$SCRATCH"
[ -z "$ROOT_WRITABLE" ] && mount -o remount,bind,ro /
exec setpriv --reuid "$GROUP_ID" --regid "$GROUP_ID" --clear-groups "$@"
"""


class Container:
    """Started in namespaces of its own, as process 1."""

    def __init__(self, place: Place, home: Home, group: Path, arguments: list[str], **environment: str) -> None:
        shutil.copytree(group, seen := home.path / "group")
        for path in (home.path, seen, *seen.rglob("*")):
            path.chmod(0o755)
        self.group = seen
        variables = {
            "PYTHONPATH": str(place.code), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
            "GROUP": str(seen), "SCRATCH": str(home.scratch), "GROUP_ID": str(home.uid),
            "SCRATCH_OPTIONS": "size=64m,mode=0777", "ROOT_WRITABLE": "", **environment,
        }  # fmt: skip
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        python = [PYTHON, "-B", "-c", "from warmpool_sandbox.boot import main; main()", *arguments, "--in-pod"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [*unshare, "sh", "-ec", POD, "sh", *python], env=variables, cwd="/", stdout=pipe, stderr=pipe, text=True
        )

    def first(self) -> int | None:
        """Process 1, once that is the sandbox."""
        found = children(self.process.pid)
        is_sandbox = found and Path(f"/proc/{found[0]}/cmdline").read_bytes().startswith(PYTHON.encode())
        return found[0] if is_sandbox else None

    def end(self) -> None:
        for pid in children(self.process.pid):  # it forgot its parent's end when it changed its user
            os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.communicate(timeout=30)

    def output(self) -> tuple[int, str, str]:
        output, errors = self.process.communicate(timeout=30)
        return self.process.returncode, output, errors


@pytest.fixture
def contain(sandbox_place: Place, group: Callable[..., Path]) -> Iterator[Callable[..., Container]]:
    if not can_mount():
        pytest.skip("no right to mount, which a pod's file systems need")
    started: list[Container] = []

    def contain(*arguments: str, used: int = 30 * MIB, limit: str = str(512 * MIB), **environment: str) -> Container:
        home = sandbox_place.home()
        words = [word.format(home=home) for word in arguments]
        started.append(Container(sandbox_place, home, group(used=used, limit=limit), words, **environment))
        return started[-1]

    yield contain
    for made in started:
        made.end()


SERVE = ("serve", "--pod", "p", "--port", "0", "--key-file", "{home.key_file}", "--scratch", "{home.scratch}")


def failed(output: str) -> list[str]:
    return [check["name"] for check in json.loads(output)["checks"] if not check["holds"]]


def test_a_pod_that_is_as_it_should_be_meets_the_floor(contain):
    code, output, errors = contain("probe", "--json", "--scratch", "{home.scratch}").output()
    assert (code, failed(output)) == (0, []), errors


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"limit": "max"}, "pod: memory limit"),
        ({"limit": str(400 * MIB)}, "pod: memory limit"),
        ({"ROOT_WRITABLE": "1"}, "pod: root file system is read-only"),
        ({"SCRATCH_OPTIONS": "size=128m"}, "pod: scratch is bounded"),
    ],
    ids=["no memory limit", "a memory limit that is too low", "a root that can be written to", "a scratch too large"],
)
def test_what_a_pod_lacks_is_below_the_floor(contain, change, check):
    code, output, errors = contain("probe", "--json", "--scratch", "{home.scratch}", **change).output()
    assert (code, failed(output)) == (3, [check]), errors


def test_as_process_1_it_serves_and_ends_at_once_when_told_to(contain):
    container = contain(*SERVE)
    assert json.loads(container.process.stdout.readline())["landlock_abi"] >= 6
    supervisor = container.first()
    (zygote,) = children(supervisor)
    os.kill(supervisor, signal.SIGTERM)
    assert container.process.wait(10) == 0
    assert is_gone(zygote)


def test_its_programs_make_way_for_everything_else(contain):
    container = contain(*SERVE)
    assert container.process.stdout.readline()
    (zygote,) = children(container.first())
    assert (os.getpriority(os.PRIO_PROCESS, zygote), os.sched_getscheduler(zygote)) == (19, os.SCHED_BATCH)


def test_as_process_1_it_ends_at_once_also_before_it_serves(contain):
    container = contain(*SERVE)
    wait_until(lambda: (first := container.first()) is not None and children(first) != [], seconds=15)
    os.kill(container.first(), signal.SIGTERM)
    assert container.process.wait(10) == 0


def test_as_process_1_it_ends_at_once_also_while_it_is_loaded(contain):
    port = free_port("127.0.0.1")
    container = contain(*SERVE, "--host", "127.0.0.1", "--health-port", str(port))
    wait_until(lambda: listens(port), seconds=15)
    os.kill(container.first(), signal.SIGTERM)
    assert container.process.wait(10) == 0


def listens(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


# -- outside of a pod


def test_outside_of_a_pod_what_a_pod_gives_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "_SERVICE_ACCOUNT", tmp_path)
    found = {check.name: check.holds for check in probe.in_pod(probe.Limits(), tmp_path, tmp_path)}
    assert not found["pod: no service-account token"]
    assert not found["pod: tools are read-only"]
    assert not found["pod: scratch is bounded"]


def test_a_pod_below_the_floor_says_what_fails_and_what_to_do():
    checks = (Check("Landlock ABI", False, "5, at least 6 is asked for"), Check("residue", True, "none"))
    said = Report("6.8", "x86_64", "3.11", 5, checks).to_paragraph()
    assert "Landlock ABI: 5, at least 6 is asked for" in said
    assert "needs 6.12 or newer" in said
    assert "residue" not in said
    assert "\n" not in said


def test_a_wrong_argument_is_found_where_the_kubelet_looks(tmp_path, monkeypatch, capsys):
    log = tmp_path / "termination-log"
    log.write_text("old")
    monkeypatch.setattr(command, "TERMINATION_LOG", log)
    with pytest.raises(SystemExit) as end:
        command.main(["serve", "--pod", "p", "--scratch", str(tmp_path), "--key-file", str(tmp_path / "none")])
    assert end.value.code == 2
    assert log.read_text().startswith("warmpool-sandbox serve: argument --key-file: ")
    assert "--key-file" in capsys.readouterr().err


def test_last_words_are_as_long_as_the_kubelet_keeps_and_make_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "TERMINATION_LOG", tmp_path / "termination-log")
    command.leave_word("é" * 5000)
    assert not command.TERMINATION_LOG.exists()
    command.TERMINATION_LOG.touch()
    command.leave_word("é" * 5000)
    assert command.TERMINATION_LOG.stat().st_size == 4096


# -- a volume's root, which belongs to someone else

FOREIGN = """
import os, sys
from pathlib import Path
from warmpool_sandbox.scratch import Scratch
scratch = Scratch(Path(sys.argv[1]))
(scratch.path / "a" / "b").mkdir(parents=True)
(scratch.path / "a" / "b" / "c").write_text("x")
(scratch.path / "a").chmod(0)
scratch.wipe()
print(scratch.is_empty())
"""


@pytest.mark.skipif(not can_mount(), reason="needs to be started as root")
def test_a_scratch_that_belongs_to_another_user_is_wiped(sandbox_place, sandbox_home):
    os.chown(sandbox_home.scratch, 0, sandbox_home.uid)
    sandbox_home.scratch.chmod(0o2777)
    process = sandbox_place.start(["-c", FOREIGN, str(sandbox_home.scratch)], sandbox_home, stdout=subprocess.PIPE)
    output, _ = process.communicate(timeout=30)
    assert output == b"True\n"
    assert sandbox_home.scratch.stat().st_mode & 0o7777 == 0o2777
    assert Scratch(sandbox_home.scratch).is_empty()

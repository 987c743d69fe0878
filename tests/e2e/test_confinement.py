"""What a program and its pod can get at: nothing of the cluster, by either of the two walls, each tried alone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from harness.caller import Caller
from harness.waiting import until
from k8s.cluster import Cluster, Pools
from k8s.reach import REACHED, Target, reach, targets
from k8s.release import Release, images
from k8s.service import any_pod
from k8s.visitor import visitor
from k8s.wholeness import POOL
from kubernetes.aio import client

# -- from a program


FROM_A_PROGRAM = """
import asyncio
socket = asyncio.base_events.socket
tried = {}
for name, (kind, host, port) in context.items():
    for family in (socket.AF_INET, socket.AF_UNIX, socket.AF_NETLINK):
        try:
            socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM).connect((host, port))
            tried[name] = "reached"
        except OSError as fault:
            tried.setdefault(name, type(fault).__name__)
return tried
"""


async def test_a_program_has_no_way_to_any_address(caller: Caller, cluster: Cluster, release: Release, pools: Pools):
    """It cannot even make a socket, by whatever way it got hold of the module."""
    tried = await targets(cluster, release, (await pools.ready_pods(POOL))[0])
    ran = await caller.run(FROM_A_PROGRAM, context={name: target.to_json() for name, target in tried.items()})
    assert (ran["status"], ran["result"]) == ("ok", dict.fromkeys(tried, "PermissionError")), ran


FILES = """
import os
refused = {}
for path in context:
    for mode in ("r", "a"):
        try:
            open(path, mode).close()
            refused[f"{mode} {path}"] = "opened"
        except OSError as fault:
            refused[f"{mode} {path}"] = type(fault).__name__
return refused
"""

SECRET = (
    "/var/run/secrets/kubernetes.io/serviceaccount/token",
    "/run/secrets/kubernetes.io/serviceaccount/token",
    "/etc/warmpool/pool/pool.key",
    "/proc/1/environ",
    "/proc/self/environ",
    "/dev/termination-log",
    "/etc/hostname",
    "/etc/resolv.conf",
)


async def test_a_program_finds_no_token_and_no_key(caller: Caller):
    ran = await caller.run(FILES, context=list(SECRET))
    assert ran["status"] == "ok", ran
    assert set(ran["result"].values()) <= {"FileNotFoundError", "PermissionError", "OSError"}, ran["result"]


async def test_a_program_cannot_fill_more_than_its_scratch(caller: Caller):
    code = "number = 0\nwhile True:\n    number += 1\n    open(str(number), 'wb').write(bytes(10 << 20))"
    ran = await caller.run(code, seconds=10)
    assert (ran["status"], ran["error"]["limit"]) == ("disk_limit", "scratch_bytes"), ran


# -- from the pod itself: what would be left to hold a program that had broken out of its process


async def test_a_sandbox_has_no_route_to_anything(caller: Caller, cluster: Cluster, release: Release, pools: Pools):
    """NetworkPolicy alone: a plain python3 beside the supervisor, under none of its walls."""
    one, other = (await pools.ready_pods(POOL))[:2]
    tried = await targets(cluster, release, other)
    tried["its own tool server, by way of the node"] = Target("tcp", one.status.host_ip, 8081)
    found = await reach(cluster, one, tried)
    assert REACHED not in found.values(), found


async def test_the_addresses_that_a_sandbox_cannot_reach_are_the_right_ones(
    caller: Caller, cluster: Cluster, release: Release, pools: Pools, elsewhere: str
):
    """From where no policy forbids it, each is reached: else the tests before this one would prove nothing."""
    tried = await targets(cluster, release, (await pools.ready_pods(POOL))[0])
    allowed = {"DNS", "redis service", "postgres service", "redis pod", "postgres pod", "another sandbox"}
    from_gateway = await reach(cluster, await any_pod(cluster, release, "gateway"), {n: tried[n] for n in allowed})
    assert from_gateway == dict.fromkeys(allowed, REACHED)
    free = {"API server", "API server service", "node", "DNS", "DNS over TCP", "gateway service", "gateway pod"}
    async with visitor(cluster, elsewhere, images()["servers"]) as pod:
        assert await reach(cluster, pod, {n: tried[n] for n in free}) == dict.fromkeys(free, REACHED)


WRITE = """
import json, os, sys
found = {"token": os.path.lexists("/var/run/secrets/kubernetes.io")}
for path in sys.argv[1:]:
    try:
        with open(os.path.join(path, "written"), "w"):
            found[path] = "written"
    except OSError as fault:
        found[path] = os.strerror(fault.errno)
scratch = os.statvfs("/scratch")
found["scratch"] = scratch.f_blocks * scratch.f_frsize
found["mounts"] = [line.split()[4] for line in open("/proc/self/mountinfo") if "kubernetes.io" in line]
print(json.dumps(found))
"""

FOLDERS = ("/", "/tools", "/tools/servers", "/etc", "/etc/warmpool/pool", "/opt/warmpool", "/usr/lib", "/tmp", "/var")


async def test_a_sandboxs_file_systems_are_read_only_and_its_scratch_is_limited(
    caller: Caller, cluster: Cluster, pools: Pools
):
    pod = (await pools.ready_pods(POOL))[0]
    found = await cluster.python_in(pod, WRITE, *FOLDERS)
    refused = {"Read-only file system", "No such file or directory", "Permission denied"}
    assert {found[path] for path in FOLDERS} <= refused, found
    assert found["/"] == found["/tools"] == "Read-only file system"
    assert (found["token"], found["scratch"]) == (False, 64 * 1024 * 1024)


async def test_the_probe_shows_every_wall_in_the_pod_and_the_pool_says_so(
    caller: Caller, cluster: Cluster, pools: Pools
):
    pod = (await pools.ready_pods(POOL))[0]
    probe = ("warmpool-sandbox", "probe", "--in-pod", "--scratch", "/scratch", "--tools", "/tools", "--json")
    report = (await cluster.run_in(pod, *probe)).json()
    assert [check for check in report["checks"] if not check["holds"]] == []
    assert report["meets_floor"]
    assert report["landlock_abi"] >= 6
    names = {check["name"] for check in report["checks"]}
    assert {"system-call filter", "network: IPv4", "limits: memory", "limits: processes", "pod: memory limit"} <= names
    confined = await pools.condition(POOL, "Confined")
    assert confined is not None
    assert confined["status"] == "True"


async def test_a_sandbox_pod_asks_for_nothing_that_restricted_forbids(caller: Caller, pools: Pools):
    """The namespace's admission would refuse it; these are the parts that it does not look at."""
    for pod in await pools.pods(POOL):
        spec, container = pod.spec, pod.spec.containers[0]
        assert len(spec.containers) == 1
        assert (spec.automount_service_account_token, spec.enable_service_links) == (False, False)
        assert container.security_context.read_only_root_filesystem
        assert {"cpu", "memory", "ephemeral-storage"} <= set(container.resources.limits)
        writable = [mount.mount_path for mount in container.volume_mounts if not mount.read_only]
        assert writable == ["/scratch"]
    uids = [_uid(pod) for pod in await pools.pods(POOL)]
    assert len(set(uids)) == len(uids), "two pods share a user, and so its limit of processes"


def _uid(pod: client.V1Pod) -> int:
    own = pod.spec.containers[0].security_context.run_as_user
    return int(own if own is not None else pod.spec.security_context.run_as_user)


# -- into the pod


GREET = """
import json, socket, sys
from warmpool.protocol import VERSION, FrameReader, Message, encode_frame

with socket.create_connection((sys.argv[1], 8888), 3) as stream:
    stream.settimeout(5)
    reader, said = FrameReader(), []
    said += [frame.type.name for frame in reader.feed(stream.recv(65536))]
    stream.sendall(encode_frame(Message.AUTH, {"v": VERSION, "proof": "0" * 64, "nonce": "0" * 32}))
    run = {"execution": "exe_" + "0" * 32, "fence": 2**60, "code": "return 1", "context": None, "limits": {}}
    try:
        stream.sendall(encode_frame(Message.RUN, run))
        while data := stream.recv(65536):
            said += [frame.type.name for frame in reader.feed(data)]
    except ConnectionError:
        pass
print(json.dumps(said))
"""


def sandbox_ports(pod: client.V1Pod) -> dict[str, Target]:
    return {"supervisor": Target("tcp", pod.status.pod_ip, 8888), "health": Target("tcp", pod.status.pod_ip, 8889)}


async def test_a_stranger_reaches_no_port_of_a_sandbox(
    caller: Caller, cluster: Cluster, release: Release, pools: Pools, elsewhere: str
):
    """Neither from a namespace of its own nor from the release's, where it is no gateway."""
    ports = sandbox_ports((await pools.ready_pods(POOL))[0])
    image = images()["servers"]
    async with visitor(cluster, elsewhere, image) as one, visitor(cluster, release.namespace, image) as other:
        assert REACHED not in (await reach(cluster, one, ports)).values()
        assert REACHED not in (await reach(cluster, other, ports)).values()


@pytest.mark.timeout(120)
async def test_without_its_network_policy_a_supervisor_still_refuses_a_stranger(
    caller: Caller, cluster: Cluster, release: Release, pools: Pools, elsewhere: str
):
    sandbox = (await pools.ready_pods(POOL))[0]
    async with visitor(cluster, elsewhere, images()["servers"]) as pod, no_policies(cluster, pools.namespace):

        async def is_open() -> bool:
            found = await reach(cluster, pod, sandbox_ports(sandbox))
            return found["supervisor"] == REACHED

        await until(is_open, 40, "the port is open without the policy")
        said = await cluster.python_in(pod, GREET, sandbox.status.pod_ip)
        assert said == ["HELLO"], "it greets, and answers nothing to a wrong proof"
        assert (await caller.run("return 1"))["result"] == 1


@asynccontextmanager
async def no_policies(cluster: Cluster, namespace: str) -> AsyncIterator[None]:
    """Takes the namespace's NetworkPolicies away, and brings them back."""
    found = (await cluster.networking.list_namespaced_network_policy(namespace)).items
    assert found
    for policy in found:
        await cluster.networking.delete_namespaced_network_policy(policy.metadata.name, namespace)
    try:
        yield
    finally:
        for policy in found:
            policy.metadata.resource_version = policy.metadata.uid = policy.metadata.creation_timestamp = None
            await cluster.networking.create_namespaced_network_policy(namespace, policy)
        await _until_closed(cluster, namespace)


async def _until_closed(cluster: Cluster, namespace: str) -> None:
    """Waits until the wall stands again, as the next test counts on it."""
    one, other = (await cluster.ready_pods(namespace, pool=POOL))[:2]

    async def is_closed() -> bool:
        found = await reach(cluster, one, sandbox_ports(other))
        return REACHED not in found.values()

    await until(is_closed, 40, "the policies hold again")

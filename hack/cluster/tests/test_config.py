import ipaddress
import tomllib

from hack.cluster import binaries, config, state
from hack.cluster.instance import Instance

DEBIAN = {"containerd"}
SOCKET_PATH_BYTES = 107


def test_every_component_is_a_binary_that_is_built_or_comes_from_debian() -> None:
    programs = {command[0] for command in config.commands(Instance()).values()}
    assert programs - DEBIAN <= binaries.KUBERNETES.tools().keys()


def test_two_instances_share_no_address_link_folder_or_cgroup() -> None:
    one, other = Instance(), Instance("other", 1)
    for first, second in ((one.pod_subnet, other.pod_subnet), (one.service_subnet, other.service_subnet)):
        assert not ipaddress.ip_network(first).overlaps(ipaddress.ip_network(second))
    for name in ("host_address", "node_address", "host_link", "node_link", "state", "cgroup"):
        assert getattr(one, name) != getattr(other, name)


def test_names_fit_what_the_kernel_allows() -> None:
    long = Instance("a-rather-long-name-of-a-cluster")
    assert max(len(long.host_link), len(long.node_link)) <= 15
    assert len(bytes(long.containerd_socket)) + len(".ttrpc") <= SOCKET_PATH_BYTES


def test_there_is_an_address_for_each_pod() -> None:
    assert ipaddress.ip_network(Instance().pod_subnet).num_addresses - 3 >= config.MAX_PODS


def test_containerd_keeps_its_hands_off_oom_scores_and_off_the_machines_folders() -> None:
    instance = Instance()
    parsed = tomllib.loads(config.containerd(instance))
    assert parsed["plugins"]["io.containerd.grpc.v1.cri"]["restrict_oom_score_adj"] is True
    paths = [parsed["root"], parsed["state"], parsed["grpc"]["address"]]
    assert all(path.startswith(f"{instance.state}/") for path in paths)


def test_the_resolver_of_pods_is_no_loopback() -> None:
    server = config.files(Instance())["resolv.conf"].removeprefix("nameserver ").strip()
    assert not ipaddress.ip_address(server).is_loopback


def test_the_key_follows_the_settings_and_the_binaries_but_not_where_they_lie(tmp_path) -> None:
    instance = Instance()
    here = state.key(instance, tmp_path / "0123" / "bin")
    assert here == state.key(instance, tmp_path / "elsewhere" / "0123" / "bin")
    assert here != state.key(instance, tmp_path / "4567" / "bin")
    assert here != state.key(Instance(octet=1), tmp_path / "0123" / "bin")

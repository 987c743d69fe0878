"""The node's network: one namespace, joined to the host by a pair of links, with no way out of the machine."""

from hack.cluster import config
from hack.cluster.instance import Instance
from hack.cluster.shell import inside, run, succeeds


def make(instance: Instance) -> None:
    """The host then reaches pods and services directly, and nothing leaves."""
    namespace = instance.network_namespace
    run("ip", "netns", "add", namespace.name)
    run(
        "ip",
        "link",
        "add",
        instance.host_link,
        "type",
        "veth",
        "peer",
        "name",
        instance.node_link,
        "netns",
        namespace.name,
    )
    run("ip", "address", "add", f"{instance.host_address}/30", "dev", instance.host_link)
    run("ip", "link", "set", instance.host_link, "up")
    for command in (
        ("ip", "link", "set", "lo", "up"),
        ("ip", "address", "add", f"{instance.node_address}/30", "dev", instance.node_link),
        ("ip", "link", "set", instance.node_link, "up"),
        ("sysctl", "-q", "-w", "net.ipv4.ip_forward=1"),
        ("ip", "route", "add", "blackhole", "default"),
    ):
        run(*inside(namespace, *command))
    for subnet in config.host_routes(instance):
        run("ip", "route", "add", subnet, "via", instance.node_address)


def remove(instance: Instance) -> None:
    """The routes go with the link, the firewall's rules with the namespace."""
    if succeeds("ip", "link", "show", instance.host_link):
        run("ip", "link", "delete", instance.host_link)
    if instance.network_namespace.exists():
        run("ip", "netns", "delete", instance.network_namespace.name)

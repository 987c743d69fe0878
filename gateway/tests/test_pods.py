"""The streams of a gateway: when one is opened, kept and closed, and at which doors it knocks twice."""

import asyncio
import errno
import socket
from dataclasses import replace
from typing import Any

import pytest

from gateway.tests.scripted import no_tools, run
from warmpool.protocol import Message, Outcome, Refusal, Status
from warmpool.registry import Lease
from warmpool_gateway import pods
from warmpool_gateway.pod_stream import Program

KEEPALIVE = {"KEEPIDLE": 5, "KEEPINTVL": 2, "KEEPCNT": 3, "USER_TIMEOUT": 11_000}


async def test_one_connection_serves_many_executions(connections, supervisor):
    for number in range(5):
        outcome = await run(connections, supervisor, execution=f"exe_{number}", fence=number + 1)
        assert outcome.execution == f"exe_{number}"
    assert supervisor.connections == 1


async def test_a_vanished_node_is_noticed_within_seconds(connections, supervisor):
    await run(connections, supervisor)
    ((_, stream),) = connections._streams.values()
    wire = stream._transport.get_extra_info("socket")
    options = {name: wire.getsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_{name}")) for name in KEEPALIVE}
    assert (options, wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) == (KEEPALIVE, 1)
    assert options["KEEPIDLE"] + options["KEEPINTVL"] * options["KEEPCNT"] == 11


async def test_a_pod_that_moved_is_connected_to_anew(connections, supervise):
    first = await supervise()
    second = await supervise()
    assert isinstance(await run(connections, first), Outcome)
    assert isinstance(await run(connections, second), Outcome)
    assert (second.connections, len(connections)) == (1, 1)


async def test_a_supervisor_that_ended_between_runs_is_connected_to_anew(connections, supervisor):
    await run(connections, supervisor)
    connections.drop("pod-1")
    assert isinstance(await run(connections, supervisor, fence=2), Outcome)
    assert supervisor.connections == 2


async def test_an_address_where_nobody_listens_did_not_start_it(connections, supervisor, monkeypatch):
    monkeypatch.setattr(pods, "CONNECT_SECONDS", 0.2)
    lease = supervisor.lease()
    await supervisor.stop()
    verdict = await connections.run(lease, Program(code="1"), no_tools, asyncio.get_running_loop().create_future())
    assert (verdict.reason, verdict.retry, verdict.clean) == ("unreachable", True, False)
    assert f"[Errno {errno.ECONNREFUSED}]" in verdict.message


async def test_a_new_pod_whose_network_refuses_at_first_is_knocked_at_again(connections, supervisor, monkeypatch):
    knocks = refusing(monkeypatch, times=3)
    assert isinstance(await run(connections, supervisor), Outcome)
    assert len(knocks) == 4


async def test_a_pod_that_was_reached_before_is_dead_once_it_refuses(connections, supervisor, monkeypatch):
    await run(connections, supervisor)
    connections.drop("pod-1")
    knocks = refusing(monkeypatch, times=100)
    assert (await run(connections, supervisor, fence=2)).reason == "unreachable"
    assert len(knocks) == 1


async def test_pods_that_were_reached_long_ago_are_forgotten(connections, supervise, monkeypatch):
    monkeypatch.setattr(pods, "MAX_STREAMS", 2)
    supervisors = [await supervise(f"pod-{number}") for number in range(3)]
    for supervisor in supervisors:
        await run(connections, supervisor)
    for number, knocks_of in ((0, 2), (2, 1)):
        connections.drop(f"pod-{number}")
        knocks = refusing(monkeypatch, times=1)
        await run(connections, supervisors[number], fence=2)
        assert len(knocks) == knocks_of


def refusing(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """Lets the network refuse so many connections from now on; the list grows with every one that is tried."""
    knocks: list[int] = []
    loop = asyncio.get_running_loop()
    connect = type(loop).create_connection

    async def create_connection(protocol: Any, host: str, port: int) -> Any:
        knocks.append(port)
        if len(knocks) <= times:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        return await connect(loop, protocol, host, port)

    monkeypatch.setattr(loop, "create_connection", create_connection)
    return knocks


async def test_a_malformed_address_did_not_start_it(connections, supervisor):
    supervisor.lease = lambda *_: Lease(
        pod="p", address="nowhere", execution="e", tenant="t", gateway="g", fence=1, deadline=0
    )
    assert (await run(connections, supervisor)).reason == "unreachable"


@pytest.mark.parametrize(
    "lie", [{"key": b"another" * 8}, {"pool": "other"}, {"pod": "pod-2"}], ids=["key", "pool", "pod"]
)
async def test_whoever_cannot_prove_itself_gets_no_program(connections, supervise, lie):
    impostor = await supervise(**lie)
    true_lease = impostor.lease()
    impostor.lease = lambda *_: replace(true_lease, pod="pod-1")
    verdict = await run(connections, impostor)
    assert verdict.reason == "handshake"
    assert impostor.runs == []
    await asyncio.wait_for(impostor.lost.wait(), 5)


async def test_a_supervisor_that_never_greets_is_given_up(connections, supervisor, monkeypatch):
    monkeypatch.setattr(pods, "CONNECT_SECONDS", 0.05)
    supervisor.handshake = lambda talk: talk.receive()
    verdict = await run(connections, supervisor)
    assert (verdict.reason, verdict.message.split(": ")[1]) == ("unreachable", "no answer in time")


async def test_a_stream_that_closes_right_behind_its_greeting_is_connected_to_anew(connections, supervisor):
    greet = supervisor.handshake

    async def greet_and_break(talk):
        await greet(talk)
        talk.send(Message.READY, {})

    supervisor.handshake = greet_and_break
    verdict = await run(connections, supervisor)
    assert (verdict.reason, supervisor.runs) == (Refusal.BUSY, [])
    supervisor.handshake = greet
    assert (await run(connections, supervisor)).status is Status.OK


async def test_the_least_recently_opened_stream_makes_room(connections, supervise, monkeypatch):
    monkeypatch.setattr(pods, "MAX_STREAMS", 2)
    supervisors = [await supervise(f"pod-{number}") for number in range(3)]
    for supervisor in supervisors:
        await run(connections, supervisor)
    assert len(connections) == 2
    await asyncio.wait_for(supervisors[0].lost.wait(), 5)

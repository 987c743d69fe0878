"""The real registry on a real Redis against a model of it in plain Python, step by step.

The model says what every call returns and how every pod stands after it. Beside the comparison, the
machine checks what must hold whatever the model says: invariants 1 to 4 of the registry, with leases
remembered across losses of Redis.
"""

import asyncio

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from core.tests.registry.model import HEARTBEAT, Model, later
from warmpool.errors import QuotaExceeded
from warmpool.registry import Counts, Lease, PodState, Registry, Released, Retirement, connect

TENANTS = st.sampled_from(["acme", "globex", "initech"])
GATEWAYS = st.sampled_from(["g1", "g2"])
HOLDS = st.sampled_from([5.0, 20.0, 60.0])
PASSING = st.sampled_from([0.000001, 1.0, 4.0, 14.999999, 15.0, 30.0])


class RegistryMachine(RuleBasedStateMachine):
    """One pool, two gateways, an operator that follows the contract, and everything that can go wrong."""

    pods = Bundle("pods")
    leases = Bundle("leases")

    def __init__(self, url):
        super().__init__()
        self.runner = asyncio.Runner()
        self.redis = connect(url)
        self.model = Model()
        self.registry = Registry(self.redis, "main", heartbeat_seconds=HEARTBEAT, clock=lambda: self.model.now)
        self.made = 0
        self.executions = 0
        self.highest_fence = 0
        self.deadlines = {}
        """Pod -> deadline of the lease it has, as a gateway would know it: losses of Redis change nothing here."""
        self.spent = set()
        """Pods that nobody may get again: deleted, or their lease once expired."""
        self.run(self.redis.flushall())

    def run(self, call):
        return self.runner.run(call)

    def teardown(self):
        self.run(self.redis.aclose())
        self.runner.close()

    @initialize(target=pods, count=st.integers(1, 4))
    def begin(self, count):
        return multiple(*(self.new_pod(1000, 1000.0, False) for _ in range(count)))

    @rule(target=pods, max_executions=st.sampled_from([1, 2, 1000]), max_age=st.sampled_from([20.0, 1000.0]),
          per_tenant=st.booleans())  # fmt: skip
    def new_pod(self, max_executions, max_age, per_tenant):
        self.made += 1
        pod = f"p{self.made:03}"
        self.register(pod, max_executions, max_age, per_tenant)
        return pod

    @rule(target=pods)
    def announce_new(self):
        self.made += 1
        pod = f"p{self.made:03}"
        self.announce(pod)
        return pod

    @rule(pod=pods)
    def announce(self, pod):
        if pod in self.model.gone or pod not in self.spent:
            assert self.run(self.registry.announce(pod)) == self.model.announce(pod)

    @rule(pod=pods, max_executions=st.sampled_from([1, 2, 1000]), max_age=st.sampled_from([20.0, 1000.0]),
          per_tenant=st.booleans())  # fmt: skip
    def register(self, pod, max_executions, max_age, per_tenant):
        if pod in self.spent and pod not in self.model.gone | set(self.model.entries):
            return  # Redis was lost since; an operator registers no pod that the cluster does not have
        done = self.run(
            self.registry.register(
                pod, f"{pod}:7000",
                max_executions=max_executions, max_age_seconds=max_age, per_tenant=per_tenant,
            )
        )  # fmt: skip
        assert done == self.model.register(pod, f"{pod}:7000", max_executions, max_age, per_tenant)

    @rule(chosen=st.lists(pods, max_size=6, unique=True))
    def heartbeat(self, chosen):
        assert self.run(self.registry.heartbeat(chosen)) == self.model.heartbeat(chosen)

    @rule()
    def heartbeat_of_all(self):
        self.heartbeat(sorted(self.model.entries))

    @rule(target=leases, tenant=TENANTS, gateway=GATEWAYS, hold=HOLDS, quota=st.sampled_from([1, 2, 1000]))
    def acquire(self, tenant, gateway, hold, quota):
        got = self.run(self.attempt(tenant, gateway, hold, quota))
        asked = self.model.acquire(f"e{self.executions}", tenant, gateway, hold, quota)
        assert got == asked
        return multiple(*self.hand_out(got))

    @rule(target=leases, tenant=TENANTS, hold=HOLDS, callers=st.integers(2, 6), quota=st.sampled_from([2, 1000]))
    def acquire_at_once(self, tenant, hold, callers, quota):
        async def race():
            return await asyncio.gather(*(self.attempt(tenant, f"g{i % 2}", hold, quota) for i in range(callers)))

        won = sorted((got for got in self.run(race()) if isinstance(got, Lease)), key=lambda lease: lease.fence)
        asked = [self.model.acquire("", tenant, "", hold, quota) for _ in range(callers)]
        expected = [lease for lease in asked if isinstance(lease, Lease)]
        assert [(lease.pod, lease.fence) for lease in won] == [(lease.pod, lease.fence) for lease in expected]
        for lease in won:
            self.model.change(lease.pod, lease=lease)
        return multiple(*(lease for got in won for lease in self.hand_out(got)))

    async def attempt(self, tenant, gateway, hold, quota):
        self.executions += 1
        try:
            return await self.registry.acquire(
                execution=f"e{self.executions}", tenant=tenant, gateway=gateway, hold_seconds=hold, quota=quota
            )
        except QuotaExceeded:
            return "quota"

    def hand_out(self, lease):
        """Invariants 1 to 4 at the moment that they could break."""
        if not isinstance(lease, Lease):
            return []
        assert lease.pod not in self.deadlines, "two leases of one pod"
        assert lease.pod not in self.spent, "a deleted pod, or one whose lease expired, was handed out"
        assert lease.fence > self.highest_fence, "a fencing number did not grow"
        self.highest_fence = lease.fence
        self.deadlines[lease.pod] = lease.deadline
        return [lease]

    @rule(lease=leases, hold=HOLDS)
    def renew(self, lease, hold):
        renewed = self.run(self.registry.renew(lease, hold))
        assert renewed == self.model.renew(lease, hold)
        if renewed:
            self.deadlines[lease.pod] = later(self.model.now, hold)

    @rule(lease=leases, clean=st.booleans(), used=st.booleans())
    def release(self, lease, clean, used):
        released = self.run(self.registry.release(lease, clean=clean, used=used))
        assert released is self.model.release(lease, clean, used)
        if released is not Released.STALE:
            del self.deadlines[lease.pod]
        if released is Released.RETIRED:
            self.spent.add(lease.pod)

    @rule(pod=pods)
    def retire(self, pod):
        assert self.run(self.registry.retire(pod, "ScaledDown")) == self.model.retire(pod, "ScaledDown")

    @rule(pod=pods)
    def remove(self, pod):
        self.run(self.registry.remove(pod))
        self.model.remove(pod)
        self.spent.add(pod)
        self.deadlines.pop(pod, None)

    @rule(seconds=PASSING)
    def let_time_pass(self, seconds):
        self.model.now = later(self.model.now, seconds)
        self.spent |= {pod for pod, deadline in self.deadlines.items() if deadline <= self.model.now}

    @rule()
    def reap(self):
        reaped = self.run(self.registry.reap())
        assert sorted(reaped) == sorted(self.model.reap())
        for pod in reaped:
            self.spent.add(pod)
            self.deadlines.pop(pod, None)

    @rule()
    def lose_redis(self):
        """Redis comes back empty, some time later; the operator then retires every pod that it knows of."""
        alive = sorted(self.model.entries)
        self.run(self.redis.flushall())
        self.model.lose()
        self.let_time_pass(1.0)
        self.spent |= set(alive)
        assert self.run(self.registry.heartbeat(alive)) == alive
        for pod in alive:
            self.retire(pod)

    @invariant()
    def every_pod_stands_as_in_the_model(self):
        pods = {pod.id: pod for pod in self.run(self.registry.pods())}
        assert pods == {id: entry.pod for id, entry in self.model.entries.items()}

    @invariant()
    def the_counts_are_those_of_the_pods(self):
        states = [entry.pod.state for entry in self.model.entries.values()]
        counts = {state.value: states.count(state) for state in PodState if state is not PodState.GONE}
        assert self.run(self.registry.counts()) == Counts(**counts)

    @invariant()
    def they_stand_as_in_the_model(self):
        standings = self.run(self.registry.standings())
        assert {id: (s.state, s.marked, s.bound, s.worn) for id, s in standings.items()} == {
            id: (
                entry.pod.state,
                entry.pod.state is PodState.LEASED and entry.pod.reason is not None,
                entry.pod.state is PodState.IDLE and entry.bound is not None,
                entry.pod.state is PodState.RETIRING and entry.pod.reason == Retirement.MAX_EXECUTIONS,
            )
            for id, entry in self.model.entries.items()
        }

    @invariant()
    def those_that_reached_their_age_are_as_in_the_model(self):
        assert self.run(self.registry.aged()) == self.model.aged()

    @invariant()
    def the_tenants_counts_are_those_of_the_leases(self):
        tenants = self.run(self.redis.hgetall("warmpool:{main}:tenants"))
        assert {tenant: int(held) for tenant, held in tenants.items()} == self.model.tenants()

    @invariant()
    def no_spent_pod_is_idle(self):
        idle = {entry.pod.id for entry in self.model.in_state(PodState.IDLE)}
        assert not idle & self.spent

    @invariant()
    def the_pods_to_delete_are_those_that_retire(self):
        retiring = {entry.pod.id for entry in self.model.in_state(PodState.RETIRING)}
        assert set(self.run(self.registry.retiring())) == retiring


@pytest.mark.timeout(120)
def test_the_registry_does_what_the_model_does_and_keeps_its_invariants(redis_url):
    run_state_machine_as_test(
        lambda: RegistryMachine(redis_url),
        settings=settings(
            max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )

"""What the registry should do, as plainly as possible. Tested against the real one in test_model.py."""

from dataclasses import dataclass, field, replace

from warmpool.registry import Lease, NoPod, Pod, PodState, Released

HEARTBEAT = 15.0


@dataclass
class Entry:
    """A pod of the model; `since` orders the idle ones."""

    pod: Pod
    since: float = 0.0
    max_executions: int = 0
    max_age: float = 0.0
    per_tenant: bool = False
    bound: str | None = None


@dataclass
class Model:
    """What the registry should do, written as plainly as possible: one dictionary, linear scans."""

    now: float = 1_800_000_000.0
    fence: int = 0
    entries: dict[str, Entry] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)

    def in_state(self, *states):
        return [entry for entry in self.entries.values() if entry.pod.state in states]

    def held(self, tenant):
        return sum(entry.pod.lease.tenant == tenant for entry in self.in_state(PodState.LEASED))

    def tenants(self):
        tenants = [entry.pod.lease.tenant for entry in self.in_state(PodState.LEASED)]
        return {tenant: tenants.count(tenant) for tenant in tenants}

    def change(self, id, **fields):
        self.entries[id].pod = replace(self.entries[id].pod, **fields)

    def retire_now(self, id, reason):
        kept = self.entries[id].pod.reason or reason
        self.change(id, state=PodState.RETIRING, reason=kept, lease=None)

    def add(self, id, state, address=""):
        pod = Pod(
            id=id, address=address, state=state, executions=0,
            registered_at=self.now, seen_at=self.now, reason=None, lease=None,
        )  # fmt: skip
        self.entries[id] = Entry(pod, since=self.now)

    def announce(self, id):
        if id in self.entries or id in self.gone:
            return False
        self.add(id, PodState.WARMING)
        return True

    def register(self, id, address, max_executions, max_age, per_tenant):
        known = self.entries.get(id)
        if id in self.gone or (known and known.pod.state is not PodState.WARMING):
            return False
        self.add(id, PodState.IDLE, address)
        entry = self.entries[id]
        entry.max_executions, entry.max_age, entry.per_tenant = max_executions, max_age, per_tenant
        return True

    def heartbeat(self, ids):
        for id in ids:
            if id in self.entries and self.entries[id].pod.state is not PodState.RETIRING:
                self.change(id, seen_at=self.now)
        return [id for id in ids if id not in self.entries]

    def silent(self, entry):
        return micros(self.now - entry.pod.seen_at) >= micros(HEARTBEAT)

    def worn_out(self, entry):
        return "MaxExecutions" if entry.pod.executions >= entry.max_executions else None

    def acquire(self, execution, tenant, gateway, hold, quota):
        if self.held(tenant) >= quota:
            return "quota"
        idle = [entry for entry in self.in_state(PodState.IDLE) if entry.bound in (None, tenant)]
        order = sorted(idle, key=lambda entry: (entry.bound is not None, entry.since, entry.pod.id), reverse=True)
        for entry in order:
            reason = "HeartbeatLost" if self.silent(entry) else self.worn_out(entry)
            if reason is None:
                return self.lease(entry.pod, execution, tenant, gateway, hold)
            self.retire_now(entry.pod.id, reason)
        return NoPod.BOUND if self.in_state(PodState.IDLE) else NoPod.EMPTY

    def lease(self, pod, execution, tenant, gateway, hold):
        self.fence = max(self.fence + 1, micros(self.now))
        lease = Lease(
            pod=pod.id, address=pod.address, execution=execution, tenant=tenant, gateway=gateway,
            fence=self.fence, deadline=later(self.now, hold),
        )  # fmt: skip
        self.change(pod.id, state=PodState.LEASED, executions=pod.executions + 1, lease=lease)
        return lease

    def holds(self, lease):
        entry = self.entries.get(lease.pod)
        return entry is not None and entry.pod.lease is not None and entry.pod.lease.fence == lease.fence

    def renew(self, lease, hold):
        if not self.holds(lease) or self.entries[lease.pod].pod.lease.deadline <= self.now:
            return False
        self.change(lease.pod, lease=replace(lease, deadline=later(self.now, hold)))
        return True

    def release(self, lease, clean, used=True):
        if not self.holds(lease):
            return Released.STALE
        entry = self.entries[lease.pod]
        if not used:
            self.change(lease.pod, executions=entry.pod.executions - 1)
        late = entry.pod.lease.deadline <= self.now
        reason = (
            "LeaseExpired"
            if late
            else "Dirty"
            if not clean
            else entry.pod.reason or (self.worn_out(entry) if used else None)
        )
        if reason:
            self.retire_now(lease.pod, reason)
            return Released.RETIRED
        self.change(lease.pod, state=PodState.IDLE, lease=None, seen_at=self.now)
        entry.since = self.now
        if used and entry.per_tenant:
            entry.bound = lease.tenant
        return Released.IDLE

    def retire(self, id, reason):
        if id in self.gone:
            return False
        if id not in self.entries:
            self.add(id, PodState.RETIRING)
            self.change(id, reason=reason, seen_at=0.0)
            return True
        pod = self.entries[id].pod
        if pod.state is PodState.RETIRING or pod.reason is not None:
            return False
        if pod.state is PodState.LEASED:
            self.change(id, reason=reason)
        else:
            self.retire_now(id, reason)
        return True

    def remove(self, id):
        self.entries.pop(id, None)
        self.gone.add(id)

    def reap(self):
        expired = [entry.pod.id for entry in self.in_state(PodState.LEASED) if entry.pod.lease.deadline <= self.now]
        for id in expired:
            self.retire_now(id, "LeaseExpired")
        silent = [entry.pod for entry in self.in_state(*PodState) if self.silent(entry)]
        idle = [pod.id for pod in silent if pod.state in (PodState.WARMING, PodState.IDLE)]
        for id in idle:
            self.retire_now(id, "HeartbeatLost")
        for pod in silent:
            if pod.state is PodState.LEASED:
                self.change(pod.id, reason=pod.reason or "HeartbeatLost")
        return expired + idle

    def aged(self):
        serving = self.in_state(PodState.IDLE, PodState.LEASED)
        ends = {entry.pod.id: later(entry.pod.registered_at, entry.max_age) for entry in serving}
        return [id for _, id in sorted((end, id) for id, end in ends.items() if end <= self.now)]

    def lose(self):
        self.entries.clear()
        self.gone.clear()
        self.fence = 0


def micros(seconds):
    return round(seconds * 1e6)


def later(now, seconds):
    return (micros(now) + micros(seconds)) / 1e6

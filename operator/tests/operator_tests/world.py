"""A small world around the operator's own code: an API server with a late watch, a kubelet, Redis, gateways, faults.

Everything random comes from one seed, and time is virtual, so that a seed is a story that can be told again. What the
world sees go wrong it says by an AssertionError at the moment when it happens.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from operator_tests.redis_world import EPOCH, Redis, SimRegistry
from warmpool.errors import Superseded, Unavailable
from warmpool.registry import Lease, PodState
from warmpool_operator.api import ApiError, NotLeading
from warmpool_operator.informer import EXIT_0, Pod
from warmpool_operator.keeper import Keeper
from warmpool_operator.pool import TEMPLATE_LABEL, SandboxPool

HOLD_SECONDS = 8.0
SETTLE_SECONDS = 150.0
"""After the last fault: leases end, silent pods are found, the longest back-off passes, and pods start."""


@dataclass
class Faults:
    """How likely things go wrong; all of them end with the storm."""

    api_refuses: float = 0.0
    api_loses_answers: float = 0.0
    redis_away: float = 0.0
    pod_crashes: float = 0.0
    gateway_dies: float = 0.0
    dirty: float = 0.0
    watch_seconds: float = 0.05
    """Mean lag of the watch."""
    start_seconds: float = 4.0
    """The longest that a pod takes to start."""

    def end(self) -> None:
        for name, default in Faults().__dict__.items():
            setattr(self, name, default)


@dataclass
class Program:
    lease: Lease
    ends: float


class Cluster:
    """The API server and its kubelets. `pods` is the truth."""

    def __init__(self, random: random.Random, faults: Faults) -> None:
        self.random = random
        self.faults = faults
        self.pods: dict[str, Pod] = {}
        self.busy: dict[str, Program] = {}
        """Programs that run, by pod: the supervisor's truth."""
        self.limit = 0
        """Pods that there may be at once."""
        self.writes = 0
        self.down = False
        self.fence_at_loss = 0
        """Leases up to this one were lost with Redis: nobody can know of them."""
        self._uids = 0
        self._watches: list[Watch] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def watch(self, changed: Callable[[str], None]) -> "Watch":
        made = Watch(self, changed)
        self._watches.append(made)
        return made

    def unwatch(self, watch: "Watch") -> None:
        self._watches.remove(watch)

    def put(self, pod: Pod) -> None:
        self.pods[pod.name] = pod
        self._tell(pod.name, pod)

    def vanish(self, name: str) -> None:
        if self.pods.pop(name, None) is not None:
            self.busy.pop(name, None)
            self._tell(name, None)

    def crash(self, name: str) -> None:
        pod = self.pods.get(name)
        if pod is not None and not pod.dead:
            self.busy.pop(name, None)
            self.put(replace(pod, phase="Failed", ready=False, trouble="Exit1", message="it crashed"))

    def finish(self, name: str) -> None:
        """Of single use, and used: it ends by itself, sooner or later."""
        self._spawn(self._finish(name))

    async def _finish(self, name: str) -> None:
        await asyncio.sleep(self.random.choice([0.1, 1.0, 10.0]))
        pod = self.pods.get(name)
        if pod is not None and not pod.dead and name not in self.busy:
            self.put(replace(pod, phase="Succeeded", ready=False, trouble=EXIT_0))

    def api(self, leads: Callable[[], bool]) -> "SimApi":
        return SimApi(self, leads)

    async def create(self, body: Mapping[str, Any]) -> None:
        name = body["metadata"]["name"]
        if name in self.pods:
            raise ApiError(409, "AlreadyExists", name)
        living = sum(not one.dead for one in self.pods.values())
        assert living < self.limit, f"pod {living + 1} of at most {self.limit}"
        self._uids += 1
        self.put(
            Pod(
                name=name, uid=f"uid-{self._uids}", pool="p", template=body["metadata"]["labels"][TEMPLATE_LABEL],
                phase="Pending", ready=False, ip="", deleting=False, created=f"{self.now:012.3f}",
            )
        )  # fmt: skip
        self._spawn(self._start(name))

    async def delete(self, name: str, uid: str) -> None:
        pod = self.pods.get(name)
        if pod is None:
            raise ApiError(404, "NotFound", name)
        if pod.uid != uid:
            raise ApiError(409, "Conflict", "another uid")
        program = self.busy.get(name)
        if program is not None and program.lease.fence > self.fence_at_loss:
            assert program.lease.deadline <= EPOCH + self.now, f"{name} was deleted with a leased program in it"
        if not pod.deleting:
            self.put(replace(pod, deleting=True, ready=False))
            self._spawn(self._end(name))

    async def _start(self, name: str) -> None:
        await asyncio.sleep(self.random.uniform(0.5, self.faults.start_seconds))
        pod = self.pods.get(name)
        if pod is None or pod.deleting or pod.dead:
            return
        if self.random.random() < self.faults.pod_crashes:
            self.crash(name)
        else:
            self.put(replace(pod, phase="Running", ready=True, ip="10.0.0.1"))

    async def _end(self, name: str) -> None:
        program = self.busy.get(name)  # the supervisor ends its program first
        await asyncio.sleep(max(self.random.uniform(0.1, 2.0), program.ends - self.now if program else 0.0))
        self.vanish(name)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _tell(self, name: str, pod: Pod | None) -> None:
        for watch in self._watches:
            watch.hear(name, pod)


class Watch:
    """As the informer: pods by name as they were a while ago."""

    def __init__(self, cluster: Cluster, changed: Callable[[str], None]) -> None:
        self.synced = asyncio.Event()
        self.synced.set()
        self._cluster = cluster
        self._changed = changed
        self._seen = dict(cluster.pods)
        self._events: deque[tuple[float, str, Pod | None]] = deque()
        self.thaws_at = 0.0
        self._task = asyncio.get_running_loop().create_task(self._deliver())
        self._news = asyncio.Event()

    def of_pool(self, _: str) -> Mapping[str, Pod]:
        return self._seen

    def hear(self, name: str, pod: Pod | None) -> None:
        lag = self._cluster.random.expovariate(1 / self._cluster.faults.watch_seconds)
        self._events.append((self._cluster.now + lag, name, pod))
        self._news.set()

    def freeze(self, seconds: float) -> None:
        self.thaws_at = self._cluster.now + seconds

    def close(self) -> None:
        self._task.cancel()
        self._cluster.unwatch(self)

    async def _deliver(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._events:
                at, name, pod = self._events.popleft()
                await asyncio.sleep(max(0.0, max(at, self.thaws_at) - self._cluster.now))
                if pod is None:
                    self._seen.pop(name, None)
                else:
                    self._seen[name] = pod
                self._changed("p")


class SimApi:
    """What the keeper calls. Refuses what a leader that lost its lease would write."""

    def __init__(self, cluster: Cluster, leads: Callable[[], bool]) -> None:
        self._cluster = cluster
        self.may_write = leads

    async def call(self, method: str, path: str, body: Any = None, *, query: Any = None, patch: Any = None) -> Any:
        cluster = self._cluster
        if method != "GET" and not self.may_write():
            raise NotLeading
        await asyncio.sleep(cluster.random.uniform(0.001, 0.03))
        if cluster.down or cluster.random.random() < cluster.faults.api_refuses:
            raise ApiError(0, "Unreachable", "connection refused")
        if method == "GET":
            if path.rpartition("/")[2] not in cluster.pods:
                raise ApiError(404, "NotFound", path)
            return {}
        if method == "POST" and path.endswith("/pods"):
            await cluster.create(body)
        elif method == "DELETE":
            await cluster.delete(path.rpartition("/")[2], body["preconditions"]["uid"])
        cluster.writes += 1
        if cluster.random.random() < cluster.faults.api_loses_answers:
            await asyncio.sleep(1.0)
            raise ApiError(0, "Unreachable", "no answer in time")
        return {}


class World:
    """One pool and all that acts on it."""

    def __init__(self, seed: int, spec: Mapping[str, Any]) -> None:
        self.random = random.Random(seed)
        self.faults = Faults()
        self.cluster = Cluster(self.random, self.faults)
        self.redis = Redis(self.cluster)
        self.pool = SandboxPool(
            name="p", namespace="n", uid="u", generation=1, deleting=False, status={},
            spec={"image": "i", "keySecret": {"name": "k"}, **spec},
        )  # fmt: skip
        self.operators: list[Operator] = []
        self.spent: set[str] = set()
        """Pods that nobody may get again: dirty, or their lease expired."""
        self.served = 0

    @property
    def now(self) -> float:
        return self.cluster.now

    def start_operator(self) -> "Operator":
        made = Operator(self)
        self.operators.append(made)
        return made

    def change(self, **spec: Any) -> None:
        self.pool = replace(self.pool, generation=self.pool.generation + 1, spec={**self.pool.spec, **spec})
        for operator in self.operators:
            operator.keeper.update(self.pool)

    def delete_pool(self) -> None:
        self.pool = replace(self.pool, deleting=True)
        for operator in self.operators:
            operator.keeper.update(self.pool)

    async def gateway(self, tenant: str) -> None:
        """Leases, runs, releases. Now and then it dies with what it has."""
        registry = SimRegistry(self.redis)
        while True:
            await asyncio.sleep(self.random.expovariate(5.0))
            try:
                lease = await registry.acquire(tenant, HOLD_SECONDS)
            except Unavailable:
                continue  # perhaps leased: the lease runs out
            if isinstance(lease, Lease):
                await self._run(registry, lease)

    async def _run(self, registry: SimRegistry, lease: Lease) -> None:
        pod, cluster = lease.pod, self.cluster
        truth = cluster.pods.get(pod)
        if truth is None or not truth.ready:
            await self._release(registry, lease, clean=False)  # nothing answers there
            return
        assert pod not in self.spent, f"{pod} was handed out though it is spent"
        running = cluster.busy.get(pod)
        assert running is None or running.lease.deadline <= self._redis_now(), f"{pod} has two leases"
        if running is not None:
            return  # the supervisor refuses: an older program still runs there
        seconds = self.random.uniform(0.05, 1.2 * HOLD_SECONDS if self.random.random() < 0.05 else 1.0)
        cluster.busy[pod] = Program(lease, self.now + seconds)
        await asyncio.sleep(seconds)
        if cluster.busy.get(pod) is not None and cluster.busy[pod].lease is lease:
            del cluster.busy[pod]
        self.served += 1
        if self.pool.single_use:
            cluster.finish(pod)
        if self.random.random() < self.faults.gateway_dies:
            self.spent.add(pod)
            return
        await self._release(registry, lease, clean=self.random.random() >= self.faults.dirty)

    async def _release(self, registry: SimRegistry, lease: Lease, clean: bool) -> None:
        if not clean or lease.deadline <= self._redis_now():
            self.spent.add(lease.pod)
        for _ in range(20):
            try:
                await registry.release(lease, clean)
            except Unavailable:
                await asyncio.sleep(0.5)
            else:
                return

    def _redis_now(self) -> float:
        return self.redis.tick().now

    def whole(self, replicas: int) -> str:
        """What is still wrong; empty once the pool is as it should be. Raises what an operator died of."""
        for operator in self.operators:
            operator.assert_lives()
        pods, entries = self.cluster.pods, self.redis.model.entries
        if len(pods) != replicas:
            return f"{len(pods)} pods of {replicas}: {sorted(pods.values(), key=lambda pod: pod.name)}"
        wrong = [pod for pod in pods.values() if not pod.ready or pod.template != self.pool.template_hash]
        if wrong:
            return f"not ready, or outdated: {wrong}"
        standing = {id: entry.pod.state for id, entry in entries.items()}
        if standing != dict.fromkeys(pods, PodState.IDLE):
            return f"the registry has {standing}"
        return ""


class Operator:
    """One process: a keeper, its watch, and the lease that it believes to have."""

    def __init__(self, world: World) -> None:
        self.leads = True
        self._world = world
        self.watch = world.cluster.watch(lambda _: self.keeper.poke())
        loop = asyncio.get_running_loop()
        self.keeper = Keeper(
            world.cluster.api(lambda: self.leads), self.watch, SimRegistry(world.redis), world.pool,  # type: ignore[arg-type]
            clock=loop.time,
        )  # fmt: skip
        self.task = loop.create_task(self.keeper.run())

    async def kill(self) -> None:
        """At whatever it is doing."""
        self._world.operators.remove(self)
        self.watch.close()
        self.task.cancel()
        await asyncio.wait([self.task])
        self.assert_lives()

    def assert_lives(self) -> None:
        """Raises what it died of, unless that was its successor."""
        fault = self.task.exception() if self.task.done() and not self.task.cancelled() else None
        if isinstance(fault, ExceptionGroup):
            fault = fault.split(Superseded)[1]
        if fault is not None:
            raise fault

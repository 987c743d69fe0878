"""The lease registry of one pool: nearly every method is one script, and a script is one round trip.

It keeps no state of its own: any number of gateways and operators may each use a Registry of the same
pool. It neither retries nor waits; a caller in wait listens to `wakeups` and asks again.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final, cast

from redis.asyncio import Redis

from warmpool.errors import QuotaExceeded, RetryLater, Superseded
from warmpool.registry.pods import Counts, Demand, Lease, Pod, Standing, micros, seconds
from warmpool.registry.scripts import Scripts, redis_away
from warmpool.registry.states import NoPod, PodState, Released, Retirement
from warmpool.registry.wakeups import Wakeups

QUOTA_RETRY_SECONDS: Final = 1.0  # a lease of the tenant may end at any moment; its deadline says nothing about when
GONE_SECONDS: Final = 600  # far longer than any registration is on its way
SKIPS_PER_CALL: Final = 16  # unfit pods that one script looks at: some 0.1 ms of Redis
SKIPPING_CALLS: Final = 64  # so one acquire passes over at most 1,024 unfit pods
PODS_PER_CALL: Final = 250  # of the calls that work through many pods: 0.5 to 3 ms of Redis each

LISTED: Final = (PodState.WARMING, PodState.IDLE, PodState.LEASED, PodState.RETIRING)
BOUND: Final = "bound"  # idle too, for one tenant each
SETS: Final = (*LISTED, BOUND)
# One object for all pods that stand alike: thousands of them are then one dictionary that no loop fills.
ALIKE: Final[Mapping[str, Standing]] = {
    **{state.value: Standing(state=state) for state in LISTED},
    BOUND: Standing(state=PodState.IDLE, bound=True),
}
MARKED: Final = Standing(state=PodState.LEASED, marked=True)
WORN: Final = Standing(state=PodState.RETIRING, worn=True)


class Registry:
    """The pods of one pool and who holds them.

    `redis` must decode responses and brings its own timeouts. `heartbeat_seconds` is how long a pod may go
    unseen. Of several processes that believe to own the pods the one that took over last is heard: announce, register,
    retire and remove raise errors.Superseded for the others. Without a `clock` the time is Redis's own, so that
    gateways with skewed clocks agree.
    Every method raises errors.Unavailable while Redis is away.
    """

    def __init__(
        self,
        redis: Redis,
        pool: str,
        *,
        heartbeat_seconds: float = 15.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if not redis.get_encoder().decode_responses:  # type: ignore[no-untyped-call]
            raise ValueError("the registry needs a Redis client made with decode_responses=True")
        self.pool = pool
        self._redis = redis
        self._term = 0
        self._root = f"warmpool:{{{pool}}}"
        self._heartbeat = micros(heartbeat_seconds)
        self._scripts = Scripts(redis, self._root, clock)

    async def take_over(self) -> None:
        """From now on this process owns the pods."""
        self._term = int(await self._scripts.call("take_over"))

    async def announce(self, pod: str) -> bool:
        """A pod is about to be made, and is warming. False if it is known already, or gone."""
        return bool(await self._own("announce", pod))

    async def register(
        self, pod: str, address: str, *, max_executions: int, max_age_seconds: float, per_tenant: bool = False
    ) -> bool:
        """The pod can serve: it becomes idle and a waiting caller is woken.

        `per_tenant` pods serve no other tenant than their first. A pod that has reached its age serves on until its
        owner, told by `aged`, retires it.
        False if it is known already (a live pod's lease is not touched) or gone.
        """
        bounds = (max_executions, micros(max_age_seconds), int(per_tenant))
        return bool(await self._own("register", pod, address, *bounds))

    async def heartbeat(self, pods: Sequence[str]) -> list[str]:
        """These pods are alive. Returns the ids that the registry does not know: Redis was lost, retire them."""
        unknown: list[str] = []
        for some in _portions(pods):
            unknown += await self._scripts.call("heartbeat", *some)
        return unknown

    async def unseen(self, seconds: float) -> dict[str, str]:
        """Idle pods that nobody has seen alive for so long, those seen last first, with their addresses.

        At most PODS_PER_CALL. Empty as long as whoever owns the pods keeps their heartbeat.
        """
        found: list[str] = await self._scripts.call("unseen", micros(seconds), PODS_PER_CALL)
        return dict(zip(found[::2], found[1::2], strict=True))

    async def next_up(self, most: int) -> dict[str, str]:
        """The pods that became idle last, which are leased next, with their addresses. None that is bound."""
        found: list[str] = await self._scripts.call("next_up", most)
        return dict(zip(found[::2], found[1::2], strict=True))

    async def acquire(
        self, *, execution: str, tenant: str, gateway: str, hold_seconds: float, quota: int
    ) -> Lease | NoPod:
        """Leases the pod that became idle last, one that is the tenant's own first.

        `quota` is the number of leases the tenant may hold in this pool, over all gateways; expired ones count
        until they are reaped. Raises QuotaExceeded. A cancelled call gives back what it may have leased.
        """
        attempt = asyncio.create_task(self._acquire(execution, tenant, gateway, hold_seconds, quota))
        try:
            return await asyncio.shield(attempt)
        except asyncio.CancelledError:
            # Redis may have run the script already; nobody would release the lease, and its pod would be lost.
            await self._give_back(attempt)
            raise

    async def renew(self, lease: Lease, hold_seconds: float) -> bool:
        """Moves the lease's deadline to `hold_seconds` from now. False if it expired or is not the pod's any more."""
        return bool(await self._scripts.call("renew", lease.pod, lease.fence, micros(hold_seconds)))

    async def release(self, lease: Lease, *, clean: bool, used: bool = True) -> Released:
        """Ends the lease. `clean` says that the execution left nothing behind; otherwise the pod is retired.

        Where nothing was run there, `used` is False: the pod is as if it had not been leased.
        """
        return Released(await self._scripts.call("release", lease.pod, lease.fence, int(clean), int(used)))

    async def retire(self, pod: str, reason: str) -> bool:
        """The pod is to be replaced: at once, or at its release while it is leased.

        `reason` is one CamelCase word. An unknown pod is recorded as retiring. False if that was decided before.
        """
        return bool(await self._own("retire", pod, reason))

    async def remove(self, pod: str) -> None:
        """The pod does not exist any more. Frees its lease; a late registration will not bring it back."""
        await self._own("remove", pod, GONE_SECONDS)

    async def destroy(self) -> None:
        """Removes every key of the pool. Only for a pool that has no pod and gets none any more."""
        await self._own("own")
        with redis_away():
            async for keys in _batches(self._redis.scan_iter(match=f"{self._root}:*", count=1000)):
                await self._redis.unlink(*keys)

    async def reap(self) -> list[str]:
        """Retires pods whose lease expired and pods that fell silent; returns their ids.

        A silent pod that is leased keeps its lease and retires at its end.
        """
        reaped: list[str] = []
        more = True
        while more:  # every call takes pods out of the sets that it looks at
            more, retired = await self._scripts.call("reap", self._heartbeat, PODS_PER_CALL)
            reaped += retired
        return reaped

    async def aged(self) -> list[str]:
        """Idle and leased pods that are to be replaced for their age, the oldest first, at most PODS_PER_CALL."""
        return cast("list[str]", await self._scripts.call("aged", PODS_PER_CALL))

    async def retiring(self) -> list[str]:
        """The pods to delete, the one that has waited longest first; `remove` takes a pod off the list."""
        with redis_away():
            return cast("list[str]", await self._redis.zrange(self._key(PodState.RETIRING), 0, -1))

    async def pods(self) -> list[Pod]:
        """Every pod. For people and for rebuilding: it costs time in the pool's size, and pods move meanwhile."""
        with redis_away():
            async with self._redis.pipeline() as pipeline:
                for name in SETS:
                    pipeline.zrange(self._key(name), 0, -1)
                sets = await pipeline.execute()
            ids = [pod for pods in sets for pod in pods]
            return [pod for some in _portions(ids) for pod in await self._read(some)]

    async def counts(self) -> Counts:
        """Pods by state, of one instant."""
        with redis_away():
            async with self._redis.pipeline() as pipeline:
                for name in SETS:
                    pipeline.zcard(self._key(name))
                warming, idle, leased, retiring, bound = await pipeline.execute()
        return Counts(warming=warming, idle=idle + bound, leased=leased, retiring=retiring)

    async def standings(self) -> dict[str, Standing]:
        """How every pod stands, by id, at a small part of what `pods` costs: for whoever owns the pods, and often."""
        with redis_away():
            async with self._redis.pipeline() as pipeline:
                for name in SETS:
                    pipeline.zrange(self._key(name), 0, -1)
                sets = await pipeline.execute()
            leased, retiring = sets[LISTED.index(PodState.LEASED)], sets[LISTED.index(PodState.RETIRING)]
            reasons: dict[str, str] = {}
            for some in _portions([*leased, *retiring]):
                reasons |= await self._reasons(some)
        found: dict[str, Standing] = {}
        for name, pods in zip(SETS, sets, strict=True):
            found |= dict.fromkeys(pods, ALIKE[name])
        found |= dict.fromkeys((pod for pod in leased if pod in reasons), MARKED)
        return found | dict.fromkeys((pod for pod in retiring if reasons.get(pod) == Retirement.MAX_EXECUTIONS), WORN)

    async def report_demand(self, gateway: str, demand: Demand) -> None:
        """What the gateway has counted since it started; `changes` tells of it when more callers wait than before."""
        counted = (demand.arrivals, demand.releases, micros(demand.held_seconds), demand.waiting)
        await self._scripts.call("demand", gateway, *counted)

    async def demands(self, silence_seconds: float) -> dict[str, Demand]:
        """By gateway; those that have reported nothing for so long are left out, and forgotten."""
        now, *found = await self._scripts.call("demands", micros(silence_seconds))
        return {gateway: Demand.from_text(text, now) for gateway, text in zip(found[::2], found[1::2], strict=True)}

    def wakeups(self) -> AbstractAsyncContextManager[AsyncIterator[None]]:
        """One item whenever a pod became idle, and one after Redis was away, in place of all that was missed.

        So an item means: acquire until there is nothing more. Nothing published after entering is missed while
        the connection holds; acquire once after entering.
        """
        return self._heard_on("wakeups")

    def changes(self) -> AbstractAsyncContextManager[AsyncIterator[None]]:
        """The same for whoever owns the pods: one item whenever a pod is to be replaced, or more callers wait."""
        return self._heard_on("changes")

    @asynccontextmanager
    async def _heard_on(self, channel: str) -> AsyncIterator[AsyncIterator[None]]:
        wakeups = Wakeups(self._redis, self._key(channel))
        try:
            await wakeups.open()
            yield wakeups
        finally:
            await wakeups.close()

    async def _acquire(
        self, execution: str, tenant: str, gateway: str, hold_seconds: float, quota: int
    ) -> Lease | NoPod:
        asked = (self._heartbeat, execution, tenant, gateway, micros(hold_seconds), quota, SKIPS_PER_CALL)
        for _ in range(SKIPPING_CALLS):
            match await self._scripts.call("acquire", *asked):
                case ["leased", pod, address, fence, deadline]:
                    return Lease(
                        pod=pod,
                        address=address,
                        execution=execution,
                        tenant=tenant,
                        gateway=gateway,
                        fence=int(fence),
                        deadline=seconds(deadline),
                    )
                case ["quota"]:
                    raise QuotaExceeded(retry_after=QUOTA_RETRY_SECONDS, quota=quota)
                case ["bound"]:
                    return NoPod.BOUND
                case ["empty"]:
                    return NoPod.EMPTY
        return NoPod.EMPTY

    async def _give_back(self, attempt: asyncio.Task[Lease | NoPod]) -> None:
        with suppress(RetryLater):  # Redis is away: at worst the lease expires and its pod is replaced
            lease = await attempt
            if isinstance(lease, Lease):
                await self.release(lease, clean=True, used=False)

    async def _own(self, script: str, *arguments: str | int) -> Any:
        """A step that only the pods' owner takes."""
        answer = await self._scripts.call(script, *arguments, self._term)
        if answer == "superseded":
            raise Superseded("Another operator has taken over the pool's pods.")
        return answer

    async def _reasons(self, ids: Sequence[str]) -> dict[str, str]:
        """Why pods retire, of those that do."""
        async with self._redis.pipeline() as pipeline:
            for id in ids:
                pipeline.hget(f"{self._root}:pod:{id}", "reason")
            reasons = await pipeline.execute()
        return {id: reason for id, reason in zip(ids, reasons, strict=True) if reason is not None}

    async def _read(self, ids: Sequence[str]) -> list[Pod]:
        async with self._redis.pipeline() as pipeline:
            for id in ids:
                pipeline.hgetall(f"{self._root}:pod:{id}")
                pipeline.zscore(self._key("seen"), id)
            replies = await pipeline.execute()
        read = zip(ids, replies[::2], replies[1::2], strict=True)
        return [Pod.from_record(id, record, seen) for id, record, seen in read if record.get("state") in LISTED]

    def _key(self, name: str) -> str:
        return f"{self._root}:{name}"


def _portions(pods: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(pods), PODS_PER_CALL):
        yield pods[start : start + PODS_PER_CALL]


async def _batches(keys: AsyncIterator[str]) -> AsyncIterator[list[str]]:
    batch: list[str] = []
    async for key in keys:
        batch.append(key)
        if len(batch) >= PODS_PER_CALL:
            yield batch
            batch = []
    if batch:
        yield batch

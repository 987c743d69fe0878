"""`make chaos MINUTES=60`: random faults under load on a real cluster, and then the question whether all is whole.

It installs a release of its own, has callers run programs without a pause, and kills, cuts off, stops and changes what
it can, by a schedule that its seed makes. Then it stops, waits for the release to be whole again, and judges: no pod
was leased twice, nothing ran twice, every caller was told the truth, nothing leaks. Exit code 1 where something is
wrong; it is printed with the seed and all that was done.
"""

import argparse
import asyncio
import json
import random
import shlex
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

sys.path.append(str(Path(__file__).parents[1]))  # `chaos`, `k8s`
sys.path.append(str(Path(__file__).parents[2]))  # `harness`

import aiohttp
from k8s import artefacts
from k8s.cluster import Cluster, Pools, connected
from k8s.release import PREFIX, Release, small
from k8s.service import TENANT, new_key
from k8s.wholeness import POOL, until_whole
from kubernetes.aio import client

from chaos import watch
from chaos.callers import Callers
from chaos.evidence import Evidence
from chaos.faults import MOST
from chaos.ground import Ground, first_processes
from chaos.judge import judge
from chaos.settled import PODS, kept, restarts_without_cause, settle
from chaos.storm import Storm
from chaos.told import Teller
from chaos.ways import Ways, ways
from warmpool.registry import Registry, connect
from warmpool_loadtests.figures import write

FOLDER: Final = Path(__file__).parents[3] / "benchmarks"
REDIS_SECONDS: Final = 5.0
"""For a command of the witness."""
WRITTEN_MINUTES: Final = 60.0
PRODUCTS: Final = 200
SURGE: Final = 2
"""A quarter of the pool's size, rounded up."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="of faults; default: %(default)s")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(1_000_000), help="of the schedule; default: another one each time"
    )
    parser.add_argument("--callers", type=int, default=8, help="programs at once; default: %(default)s")
    parser.add_argument(
        "--every",
        type=float,
        default=4.0,
        metavar="SECONDS",
        help="between two faults, on average; default: %(default)s",
    )
    parser.add_argument(
        "--restart-api-server", metavar="COMMAND", default="",
        help="stops the API server for {seconds} and starts it again; without it that fault is left out",
    )  # fmt: skip
    parser.add_argument(
        "--write", action="store_true", help="write benchmarks/chaos.json, as runs of 60 minutes or more do anyway"
    )
    return parser.parse_args()


@asynccontextmanager
async def installed(cluster: Cluster) -> AsyncIterator[Release]:
    demo = {"enabled": True, "products": PRODUCTS, "tenant": TENANT}
    two = {"replicas": 2}
    release = Release(
        f"{PREFIX}-chaos", small(operator=two, gateway=two, pool={"replicas": PODS}, catalog={"demo": demo})
    )
    await release.install(cluster)
    try:
        yield release
    finally:
        await release.end(cluster)


async def run(options: argparse.Namespace, teller: Teller) -> int:
    async with connected() as cluster, installed(cluster) as release:
        keys = {tenant: await new_key(cluster, release, tenant) for tenant in (TENANT, f"{TENANT}-other")}
        async with ways(cluster, release) as found, AsyncExitStack() as exits:
            redis = connect(found.redis, timeout_seconds=REDIS_SECONDS)
            exits.push_async_callback(redis.aclose)
            watched = watch.connect(found.redis)
            exits.push_async_callback(watched.aclose)
            connector = aiohttp.TCPConnector(force_close=True, limit=0)  # each request finds its gateway anew
            session = await exits.enter_async_context(aiohttp.ClientSession(found.gateway, connector=connector))
            ground = Ground(
                cluster=cluster, release=release, pools=Pools(cluster, release.sandboxes), redis=redis,
                watch=watch.Watch(watched, POOL), direct=found.direct,
                restart_api_server=shlex.split(options.restart_api_server),
            )  # fmt: skip
            callers = Callers(session, keys, random.Random(options.seed))
            storm = Storm(ground, random.Random(options.seed), teller.say)
            await until_whole(ground.pools, Registry(redis, POOL), PODS)
            for kind in left_out(ground, (await ground.pools.pods(POOL))[0]):
                teller.say(f"left out: {kind}")
            wrong, evidence = await pass_over(options, teller, ground, callers, storm, found)
        teller.conclude(callers, storm, wrong)
        figures = summary(options, storm, callers, evidence, wrong)
        if options.write or options.minutes >= WRITTEN_MINUTES:
            teller.say(f"written: {write(FOLDER, 'chaos', figures)}")
        teller.say(f"evidence: {await asyncio.to_thread(leave, options, evidence, wrong)}")
    teller.say(f"seed {options.seed}: {len(wrong)} things are wrong" if wrong else f"seed {options.seed}: all is whole")
    return 1 if wrong else 0


def left_out(ground: Ground, sandbox: client.V1Pod) -> Iterator[str]:
    """What cannot be done on this cluster."""
    if not ground.restart_api_server:
        yield "to stop the API server: there is no command for it (--restart-api-server)"
    if sandbox.metadata.uid not in first_processes():
        yield "to kill single processes: the node is another machine"
    if not ground.direct:
        yield "to end a gateway in order: without a route to their Service callers are sent to it until its end"


async def pass_over(
    options: argparse.Namespace, teller: Teller, ground: Ground, callers: Callers, storm: Storm, found: Ways
) -> tuple[list[str], Evidence]:
    """The faults, the calm after them, and what was wrong."""
    began = time.time()
    teller.begin()
    async with asyncio.TaskGroup() as group:
        watching = [
            group.create_task(work) for work in (ground.watch.run(), ground.look(), teller.show(callers, storm))
        ]
        await ground.watch.attached.wait()
        calling = group.create_task(callers.run(options.callers))
        await storm.run(60 * options.minutes, options.every)
        teller.say("no more faults")
        callers.stop()
        await calling
        wrong = await settle(ground)
        await callers.call_each(PODS)
        for task in watching:
            task.cancel()
    evidence = Evidence(
        seen=ground.watch.seen, most_pods=MOST + SURGE, faults=storm.faults, answers=callers.answers,
        kept=await kept(ground, found.postgres, began - 1), pods_at_once=ground.pods_at_once,
    )  # fmt: skip
    pods = await ground.cluster.pods(ground.release.namespace)
    return wrong + judge(evidence) + restarts_without_cause(pods, storm.faults), evidence


def summary(
    options: argparse.Namespace, storm: Storm, callers: Callers, evidence: Evidence, wrong: Sequence[str]
) -> dict[str, Any]:
    return {
        "minutes": options.minutes,
        "seed": options.seed,
        "callers": options.callers,
        "pods": PODS,
        "faults": dict(sorted(storm.by_kind.items())),
        "programs": dict(callers.kinds.most_common()),
        "longest_seconds_without_ok": round(callers.longest_without_ok, 1),
        "leases": len(evidence.seen.leases),
        "pods_at_once": evidence.pods_at_once,
        "times_that_redis_lost_all_data": len(evidence.seen.losses),
        "wrong": len(wrong),
    }


def leave(options: argparse.Namespace, evidence: Evidence, wrong: Sequence[str]) -> Path:
    """For whoever asks why, and how long callers had to wait for what."""
    name = f"chaos-{options.seed}"
    if wrong:
        sys.stdout.write(f"{artefacts.collect(name, chr(10).join(wrong))}\n")
    file = artefacts.FOLDER / name / "evidence.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asdict(evidence), indent=1, default=sorted))
    return file


def main() -> int:
    options, teller = arguments(), Teller()
    teller.say(f"chaos: {options.minutes:g} minutes, --seed {options.seed}")
    return asyncio.run(run(options, teller))


if __name__ == "__main__":
    sys.exit(main())

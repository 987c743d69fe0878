"""Programs from outside the cluster to a pod and back: what the caller hears, what is recorded, what tools give."""

import json
from typing import Any

import psycopg
from harness.caller import Caller
from harness.waiting import until
from k8s.cluster import Pools
from k8s.wholeness import POOL


async def test_a_program_from_outside_runs_in_a_pod_and_its_record_is_in_postgres(
    caller: Caller, pools: Pools, postgres: psycopg.AsyncConnection[Any]
):
    ran = await caller.run("print('hello')\nreturn {'answer': 6 * 7}")
    assert (ran["status"], ran["result"], ran["stdout"]) == ("ok", {"answer": 42}, "hello\n"), ran

    async def row() -> Any:
        asked = "SELECT status, result, pod, pool, clean FROM executions WHERE id = %s"
        return await (await postgres.execute(asked, [ran["id"]])).fetchone()

    status, result, pod, pool, clean = await until(row, 5, "the record")
    assert (status, result, pool, clean) == ("ok", {"answer": 42}, POOL, True)
    assert pod in {there.metadata.name for there in await pools.pods(POOL)}


LOOK_AROUND = """
import os, platform, sys
def tried(look):
    try:
        return repr(look())
    except Exception as fault:
        return repr(fault)
print(dict(os.environ), os.getcwd(), sys.argv, sys.path, os.getpid())
print(tried(platform.uname), tried(os.uname))
for path in ("/etc/hostname", "/etc/hosts", "/proc/self/mountinfo", "/proc/self/cgroup"):
    print(tried(lambda: open(path).read()))
print(tried(lambda: os.listdir("/")), tried(lambda: os.listdir("/etc/warmpool")))
raise ValueError("with a traceback")
"""


async def test_an_answer_names_nothing_of_its_pod_but_the_execution(caller: Caller, pools: Pools):
    """Not when the program looks around, nor where it fails: no name, address or node."""
    ran = await caller.run(LOOK_AROUND)
    assert ran["status"] == "user_error", ran
    text = json.dumps(ran)
    for pod in await pools.pods(POOL):
        for told in (pod.metadata.name, pod.metadata.uid, pod.status.pod_ip, pod.status.host_ip):
            assert told not in text
    (node,) = {pod.spec.node_name for pod in await pools.pods(POOL)}
    assert f"'{node}'" not in text


async def test_the_same_answer_is_read_back_by_its_id(caller: Caller):
    ran = await caller.run("return list(range(5))")
    found = await caller.get(f"/v1/executions/{ran['id']}")
    assert found.status == 200
    assert {name: found.body[name] for name in ran} == ran


SEARCH = """
from servers.search import get_product_details, search_products
found = search_products("lamp", limit=5)
return [get_product_details(product["id"])["title"] == product["title"] for product in found]
"""


async def test_a_program_searches_the_catalogue_through_the_tool_server(
    caller: Caller, catalogue: str, postgres: psycopg.AsyncConnection[Any]
):
    ran = await caller.run(SEARCH, seconds=10)
    assert (ran["status"], ran["result"]) == ("ok", [True] * 5), ran
    assert [call["tool"] for call in ran["tool_calls"]] == ["search.search_products"] + [
        "search.get_product_details"
    ] * 5

    async def audited() -> bool:
        asked = "SELECT count(*) FROM tool_calls WHERE execution = %s AND tenant = %s AND error IS NULL"
        return (await (await postgres.execute(asked, [ran["id"], catalogue])).fetchone()) == (6,)

    await until(audited, 10, "the tool server's own record of the calls")

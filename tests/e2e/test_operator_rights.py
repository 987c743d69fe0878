"""The chart's Roles are what their holders use: each verb, in that namespace, and no other.

Every request of a pool's whole life is written down and compared with the Roles. A verb that is not granted is refused
by the API server and missed here; one that nobody used is too many. To take each away in turn and live through a life
without it would say the same, thirteen times as slowly.
"""

import importlib.util
import itertools
import json
import re
import shutil
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final
from urllib.error import HTTPError

import pytest
import pytest_asyncio
import yaml
from harness.waiting import until
from k8s import own_operator
from k8s.cluster import Cluster, Object, connected
from k8s.helm import CHART, command, helm
from k8s.own_pool import OwnPool, prepared
from k8s.release import PREFIX
from kubernetes.aio import client
from redis.asyncio import Redis

RELEASE: Final = f"{PREFIX}-rights"
SANDBOXES: Final = f"{RELEASE}-sandboxes"
OPERATOR: Final = "warmpool-operator"
JOB: Final = "warmpool-pool"
DRAIN: Final = "warmpool-drain"
UNKNOWN, FORBIDDEN = 401, 403

names: Final = (f"applied-{number}" for number in itertools.count())

pytestmark = pytest.mark.timeout(180)

Right = tuple[str, str, str, str]
"""Namespace, API group, resource, verb."""


def rendered(*templates: str) -> list[Object]:
    shown = [word for name in templates for word in ("--show-only", f"templates/{name}.yaml")]
    text = helm("template", "warmpool", str(CHART), "--namespace", RELEASE, "--kube-version", "1.34.0", *shown)
    return [document for document in yaml.safe_load_all(text) if document]


def granted(objects: Iterable[Object], name: str) -> set[Right]:
    return {
        (role["metadata"]["namespace"], group, resource, verb)
        for role in objects
        if role["kind"] == "Role" and role["metadata"]["name"] == name
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


# -- what was asked


PATH: Final = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/[^/]+/namespaces/(?P<namespace>[^/]+)/(?P<kind>[^/]+)(?:/(?P<name>[^/]+))?(?P<part>/.+)?"
)
KINDS: Final = re.compile(r"/api|/api/v1|/apis|/apis/[^/]+/[^/]+")
"""Which kinds there are, the API server tells everyone."""
VERBS: Final = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class Asked:
    method: str
    url: str
    status: int

    @property
    def right(self) -> Right | None:
        """That it takes. None for what everyone is told. Raises ValueError for what lies in no namespace."""
        path, _, query = self.url.partition("?")
        if KINDS.fullmatch(path):
            return None
        found = PATH.fullmatch(path)
        if found is None:
            raise ValueError(self.url)
        reads = "watch" if "watch=true" in query else "get" if found["name"] else "list"
        verb = VERBS.get(self.method.upper(), reads)
        return found["namespace"], found["group"] or "", found["kind"] + (found["part"] or ""), verb


def asked(file: Path) -> list[Asked]:
    return [Asked(*json.loads(line)) for line in file.read_text().splitlines()]


def used(requests: Iterable[Asked]) -> set[Right]:
    return {right for request in requests if (right := request.right)}


# -- who asks


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def accounts(definition: None) -> AsyncIterator[None]:
    """Two namespaces with the chart's accounts and Roles, and nothing else of it."""
    async with (
        connected() as cluster,
        own_operator.namespace(cluster, RELEASE),
        own_operator.namespace(cluster, SANDBOXES),
    ):
        command("kubectl", "apply", "--filename", "-", given=yaml.safe_dump_all(rendered("rbac", "serviceaccounts")))
        yield


async def token_of(cluster: Cluster, account: str) -> str:
    asked = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=600))
    made = await cluster.core.create_namespaced_service_account_token(account, RELEASE, asked)
    return str(made.status.token)


@pytest.fixture
async def pool(
    cluster: Cluster, accounts: None, own_redis: Redis, redis_url: str, operator_log: Path, tmp_path: Path
) -> AsyncIterator[OwnPool]:
    account = own_operator.as_bearer(await token_of(cluster, OPERATOR), tmp_path / "kubeconfig")
    async with prepared("default", cluster, SANDBOXES, own_redis, redis_url, operator_log) as made:
        made.variables.update(WARMPOOL_OPERATOR__LEASE_NAMESPACE=RELEASE, KUBECONFIG=account)
        made.variables.update(WARMPOOL_OPERATOR__LEASE_NAME=OPERATOR)
        yield made


async def test_the_operator_and_whoever_drains_use_each_of_their_rights_and_need_no_other(
    cluster: Cluster, pool: OwnPool, tmp_path: Path
):
    files = first, second, third = [tmp_path / name for name in ("first", "second", "third")]
    draining = own_operator.as_bearer(await token_of(cluster, DRAIN), tmp_path / "drain.kubeconfig")
    async with pool.operator("--loses", "make", "--requests", str(first)) as leading:
        await pool.create(replicas=2)
        await pool.until_whole(2)
        async with pool.operator("--requests", str(second), WARMPOOL_OPERATOR__IDENTITY="second") as next_one:
            leading.terminate()
            await pool.change(replicas=1)
            await pool.until_whole(1)
            async with pool.operator("drain", "--requests", str(third), KUBECONFIG=draining) as drain:
                assert await drain.wait() == 0
            next_one.terminate()
            assert await next_one.wait() == 0
    assert len(pool.seen.names) == 2, "the pod whose making was not answered for was asked after, not made again"
    requests = [request for file in files for request in asked(file)]
    assert [request for request in requests if request.status in (UNKNOWN, FORBIDDEN)] == []
    roles = rendered("rbac")
    assert used(asked(first) + asked(second)) == granted(roles, OPERATOR)
    assert used(asked(third)) == granted(roles, DRAIN)


def test_every_rule_is_of_one_namespace():
    assert {document["kind"] for document in rendered("rbac")} == {"Role", "RoleBinding"}


# -- the job that applies the pool


@pytest.fixture
async def job(cluster: Cluster, accounts: None, tmp_path: Path) -> ModuleType:
    """The chart's program, as its pod runs it."""
    spec = importlib.util.spec_from_file_location("apply", CHART / "files/pool/apply.py")
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    (tmp_path / "token").write_text(await token_of(cluster, JOB))
    shutil.copy(cluster.api.configuration.ssl_ca_cert, tmp_path / "ca.crt")
    program.ACCOUNT, program.API_SERVER = tmp_path, cluster.api.configuration.host
    return program


async def test_the_job_that_applies_the_pool_needs_each_of_its_rights_and_no_other(cluster: Cluster, job: ModuleType):
    """One request takes several, so they are taken away in turn."""
    (role,) = (one for one in rendered("rbac") if one["kind"] == "Role" and one["metadata"]["name"] == JOB)
    verbs = role["rules"][0]["verbs"]
    for missing in verbs:
        await allow(cluster, role, [verb for verb in verbs if verb != missing])
        await until(lambda: refusal(job) == FORBIDDEN, 10, f"it needs {missing}")
    await allow(cluster, role, verbs)
    await until(lambda: refusal(job) is None, 10, "with all of them it can")


async def allow(cluster: Cluster, role: Object, verbs: list[str]) -> None:
    body = {"rules": [{**role["rules"][0], "verbs": verbs}]}
    await client.RbacAuthorizationV1Api(cluster.api).patch_namespaced_role(role["metadata"]["name"], SANDBOXES, body)


def refusal(job: ModuleType) -> int | None:
    """Of making a pool, and of changing it."""
    name = next(names)  # else an API server that has not heard of the change yet would make it once for all
    try:
        for replicas in (0, 1):
            job.apply(sandbox_pool(name, replicas))
    except HTTPError as fault:
        return fault.code
    return None


def sandbox_pool(name: str, replicas: int) -> Object:
    spec = own_operator.spec(replicas=replicas)
    metadata = {"name": name, "namespace": SANDBOXES}
    return {"apiVersion": "warmpool.dev/v1alpha1", "kind": "SandboxPool", "metadata": metadata, "spec": spec}

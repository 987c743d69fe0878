"""`warmpool pool`, against an API server on a socket."""

import asyncio
import json
import threading
from collections.abc import Iterator

import pytest
from aiohttp import web
from click.testing import CliRunner

from warmpool_operator.pool_cli import pool

POOLS = "/apis/warmpool.dev/v1alpha1/namespaces/n/sandboxpools"


class Server:
    """One pool of which a test says all; its pods go once nobody wants them."""

    def __init__(self) -> None:
        self.pool = {
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 1},
            "spec": {"replicas": 2, "image": "i", "keySecret": {"name": "k"}},
            "status": {"observedGeneration": 1, "desired": 2, "readyReplicas": 2, "idle": 1, "leased": 1},
        }
        self.pods = [{"metadata": {"name": f"p-{n}", "uid": str(n), "labels": {}}} for n in range(2)]
        self.patched: list[object] = []
        self.holds = False

    async def pools(self, _: web.Request) -> web.Response:
        return web.json_response({"items": [self.pool]})

    async def list_pods(self, request: web.Request) -> web.Response:
        assert request.query["labelSelector"] == "warmpool.dev/pool=p"
        if self.patched and not self.holds:
            self.pods = self.pods[1:]
        return web.json_response({"items": self.pods})

    async def patch(self, request: web.Request) -> web.Response:
        self.patched.append(await request.json())
        return web.json_response({})


@pytest.fixture
def server(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made, started, ended = Server(), threading.Event(), []

    async def serve() -> None:
        app = web.Application()
        app.router.add_get(POOLS, made.pools)
        app.router.add_patch(POOLS + "/p", made.patch)
        app.router.add_get("/api/v1/namespaces/n/pods", made.list_pods)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}],
            "users": [{"name": "c", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        }  # fmt: skip
        file = f"{tmp_path}/kubeconfig"
        with open(file, "w") as out:
            json.dump(config, out)
        monkeypatch.setenv("KUBECONFIG", file)
        end = asyncio.Event()
        ended.append((asyncio.get_running_loop(), end))
        started.set()
        await end.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    started.wait(10)
    yield made
    loop, end = ended[0]
    loop.call_soon_threadsafe(end.set)
    thread.join()


def run(*words: str) -> tuple[int, str]:
    ran = CliRunner().invoke(pool, [*words, "--namespace", "n"])
    return ran.exit_code, ran.output


def test_status_shows_every_pool_with_its_counts(server: Server) -> None:
    code, said = run("status")
    assert code == 0, said
    head, line, *_ = said.splitlines()
    assert head.split() == ["pool", "desired", "ready", "idle", "leased", "warming", "retiring"]
    assert line.split() == ["p", "2", "2", "1", "1", "0", "0"]


def test_explain_says_that_all_is_well(server: Server) -> None:
    assert run("explain", "p") == (0, "1 of 2 pods are idle: a caller gets one at once.\n")


def test_a_pool_that_is_not_there_is_an_error_that_names_those_that_are(server: Server) -> None:
    code, said = run("explain", "q")
    assert code == 1
    assert "no SandboxPool 'q' in namespace n; there: p" in said


def test_drain_waits_for_the_last_pod_and_says_how_to_fill_it_again(server: Server) -> None:
    code, said = run("drain", "p")
    assert code == 0, said
    assert server.patched == [{"spec": {"replicas": 0, "autoscale": None, "paused": False}}]
    assert "kubectl scale sbp/p --namespace n --replicas=N" in said


def test_drain_gives_up_when_its_time_is_over(server: Server) -> None:
    server.holds = True
    code, said = run("drain", "p", "--timeout", "0")
    assert code == 1
    assert "2 pods of p are still there after 0 s" in said

"""The informer against an API server on a socket that says what a real one says on its worse days."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio import client

from warmpool_operator import informer as informer_module
from warmpool_operator.api import Api
from warmpool_operator.informer import Informer, Pod

Script = list[Callable[[web.StreamResponse], Awaitable[None]]]


def body(name: str, version: int = 1, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name, "uid": f"uid-{name}", "resourceVersion": str(version),
            "labels": {"warmpool.dev/pool": "p", "warmpool.dev/template": "t"},
        },
        "status": {"phase": "Running", "podIP": "10.0.0.1", **status},
    }  # fmt: skip


class Server:
    """Lists `pods`, two a page; each watch plays the next of `watches` and then stays silent."""

    def __init__(self) -> None:
        self.pods: list[dict[str, Any]] = []
        self.lists = 0
        self.watches: Script = []
        self.asked: list[dict[str, str]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        self.asked.append(query)
        if "watch" not in query:
            self.lists += "continue" not in query
            start = int(query.get("continue", 0))
            more = {"continue": str(start + 2)} if start + 2 < len(self.pods) else {}
            return web.json_response(
                {"metadata": {"resourceVersion": "7", **more}, "items": self.pods[start : start + 2]}
            )
        response = web.StreamResponse()
        await response.prepare(request)
        if self.watches:
            await self.watches.pop(0)(response)
            return response
        await asyncio.Event().wait()
        return response


def says(*events: object) -> Callable[[web.StreamResponse], Awaitable[None]]:
    async def play(response: web.StreamResponse) -> None:
        for event in events:
            await response.write(event if isinstance(event, bytes) else json.dumps(event).encode() + b"\n")

    return play


class Watched:
    """An informer at work, and what it told."""

    def __init__(self, informer: Informer) -> None:
        self.informer = informer
        self.told: list[str] = []
        self.changed = asyncio.Event()

    def tell(self, pool: str) -> None:
        self.told.append(pool)
        self.changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():
                await self.changed.wait()
                self.changed.clear()


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def watched(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[], Watched]]:
    monkeypatch.setattr(informer_module, "BACK_OFF_SECONDS", (0.0,))
    app = web.Application()
    app.router.add_get("/api/v1/namespaces/n/pods", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    api = Api(client.ApiClient(client.Configuration(host=f"http://127.0.0.1:{port}")))
    tasks: list[asyncio.Task[None]] = []

    def start() -> Watched:
        made: Watched
        made = Watched(Informer(api, "n", lambda pool: made.tell(pool)))
        tasks.append(asyncio.create_task(made.informer.run()))
        return made

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await api.close()
    await runner.cleanup()


async def test_it_lists_page_by_page_and_follows_from_that_version(
    server: Server, watched: Callable[[], Watched]
) -> None:
    server.pods = [body(f"p-{index}") for index in range(5)]
    one = watched()
    await one.until(lambda: len(one.informer.of_pool("p")) == 5)
    await one.informer.synced.wait()

    server.watches.append(says())
    watches = [query for query in server.asked if "watch" in query]
    assert server.lists == 1
    assert all(query["resourceVersion"] == "7" and query["allowWatchBookmarks"] == "true" for query in watches)


async def test_it_takes_over_what_the_watch_says(server: Server, watched: Callable[[], Watched]) -> None:
    server.pods = [body("a"), body("b")]
    server.watches.append(
        says(
            {"type": "ADDED", "object": body("c", 8)},
            {"type": "DELETED", "object": body("a", 9)},
            {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "12"}}},
        )
    )
    one = watched()

    await one.until(lambda: set(one.informer.of_pool("p")) == {"b", "c"})


async def test_lines_are_whole_however_they_arrive(server: Server, watched: Callable[[], Watched]) -> None:
    events = [{"type": "ADDED", "object": body(name, 8)} for name in ("a", "b", "c")]
    text = b"".join(json.dumps(event).encode() + b"\n" for event in events)
    seen = asyncio.Event()

    async def in_pieces(response: web.StreamResponse) -> None:
        cut = text.index(b"\n") + 20
        await response.write(text[:cut])
        await seen.wait()
        await response.write(text[cut:])
        await asyncio.Event().wait()

    server.watches.append(in_pieces)
    one = watched()
    await one.until(lambda: set(one.informer.of_pool("p")) == {"a"})
    seen.set()

    await one.until(lambda: set(one.informer.of_pool("p")) == {"a", "b", "c"})
    assert server.lists == 1


async def test_a_change_that_no_pool_asks_for_wakes_none(server: Server, watched: Callable[[], Watched]) -> None:
    server.pods = [body("a")]
    annotated = body("a", 8)
    annotated["metadata"]["annotations"] = {"of": "somebody else"}
    server.watches.append(
        says(
            {"type": "MODIFIED", "object": annotated},
            {"type": "MODIFIED", "object": body("a", 9, podIP="10.0.0.2")},
        )
    )
    one = watched()

    await one.until(lambda: "a" in one.informer.of_pool("p") and one.informer.of_pool("p")["a"].ip == "10.0.0.2")
    assert one.told == ["p", "p"]  # of the list, and of the address


async def test_a_version_that_is_too_old_makes_it_list_again(server: Server, watched: Callable[[], Watched]) -> None:
    server.pods = [body("a")]

    async def gone(response: web.StreamResponse) -> None:
        server.pods = [body("b")]
        await says({"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old"}})(response)

    server.watches.append(gone)
    one = watched()

    await one.until(lambda: set(one.informer.of_pool("p")) == {"b"})
    assert server.lists == 2


async def test_a_line_that_ends_early_makes_it_list_again(server: Server, watched: Callable[[], Watched]) -> None:
    async def cut(response: web.StreamResponse) -> None:
        server.pods = [body("b")]
        await says(b'{"type": "ADDED", "obj')(response)

    server.watches.append(cut)
    one = watched()

    await one.until(lambda: set(one.informer.of_pool("p")) == {"b"})


async def test_a_watch_that_fell_silent_makes_it_list_again(
    server: Server, watched: Callable[[], Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(informer_module, "SILENCE_SECONDS", 0.2)

    async def silent(response: web.StreamResponse) -> None:
        server.pods = [body("b")]
        await asyncio.Event().wait()

    server.watches.append(silent)
    one = watched()

    await one.until(lambda: set(one.informer.of_pool("p")) == {"b"})
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("status", "trouble"),
    [
        ({"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]}, "ImagePullBackOff"),
        ({"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}, None),
        ({"containerStatuses": [{"state": {"terminated": {"exitCode": 3, "message": "no"}}}]}, "Exit3"),
        ({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}, "Unschedulable"),
        ({"phase": "Failed", "reason": "Evicted"}, "Evicted"),
        ({"conditions": [{"type": "Ready", "status": "True"}]}, None),
    ],
)
def test_why_a_pod_does_not_serve_is_kubernetes_own_word(status: dict[str, Any], trouble: str | None) -> None:
    assert Pod.from_object(body("a", **status)).trouble == trouble


@pytest.mark.parametrize(
    ("status", "dead"),
    [
        ({"phase": "Succeeded"}, True),
        ({"phase": "Failed", "reason": "Evicted"}, True),
        ({"phase": "Running", "containerStatuses": [{"state": {"terminated": {"exitCode": 0}}}]}, True),
        ({"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}, False),
        ({"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}]}, False),
    ],
)
def test_a_pod_whose_container_has_ended_is_dead_before_its_phase_says_so(status: dict[str, Any], dead: bool) -> None:
    assert Pod.from_object(body("a", **status)).dead is dead

"""As much of an API server as a keeper talks to, on a real socket: pods with a watch, a pool's status, events.

Pods stay as they are made until a test says what became of them, as it would say of a kubelet.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from kubernetes.aio import client

from warmpool_operator.api import Api

PODS = "/api/v1/namespaces/n/pods"


class ApiServer:
    def __init__(self) -> None:
        self.pods: dict[str, dict[str, Any]] = {}
        self.created = 0
        self.asked = 0
        """For a pod, whether it was made or refused."""
        self.statuses: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.refusal: tuple[int, str] | None = None
        """Status and message that the next creations get."""
        self.hidden = False
        """Whether the watch keeps changes to itself: a cache that lags."""
        self.graces: dict[str, int | None] = {}
        """Seconds that each deleted pod was given; None for its own."""
        self._version = 1
        self._watchers: set[asyncio.Queue[dict[str, Any]]] = set()

    def become(self, name: str, **status: Any) -> None:
        self.pods[name]["status"] = status
        self._changed("MODIFIED", self.pods[name])

    def serve(self, name: str) -> None:
        """The pod passed its probe."""
        ready = {"type": "Ready", "status": "True"}
        self.become(name, phase="Running", podIP="10.0.0.9", conditions=[ready])

    def vanish(self, name: str) -> None:
        self._changed("DELETED", self.pods.pop(name))

    def condition(self, kind: str) -> tuple[str, str]:
        conditions = self.statuses[-1]["conditions"] if self.statuses else []
        return next(((one["status"], one["reason"]) for one in conditions if one["type"] == kind), ("", ""))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Api]:
        app = web.Application()
        app.router.add_get(PODS, self._list)
        app.router.add_post(PODS, self._create)
        app.router.add_delete(PODS + "/{name}", self._delete)
        app.router.add_post("/api/v1/namespaces/n/events", self._event)
        app.router.add_patch("/apis/warmpool.dev/v1alpha1/namespaces/n/sandboxpools/p/status", self._status)
        runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        api = Api(client.ApiClient(client.Configuration(host=f"http://127.0.0.1:{port}")))
        try:
            yield api
        finally:
            await api.close()
            await runner.cleanup()

    def _changed(self, kind: str, pod: dict[str, Any]) -> None:
        self._version += 1
        pod["metadata"]["resourceVersion"] = str(self._version)
        if not self.hidden:
            for watcher in self._watchers:
                watcher.put_nowait({"type": kind, "object": json.loads(json.dumps(pod))})

    async def _list(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            metadata = {"resourceVersion": str(self._version)}
            return web.json_response({"metadata": metadata, "items": list(self.pods.values())})
        response = web.StreamResponse()
        await response.prepare(request)
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._watchers.add(queue)
        try:
            while True:
                await response.write(json.dumps(await queue.get()).encode() + b"\n")
        finally:
            self._watchers.discard(queue)

    async def _create(self, request: web.Request) -> web.Response:
        self.asked += 1
        if self.refusal is not None:
            status, message = self.refusal
            return web.json_response({"reason": "Forbidden", "message": message}, status=status)
        pod = await request.json()
        self.created += 1
        pod["metadata"]["uid"] = f"uid-{self.created}"
        pod["status"] = {"phase": "Pending"}
        self.pods[pod["metadata"]["name"]] = pod
        self._changed("ADDED", pod)
        return web.json_response(pod, status=201)

    async def _delete(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.pods:
            return web.json_response({"reason": "NotFound", "message": name}, status=404)
        self.graces[name] = (await request.json()).get("gracePeriodSeconds")
        self.vanish(name)
        return web.json_response({"kind": "Status"})

    async def _event(self, request: web.Request) -> web.Response:
        self.events.append(await request.json())
        return web.json_response({}, status=201)

    async def _status(self, request: web.Request) -> web.Response:
        self.statuses.append((await request.json())["status"])
        return web.json_response({})


async def until(holds: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Looks every 10 ms; a keeper looks by itself once a second at the latest."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.01)
    assert holds(), what

"""The Kubernetes API as the operator uses it: dictionaries over the client of kubernetes.aio, each call with a timeout.

The typed models are left out: building them costs more than everything else that is done with a pod.
"""

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson
from kubernetes.aio import client, config

from warmpool.errors import Unavailable
from warmpool_operator import metrics

TIMEOUT_SECONDS: Final = 10.0
GATHER_SECONDS: Final = 0.05
"""Between two reads of a watch, where an event follows another in half that time. Most of an event's cost is in waking
up for it, and pods change by the dozen: together they cost two thirds."""
GATHER_BYTES: Final = 32 * 1024
"""Of a read after which there is more to be read at once."""
MERGE_PATCH: Final = "application/merge-patch+json"


class ApiError(Exception):
    """The API server refused, or did not answer: then `status` is 0."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class NotLeading(ApiError):
    """Nothing was sent: another operator may lead by now."""

    def __init__(self) -> None:
        super().__init__(403, "NotLeading", "the lease has run out")


class Api:
    """One connection pool. `close` it. Nothing is written while `may_write` says no."""

    def __init__(self, api_client: client.ApiClient, may_write: Callable[[], bool] = lambda: True) -> None:
        self._client = api_client
        self.may_write = may_write

    @classmethod
    async def connect(cls) -> "Api":
        """With the pod's service account, whose token is read again as it rotates; else with the kubeconfig.

        Raises Unavailable where there is neither.
        """
        configuration = client.Configuration()
        try:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except config.ConfigException:
            await _load_kubeconfig(configuration)
        # Else aiohttp asks a thread for the proxy and for ~/.netrc before each request: a quarter of its cost.
        configuration.proxy = configuration.proxy or _proxy(configuration.host)
        configuration.client_session_kwargs = {"trust_env": False}
        return cls(client.ApiClient(configuration))

    def fenced(self, may_write: Callable[[], bool]) -> "Api":
        """The same connections for whoever may write only while it leads."""
        return Api(self._client, may_write)

    async def close(self) -> None:
        await self._client.close()  # type: ignore[no-untyped-call]

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        patch: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> dict[str, Any]:
        """The object that the server answers with. Raises ApiError."""
        if method != "GET" and not self.may_write():
            raise NotLeading
        response = await self._request(method, path, body, query or {}, patch, timeout_seconds)
        try:
            async with response.response:
                text = await response.read()
        except (TimeoutError, aiohttp.ClientError) as fault:
            raise ApiError(0, "Unreachable", str(fault) or "no answer in time") from fault
        answer: dict[str, Any] = (
            orjson.loads(text) if text.startswith(b"{") else {"message": text.decode(errors="replace")}
        )
        if response.status >= 400:
            raise ApiError(response.status, answer.get("reason", "Error"), answer.get("message", ""))
        return answer

    async def lines(self, path: str, query: Mapping[str, str], silence_seconds: float) -> AsyncIterator[bytes]:
        """A watch's lines, some milliseconds late, until the server ends it. Raises ApiError, also after a silence."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT_SECONDS, sock_read=silence_seconds)
        response = await self._request("GET", path, None, query, None, timeout)
        async with response.response as stream:
            try:
                if response.status >= 400:
                    raise ApiError(response.status, "Error", (await stream.read()).decode(errors="replace")[:500])
                rest, read_at = b"", -math.inf
                async for some in stream.content.iter_any():
                    *lines, rest = (rest + some).split(b"\n")
                    if not lines:
                        continue
                    waited = time.monotonic() - read_at
                    for line in lines:
                        yield line
                    if waited < GATHER_SECONDS / 2 and len(some) < GATHER_BYTES:
                        await _gather(stream)
                    read_at = time.monotonic()
                if rest:
                    yield rest
            except (TimeoutError, aiohttp.ClientError) as fault:
                raise ApiError(0, "Unreachable", str(fault) or "the watch fell silent") from fault

    async def _request(
        self, method: str, path: str, body: Any, query: Mapping[str, str], patch: str | None, timeout: Any
    ) -> Any:
        headers = {"Accept": "application/json", "Content-Type": patch or "application/json"}
        pairs = list(query.items())
        await self._client.update_params_for_auth(headers, pairs, ["BearerToken"], path, method, body)
        _, url, headers, body, _ = await _serialized(self._client, method, path, pairs, headers, body)
        try:
            response = await self._client.call_api(method, url, headers, body, _request_timeout=timeout)
        except (TimeoutError, aiohttp.ClientError, OSError) as fault:
            metrics.requested("WATCH" if "watch" in query else method, path, 0)
            raise ApiError(0, "Unreachable", str(fault) or "no answer in time") from fault
        metrics.requested("WATCH" if "watch" in query else method, path, response.status)
        return response


async def _gather(stream: aiohttp.ClientResponse) -> None:
    """Leaves what comes meanwhile unread, so that nobody is woken for it."""
    transport = stream.connection and stream.connection.transport  # None once the last of it has come
    if transport:
        transport.pause_reading()
    await asyncio.sleep(GATHER_SECONDS)
    if transport:
        transport.resume_reading()


def _proxy(url: str) -> str | None:
    """Of the environment, as any program would take it."""
    host = urlsplit(url).hostname
    return None if host is None or proxy_bypass(host) else getproxies().get(urlsplit(url).scheme)


async def _load_kubeconfig(configuration: client.Configuration) -> None:
    try:
        await config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=os.environ.get("KUBECONFIG"), client_configuration=configuration
        )
    except config.ConfigException as fault:
        raise Unavailable(f"No cluster is named: set KUBECONFIG ({fault}).", retry_after=0) from fault


async def _serialized(api: client.ApiClient, method: str, path: str, query: Any, headers: Any, body: Any) -> Any:
    made = api.param_serialize(method, path, query_params=query, header_params=headers, body=body)
    return await made if hasattr(made, "__await__") else made

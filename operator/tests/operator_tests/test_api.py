"""How the operator comes to its API server."""

import asyncio
from pathlib import Path

import pytest
from kubernetes.aio import client

from warmpool_operator.api import Api, ApiError

KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://api.example.com:6443"}}]
users: [{name: u, user: {token: t}}]
"""


@pytest.mark.parametrize(
    ("excepted", "proxy"), [("", "http://proxy.example.com:3128"), ("api.example.com", None), ("*", None)]
)
async def test_the_environment_names_the_proxy_to_the_api_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, excepted: str, proxy: str | None
) -> None:
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    for name in ("https_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    monkeypatch.setenv("NO_PROXY", excepted)

    api = await Api.connect()
    try:
        assert api._client.configuration.proxy == proxy
    finally:
        await api.close()


async def test_a_watch_whose_refusal_breaks_off_fails_like_any_other() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 100\r\n\r\nthe begin")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        api = Api(client.ApiClient(client.Configuration(host=f"http://127.0.0.1:{port}")))
        try:
            with pytest.raises(ApiError):
                async for _ in api.lines("/api/v1/namespaces/n/pods", {"watch": "1"}, silence_seconds=5):
                    pass
        finally:
            await api.close()

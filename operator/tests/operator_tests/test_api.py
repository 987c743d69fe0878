"""How the operator comes to its API server."""

from pathlib import Path

import pytest

from warmpool_operator.api import Api

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

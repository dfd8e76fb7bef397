"""How the client checks the server, also when its authority is replaced."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from taskctl.embedded.server.access.certificates import Certificates, ensure_certificates
from taskctl.errors import Unavailable
from taskctl.kube.client import KubeClient
from taskctl.kube.config import ClientSettings, Surroundings
from taskctl.kube.retry import RetryPolicy


def make() -> Certificates:
    return ensure_certificates(None, (), datetime.now(UTC))


@pytest.fixture
async def server() -> AsyncIterator[tuple[int, Certificates, list[str]]]:
    """A server under one authority; yields its port, that, and the tokens that it was shown."""
    heard: list[str] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        heard.append(request.headers.get("Authorization", ""))
        return web.json_response({"kind": "Status", "status": "Success"})

    certificates = make()
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificates.server_context()).start()
    yield runner.addresses[0][1], certificates, heard
    await runner.cleanup()


def kubeconfig(path: Path, port: int, authority: bytes | None) -> Path:
    cluster: dict[str, Any] = {"server": f"https://127.0.0.1:{port}"}
    if authority is not None:
        cluster["certificate-authority-data"] = base64.b64encode(authority).decode()
    content = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "hush"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(content))
    return path


def settings(path: Path) -> ClientSettings:
    return ClientSettings(kubeconfig=path, retry=RetryPolicy(attempts=1))


async def test_a_token_is_shown_only_to_whom_the_authority_vouches_for(
    server: tuple[int, Certificates, list[str]], tmp_path: Path
) -> None:
    port, _, heard = server
    for authority in (make().authority_pem, None):
        path = kubeconfig(tmp_path / "k", port, authority)
        async with await KubeClient.connect(settings(path)) as client:
            with pytest.raises(Unavailable, match=r"TLS connection .* failed"):
                await client.request("GET", "/api")
    assert heard == []


async def test_a_replaced_authority_is_followed(
    server: tuple[int, Certificates, list[str]], tmp_path: Path
) -> None:
    port, certificates, heard = server
    path = kubeconfig(tmp_path / "k", port, make().authority_pem)
    async with await KubeClient.connect(settings(path)) as client:
        with pytest.raises(Unavailable):
            await client.request("GET", "/api")
        kubeconfig(path, port, b"rubbish")
        with pytest.raises(Unavailable):
            await client.request("GET", "/api")
        path.unlink()
        with pytest.raises(Unavailable):
            await client.request("GET", "/api")
        kubeconfig(path, port, certificates.authority_pem)
        with pytest.raises(Unavailable):
            await client.request("GET", "/api")
        await client.request("GET", "/api")
    assert heard == ["Bearer hush"]


async def test_a_replaced_authority_is_followed_inside_a_pod(
    server: tuple[int, Certificates, list[str]], tmp_path: Path
) -> None:
    from taskctl.kube.client import find_connection

    port, certificates, heard = server
    for name, text in (("token", "hush"), ("namespace", "n")):
        (tmp_path / name).write_text(text)
    (tmp_path / "ca.crt").write_bytes(make().authority_pem)
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(port)}
    around = Surroundings(environ, tmp_path, tmp_path, tmp_path)
    options = ClientSettings(retry=RetryPolicy(attempts=1))
    connection = await find_connection(options, around)
    async with KubeClient(connection, options) as client:
        with pytest.raises(Unavailable):
            await client.request("GET", "/api")
        (tmp_path / "ca.crt").write_bytes(certificates.authority_pem)
        with pytest.raises(Unavailable):
            await client.request("GET", "/api")
        await client.request("GET", "/api")
    assert heard == ["Bearer hush"]

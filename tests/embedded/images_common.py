"""Parts of images for tests, and a small registry on the loopback address."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from tests import image_builder as build
from tests.image_builder import Image, Item


def _busybox() -> Path | None:
    found = shutil.which("busybox")
    if found is None:
        return None
    told = subprocess.run(["file", "-L", found], capture_output=True, text=True, check=False)
    return Path(found) if "dynamically" not in told.stdout else None


BUSYBOX = _busybox()
_APPLETS = [
    "sh",
    "cat",
    "echo",
    "env",
    "false",
    "grep",
    "id",
    "ls",
    "mkdir",
    "pwd",
    "rm",
    "sleep",
    "touch",
    "tr",
    "true",
    "wc",
]


def base_layer() -> bytes:
    """busybox, two users, and directories that the tests look for."""
    assert BUSYBOX is not None
    return build.layer(
        [
            build.directory("bin"),
            Item("bin/busybox", BUSYBOX.read_bytes(), mode=0o755),
            *(build.hard(f"bin/{name}", "bin/busybox") for name in _APPLETS),
            build.directory("etc"),
            Item("etc/passwd", b"root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/data:/bin/sh\n"),
            Item("etc/group", b"root:x:0:\napp:x:1000:\n"),
            build.directory("data", 0o777),
            build.directory("opt", 0o777),
            Item("opt/file", b"content\n"),
            Item("set-id", BUSYBOX.read_bytes()[:64], mode=0o6755),
            build.directory("tmp", 0o1777),
        ]
    )


class Registry:
    """The pulling half of the distribution spec, over HTTP."""

    def __init__(self, password: str) -> None:
        self.host = ""
        self.layers_sent = 0
        self._password = password
        self._blobs: dict[str, bytes] = {}
        self._tags: dict[tuple[str, str], str] = {}

    def put(self, name: str, image: Image) -> None:
        descriptor = image.manifest()
        self._blobs.update(image.blobs)
        self._tags[name, image.name] = descriptor["digest"]

    def pull_secret(self) -> dict[str, str]:
        credentials = base64.b64encode(f"user:{self._password}".encode()).decode()
        document = {"auths": {self.host: {"auth": credentials}}}
        return {".dockerconfigjson": base64.b64encode(json.dumps(document).encode()).decode()}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self._password and not self._is_let_in(request):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="test"'})
        parts = request.path.removeprefix("/v2/").split("/")
        if len(parts) < 3:
            return web.json_response({})
        name, kind, what = "/".join(parts[:-2]), parts[-2], parts[-1]
        digest = self._tags.get((name, what), what)
        data = self._blobs.get(digest)
        if data is None:
            return web.json_response({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, status=404)
        if kind == "blobs":
            self.layers_sent += not data.startswith(b"{")
            return web.Response(body=data)
        media_type = str(json.loads(data)["mediaType"])
        headers = {"Docker-Content-Digest": digest, "Content-Type": media_type}
        return web.Response(body=data, headers=headers)

    def _is_let_in(self, request: web.Request) -> bool:
        credentials = base64.b64encode(f"user:{self._password}".encode()).decode()
        return request.headers.get("Authorization") == f"Basic {credentials}"


@asynccontextmanager
async def serve(password: str = "") -> AsyncIterator[Registry]:
    """Serve a registry; ``host`` is its name in references."""
    served = Registry(password)
    app = web.Application()
    app.router.add_route("GET", "/{rest:.*}", served.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    served.host = f"127.0.0.1:{port}"
    try:
        yield served
    finally:
        await runner.cleanup()

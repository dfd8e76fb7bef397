"""What the cases talk to: an API server, by HTTP requests."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from yarl import URL

from taskctl.testing import FakeCluster
from taskctl.testing.exchange import AnswerStream, exchange, open_stream

Json = dict[str, Any]

KUBECONFIG_VARIABLE = "TASKCTL_CONFORMANCE_KUBECONFIG"
ETCD_VARIABLE = "TASKCTL_CONFORMANCE_ETCD"
GROUP = "conformance.taskctl.test"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
WAIT_S = 20.0


@dataclass(frozen=True)
class Reply:
    """An answer, read to its end."""

    status: int
    text: str
    headers: dict[str, str]
    warnings: list[str] = field(default_factory=list)
    raw: bytes = b""

    @property
    def json(self) -> Json:
        """The body as JSON."""
        parsed: Json = json.loads(self.text)
        return parsed

    def ok(self) -> Json:
        """Return the body of a success."""
        assert 200 <= self.status < 300, f"{self.status}: {self.text[:1000]}"
        return self.json

    def refused(self, code: int, reason: str) -> Json:
        """Return the Status of a refusal, which must be this one."""
        assert self.status == code, f"{self.status}: {self.text[:1000]}"
        body = self.json
        assert (body["kind"], body["status"], body["code"]) == ("Status", "Failure", code)
        assert body["reason"] == reason, body
        return body


class WatchStream:
    """A watch that is being read."""

    def __init__(self, content: aiohttp.StreamReader | _Lines) -> None:
        self._content = content

    async def next(self, timeout_s: float = WAIT_S) -> Json:
        """Return the next event; fails if none comes."""
        event = await self.next_or_end(timeout_s)
        assert event is not None, "the watch has ended"
        return event

    async def next_or_end(self, timeout_s: float = WAIT_S) -> Json | None:
        """Return the next event, or None at the stream's end."""
        async with asyncio.timeout(timeout_s):
            line = await self._content.readline()
        if not line:
            return None
        event: Json = json.loads(line)
        return event

    async def names(self, count: int) -> list[tuple[str, str]]:
        """Return (type, object's name) of the next events."""
        events = [await self.next() for _ in range(count)]
        return [(event["type"], event["object"]["metadata"]["name"]) for event in events]


class Api:
    """A client without opinions.

    Attributes:
        url: the server's.
        namespace: the case's own.
        kubeconfig: for kubectl.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, kubeconfig: Path) -> None:
        self._session = session
        self.url = url
        self.kubeconfig = kubeconfig
        self.namespace = ""

    def core(self, plural: str, name: str = "", sub: str = "") -> str:
        """Return the path of a core object in the case's namespace."""
        return self.path("/api/v1", plural, name, sub)

    def widgets(self, name: str = "", sub: str = "") -> str:
        """Return the path of a widget in the case's namespace."""
        return self.path(f"/apis/{GROUP}/v1", "widgets", name, sub)

    def path(self, prefix: str, plural: str, name: str = "", sub: str = "") -> str:
        """Return a path in the case's namespace."""
        parts = [prefix, "namespaces", self.namespace, plural, name, sub]
        return "/".join(part for part in parts if part)

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
        authorization: str | None = None,
        **query: str,
    ) -> Reply:
        """Send a request and read the answer.

        ``body`` is text, bytes, or made JSON; ``authorization`` says who asks, if not the
        administrator.
        """
        content = _encoded(body)
        # A stream, since aiohttp warns of long byte strings.
        data = io.BytesIO(content) if content is not None else None
        sent = {"Accept": accept}
        if data is not None:
            sent["Content-Type"] = content_type
        if authorization is not None:
            sent["Authorization"] = authorization
        async with self._session.request(
            method, self.url + path, data=data, headers=sent, params=query
        ) as answer:
            raw = await answer.read()
            return Reply(
                answer.status,
                raw.decode(errors="replace"),
                dict(answer.headers),
                answer.headers.getall("Warning", []),
                raw,
            )

    async def get(self, path: str, **query: str) -> Reply:
        """Send a GET."""
        return await self.send("GET", path, **query)

    async def create(self, path: str, body: Json, **query: str) -> Reply:
        """Send a POST."""
        return await self.send("POST", path, body, **query)

    async def put(self, path: str, body: Json, **query: str) -> Reply:
        """Send a PUT."""
        return await self.send("PUT", path, body, **query)

    async def patch(self, path: str, body: Any, kind: str = MERGE, **query: str) -> Reply:
        """Send a PATCH."""
        return await self.send("PATCH", path, body, content_type=kind, **query)

    async def delete(self, path: str, body: Json | None = None, **query: str) -> Reply:
        """Send a DELETE."""
        return await self.send("DELETE", path, body, **query)

    @asynccontextmanager
    async def watch(
        self, path: str, *, accept: str = "application/json", **query: str
    ) -> AsyncIterator[WatchStream]:
        """Open a watch."""
        async with self._session.get(
            self.url + path, params={"watch": "true", **query}, headers={"Accept": accept}
        ) as answer:
            assert answer.status == 200, await answer.text()
            yield WatchStream(answer.content)

    @asynccontextmanager
    async def websocket(
        self, path: str, *protocols: str, query: Sequence[tuple[str, str]] = ()
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open a WebSocket."""
        async with self._session.ws_connect(
            # Without an origin a real server refuses watches.
            self.url + path,
            protocols=protocols,
            params=query,
            origin=self.url,
        ) as socket:
            yield socket

    async def gone(self, path: str, timeout_s: float = WAIT_S) -> None:
        """Wait until a GET answers 404."""
        reply = await self.get(path)
        try:
            async with asyncio.timeout(timeout_s):
                while reply.status != 404:
                    await asyncio.sleep(0.05)
                    reply = await self.get(path)
        except TimeoutError:
            raise AssertionError(f"{path} is still there: {reply.text[:500]}") from None

    async def until(self, path: str, condition: Any, timeout_s: float = WAIT_S) -> Json:
        """Wait until a GET succeeds and its body meets a condition; return it."""
        reply = await self.get(path)
        try:
            async with asyncio.timeout(timeout_s):
                while reply.status != 200 or not condition(reply.json):
                    await asyncio.sleep(0.05)
                    reply = await self.get(path)
        except TimeoutError:
            raise AssertionError(f"{path} does not get there: {reply.text[:500]}") from None
        return reply.json


@asynccontextmanager
async def real_target(kubeconfig: Path) -> AsyncIterator[Api]:
    """Connect to the server of a kubeconfig's current context (token or client certificate)."""
    content = yaml.safe_load(kubeconfig.read_text())
    contexts = {entry["name"]: entry["context"] for entry in content["contexts"]}
    context = contexts[content["current-context"]]
    clusters = {entry["name"]: entry["cluster"] for entry in content["clusters"]}
    users = {entry["name"]: entry["user"] for entry in content["users"]}
    cluster, user = clusters[context["cluster"]], users[context["user"]]
    tls: ssl.SSLContext | bool = True
    if cluster["server"].startswith("https"):
        tls = ssl.create_default_context(cafile=cluster.get("certificate-authority"))
        if cluster.get("certificate-authority-data"):
            tls.load_verify_locations(
                cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
            )
        if user.get("client-certificate"):
            tls.load_cert_chain(user["client-certificate"], user["client-key"])
    headers = {"Authorization": f"Bearer {user['token']}"} if user.get("token") else {}
    connector = aiohttp.TCPConnector(ssl=tls)
    async with aiohttp.ClientSession(
        connector=connector, headers=headers, read_bufsize=4 * 1024 * 1024
    ) as session:
        yield Api(session, cluster["server"].rstrip("/"), kubeconfig)


@asynccontextmanager
async def embedded_target(directory: Path) -> AsyncIterator[Api]:
    """Start an embedded server in this process."""
    from taskctl.embedded.server import main

    async with main.EmbeddedServer(main.ServerOptions()) as server:
        kubeconfig = directory / "kubeconfig"
        authority = server.certificates.authority_pem
        kubeconfig.write_text(main.kubeconfig(server.url, server.token, authority))
        headers = {"Authorization": f"Bearer {server.token}"}
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=server.certificates.client_context()),
            headers=headers,
            read_bufsize=4 * 1024 * 1024,
        ) as session:
            yield Api(session, server.url, kubeconfig)


class InProcessApi(Api):
    """The same for a :class:`FakeCluster`: no socket, so nothing that needs a connection."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self.url, self.kubeconfig, self.namespace = "in-process:", Path(), ""

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
        authorization: str | None = None,
        **query: str,
    ) -> Reply:
        content = _encoded(body)
        sent = self._headers(accept)
        if content is not None:
            sent["Content-Type"] = content_type
        if authorization is not None:
            sent["Authorization"] = authorization
        target = _target(path, query)
        await asyncio.sleep(0)
        answer = await exchange(self._cluster.engine.api, method, target, sent, content)
        return Reply(
            answer.status,
            answer.body.decode(errors="replace"),
            dict(answer.headers),
            answer.headers.getall("Warning", []),
            answer.body,
        )

    @asynccontextmanager
    async def watch(
        self, path: str, *, accept: str = "application/json", **query: str
    ) -> AsyncIterator[WatchStream]:
        target = _target(path, {"watch": "true", **query})
        api = self._cluster.engine.api
        async with open_stream(api, "GET", target, self._headers(accept)) as stream:
            lines = _Lines(stream)
            assert stream.status == 200, await lines.readline()
            yield WatchStream(lines)

    def websocket(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("mark this case with needs_connection")

    def _headers(self, accept: str) -> dict[str, str]:
        return {"Authorization": self._cluster.authorization, "Accept": accept}


class _Lines:
    """Reads a stream by lines."""

    def __init__(self, stream: AnswerStream) -> None:
        self._stream = stream
        self._rest = b""

    async def readline(self) -> bytes:
        while b"\n" not in self._rest:
            chunk = await self._stream.read()
            if not chunk:
                line, self._rest = self._rest, b""
                return line
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return line + b"\n"


def _encoded(body: Any) -> bytes | None:
    text = body if isinstance(body, str | bytes | None) else json.dumps(body)
    return text.encode() if isinstance(text, str) else text


def _target(path: str, query: Mapping[str, str]) -> str:
    # As aiohttp's client does with a URL and its params.
    return str(URL(path).update_query(query)) if query else str(URL(path))


@asynccontextmanager
async def in_process_target() -> AsyncIterator[Api]:
    """Start the cluster that ``taskctl.testing`` offers to tests."""
    async with FakeCluster(taskctl_kinds=False) as cluster:
        yield InProcessApi(cluster)


def configured_kubeconfig() -> Path | None:
    """Return the kubeconfig of the real server that the cases shall run on, if any."""
    name = os.environ.get(KUBECONFIG_VARIABLE)
    return Path(name) if name else None


async def compact(etcd: str) -> None:
    """Make etcd forget all states but the present one, through its JSON gateway."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
        async with session.post(f"{etcd}/v3/kv/range", json={"key": "YQ=="}) as reply:
            revision = (await reply.json())["header"]["revision"]
        url = f"{etcd}/v3/kv/compaction"
        async with session.post(url, json={"revision": revision, "physical": True}) as reply:
            text = await reply.text()
            assert reply.status == 200 or "has been compacted" in text, text


def embedded_only(reason: str) -> pytest.MarkDecorator:
    """Mark a case that cannot be put to a real server."""
    real = configured_kubeconfig() is not None
    return pytest.mark.skipif(real, reason=f"embedded server only: {reason}")


def needs_connection(reason: str) -> pytest.MarkDecorator:
    """Mark a case that cannot be put to a server in the same process."""
    return pytest.mark.needs_connection(reason)


def real_only(reason: str) -> pytest.MarkDecorator:
    """Mark a case that the embedded server does not meet; ``docs/embedded.md`` says why."""
    embedded = configured_kubeconfig() is None
    return pytest.mark.skipif(embedded, reason=f"real server only: {reason}")


def widget(name: str, **spec: Any) -> Json:
    """Return a Widget."""
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "Widget",
        "metadata": {"name": name},
        "spec": {"size": 1, **spec},
    }


def plain_definition(group: str, kind: str, properties: Json, rules: Sequence[str] = ()) -> Json:
    """Return a definition of a kind whose spec has some properties and rules, and no more."""
    spec: Json = {"type": "object", "properties": properties}
    if rules:
        spec["x-kubernetes-validations"] = [{"rule": one} for one in rules]
    schema = {"type": "object", "properties": {"spec": spec}}
    plural = f"{kind.lower()}s"
    version = {
        "name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}
    }  # fmt: skip
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": [version],
        },
    }


def widget_crd(group: str = GROUP, plural: str = "widgets") -> Json:
    """Return a definition with everything the cases need."""
    singular = plural.removesuffix("s")
    spec = {
        "type": "object",
        "required": ["size"],
        "properties": {
            "size": {"type": "integer", "minimum": 0},
            "color": {"type": "string", "enum": ["red", "green"], "default": "red"},
            "target": {"type": "string"},
            "fixed": {
                "type": "string",
                "x-kubernetes-validations": [
                    {"rule": "self == oldSelf", "message": "fixed cannot be changed"}
                ],
            },
            "parts": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": {"type": "string"}, "count": {"type": "integer"}},
                },
            },
            "options": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        "x-kubernetes-validations": [
            {
                "rule": "self.size < 100 || self.color == 'green'",
                "message": "only green widgets may be that large",
            }
        ],
    }
    status = {
        "type": "object",
        "default": {"state": "New"},
        "properties": {
            "state": {"type": "string", "enum": ["New", "Busy", "Done"], "default": "New"},
            "host": {"type": "string"},
            "count": {"type": "integer"},
            "conditions": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
                "items": {
                    "type": "object",
                    "required": ["type", "status"],
                    "properties": {"type": {"type": "string"}, "status": {"type": "string"}},
                },
            },
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {
                "plural": plural,
                "singular": singular,
                "kind": singular.capitalize(),
                "shortNames": [plural[:2] + "x"],
            },
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "description": "A thing of a size and a color.",
                            "required": ["spec"],
                            "properties": {"spec": spec, "status": status},
                        }
                    },
                    "subresources": {"status": {}},
                    "selectableFields": [
                        {"jsonPath": ".spec.color"},
                        {"jsonPath": ".status.host"},
                    ],
                    "additionalPrinterColumns": [
                        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                        {"name": "State", "type": "string", "jsonPath": ".status.state"},
                        {
                            "name": "Color",
                            "type": "string",
                            "jsonPath": ".spec.color",
                            "priority": 1,
                        },
                        {
                            "name": "Age",
                            "type": "date",
                            "jsonPath": ".metadata.creationTimestamp",
                        },
                    ],
                }
            ],
        },
    }

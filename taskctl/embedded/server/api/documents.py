"""What the server says about itself: version, health, discovery, OpenAPI."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Final

import orjson
from aiohttp import web

from taskctl.embedded.platforms import architecture
from taskctl.embedded.server.http.negotiation import wants_aggregated_discovery
from taskctl.embedded.server.kinds.registry import Registry
from taskctl.embedded.server.openapi import discovery
from taskctl.embedded.server.openapi.documents import OpenApi
from taskctl.embedded.server.refusals import errors
from taskctl.embedded.server.refusals.errors import Json

# The Kubernetes whose behaviour this server follows; clients compare their own version with it.
VERSION: Final[Json] = {
    "major": "1",
    "minor": "34",
    "gitVersion": "v1.34.4+embedded",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "none",
    "platform": f"linux/{architecture()}",
}
# The first part of a path → how many parts it has at most.
_LONGEST: Final = {"": 1, "api": 2, "apis": 3, "openapi": 5}
_AGGREGATED: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_OPENAPI_V2_PROTOBUF: Final = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_OPENAPI_V2_PROTOBUF_OLD: Final = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"


class Documents:
    """Documents made from the registry, and kept until it changes."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._openapi = OpenApi(registry)
        self._made: dict[object, bytes] = {}
        self._generation = -1

    def public(self, path: str) -> web.Response:
        """Answer what needs no token.

        Raises:
            errors.StatusError: 404.
        """
        path = path.rstrip("/")
        if path == "/version":
            return _json(orjson.dumps(VERSION, option=orjson.OPT_INDENT_2))
        if re.fullmatch(r"/(healthz|livez|readyz)(/[a-z-]+)?", path):
            return web.Response(text="ok")
        raise errors.unknown_path()

    def answer(self, request: web.BaseRequest) -> web.Response:
        """Answer discovery and OpenAPI.

        Raises:
            errors.StatusError: 404; 405.
        """
        path = request.path.rstrip("/") or "/"
        parts = path.removeprefix("/").split("/")
        longest = _LONGEST.get(parts[0], 0)
        if len(parts) > longest or (path != "/" and not all(parts)):
            raise errors.unknown_path()
        if request.method not in ("GET", "HEAD"):
            raise errors.method_not_allowed()
        accept = request.headers.get("Accept", "")
        if path in ("/api", "/apis"):
            return self._groups(path, accept)
        if parts[0] == "openapi":
            return self._openapi_document(path, accept)
        if path == "/":
            paths = ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2",
                     "/openapi/v3", "/readyz", "/version"]  # fmt: skip
            return _json(orjson.dumps({"paths": paths}))
        return self._resources(parts)

    def _groups(self, path: str, accept: str) -> web.Response:
        legacy = path == "/api"
        if wants_aggregated_discovery(accept):
            body = self._keep(
                ("aggregated", legacy), lambda: discovery.aggregated(self._registry, legacy=legacy)
            )
            etag = hashlib.sha256(body).hexdigest().upper()
            headers = {"Content-Type": _AGGREGATED, "ETag": f'"{etag}"', "Vary": "Accept"}
            return web.Response(body=body, headers=headers)
        if legacy:
            return _json(self._keep("versions", discovery.api_versions))
        return _json(self._keep("groups", lambda: discovery.api_group_list(self._registry)))

    def _resources(self, parts: list[str]) -> web.Response:
        registry = self._registry
        try:
            if len(parts) == 2 and parts[0] == "apis":
                return _json(
                    self._keep(("group", parts[1]), lambda: discovery.api_group(registry, parts[1]))
                )
            group, version = ("", parts[1]) if parts[0] == "api" else (parts[1], parts[2])
            return _json(
                self._keep(
                    ("resources", group, version),
                    lambda: discovery.api_resource_list(registry, group, version),
                )
            )
        except KeyError:
            raise errors.unknown_path() from None

    def _openapi_document(self, path: str, accept: str) -> web.Response:
        if path == "/openapi/v3":
            return _json(self._keep("v3", self._openapi.v3_index))
        if path == "/openapi/v2":
            if _OPENAPI_V2_PROTOBUF in accept or _OPENAPI_V2_PROTOBUF_OLD in accept:
                # "@" is not allowed in a media type: clients ask with it but cannot read it back.
                headers = {"Content-Type": _OPENAPI_V2_PROTOBUF}
                return web.Response(body=self._openapi.v2_protobuf(), headers=headers)
            return _json(self._keep("v2", self._openapi.v2_json))
        if path.startswith("/openapi/v3/"):
            name = path.removeprefix("/openapi/v3/")
            try:
                return _json(self._keep(("v3", name), lambda: self._openapi.v3_document(name)))
            except KeyError:
                raise errors.unknown_path() from None
        raise errors.unknown_path()

    def _keep(self, key: object, make: Callable[[], Json | bytes]) -> bytes:
        if self._generation != self._registry.generation:
            self._made.clear()
            self._generation = self._registry.generation
        body = self._made.get(key)
        if body is None:
            made = make()
            body = self._made[key] = made if isinstance(made, bytes) else orjson.dumps(made)
        return body


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, headers={"Content-Type": "application/json"})

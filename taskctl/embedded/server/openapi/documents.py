"""OpenAPI documents: for ``kubectl explain``, client-side validation and the choice of patches.

Version 3 is one document per group and version with an index, version 2 one for everything.
Forms from k8s.io/kube-openapi.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

import orjson

from taskctl.embedded.server.kinds.model import Kind
from taskctl.embedded.server.kinds.registry import Registry
from taskctl.embedded.server.openapi.proto import encode_document
from taskctl.embedded.server.openapi.schemas import definition_name, definitions, to_v2, to_v3

JSON = dict[str, Any]

_INFO: Final = {"title": "Kubernetes", "version": "v1.34.4"}
_JSON_TYPE: Final = "application/json"
_PATCH_TYPES: Final = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
)
_STRATEGIC: Final = "application/strategic-merge-patch+json"
_WRITE_PARAMETERS: Final = (
    ("dryRun", "string", "When present, indicates that modifications should not be persisted."),
    ("fieldManager", "string", "The name of the actor that makes these changes."),
    (
        "fieldValidation",
        "string",
        "What to do with unknown and duplicate fields: Ignore, Warn or Strict.",
    ),
)
_FORCE: Final = ("force", "boolean", "Force is going to force Apply requests over conflicts.")
_LIST_PARAMETERS: Final = (
    ("continue", "string", "Where to continue a list that was cut by limit."),
    ("fieldSelector", "string", "Restrict the list by fields."),
    ("labelSelector", "string", "Restrict the list by labels."),
    ("limit", "integer", "Maximum number of items to return."),
    ("resourceVersion", "string", "Not older than this revision."),
    ("watch", "boolean", "Send changes as a stream instead of a list."),
)


class OpenApi:
    """Makes the documents from a registry; keeps them until it changes."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._generation = -1
        self._kept: dict[str, Any] = {}

    def v3_index(self) -> JSON:
        """Return the answer to ``GET /openapi/v3``."""
        paths = {}
        for name in sorted({_document_of(kind) for kind in self._registry.all()}):
            text = orjson.dumps(self.v3_document(name), option=orjson.OPT_SORT_KEYS)
            digest = hashlib.sha256(text).hexdigest().upper()
            paths[name] = {"serverRelativeURL": f"/openapi/v3/{name}?hash={digest}"}
        return {"paths": paths}

    def v3_document(self, name: str) -> JSON:
        """Return the document of one group and version.

        Args:
            name: ``api/v1`` or ``apis/<group>/<version>``.

        Raises:
            KeyError: there is no such group and version.
        """
        document: JSON = self._keep(f"v3/{name}", lambda: self._make_v3(name))
        return document

    def v2_json(self) -> JSON:
        """Return the answer to ``GET /openapi/v2`` in JSON."""
        document: JSON = self._keep("v2", self._make_v2)
        return document

    def v2_protobuf(self) -> bytes:
        """Return the answer to ``GET /openapi/v2`` in protobuf."""
        body: bytes = self._keep("v2/protobuf", lambda: encode_document(self.v2_json()))
        return body

    def _keep(self, key: str, make: Callable[[], Any]) -> Any:
        if self._generation != self._registry.generation:
            self._kept.clear()
            self._generation = self._registry.generation
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def _make_v3(self, name: str) -> JSON:
        kinds = [kind for kind in self._registry.all() if _document_of(kind) == name]
        if not kinds:
            raise KeyError(name)
        paths: JSON = {}
        for kind in kinds:
            paths.update(_paths(kind, _V3Operations(kind)))
        schemas = {key: to_v3(one) for key, one in definitions(kinds).items()}
        return {
            "openapi": "3.0.0",
            "info": _INFO,
            "paths": paths,
            "components": {"schemas": schemas},
        }

    def _make_v2(self) -> JSON:
        kinds = list(self._registry.all())
        paths: JSON = {}
        for kind in kinds:
            paths.update(_paths(kind, _V2Operations(kind)))
        schemas = {key: to_v2(one) for key, one in definitions(kinds).items()}
        return {"swagger": "2.0", "info": _INFO, "paths": paths, "definitions": schemas}


def _document_of(kind: Kind) -> str:
    return f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"


class _Operations:
    """Makes the operations on one kind; the two versions of OpenAPI differ in the forms."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.name = definition_name(kind)
        self.list_name = self.name.removesuffix(kind.kind) + kind.list_kind

    def parameter(self, name: str, kind: str, description: str, where: str) -> JSON:
        """Return a query or path parameter."""
        raise NotImplementedError

    def make(self, verb: str, action: str, result: str, body: tuple[str, ...]) -> JSON:
        """Return an operation.

        Args:
            verb: for example ``patch``.
            action: Kubernetes' word for it, for example ``list``.
            result: the definition's name of what comes back.
            body: media types of what is sent; empty for none.
        """
        raise NotImplementedError

    def parameters(self, action: str) -> list[JSON]:
        """Return the query parameters of an action."""
        wanted: tuple[tuple[str, str, str], ...] = ()
        if action in ("create", "update", "patch"):
            wanted = (*_WRITE_PARAMETERS, _FORCE) if action == "patch" else _WRITE_PARAMETERS
        elif action in ("list", "deletecollection"):
            wanted = _LIST_PARAMETERS
        return [self.parameter(*one, "query") for one in wanted]

    def common(self, verb: str, action: str) -> JSON:
        """Return what both versions say in the same way."""
        kind = self.kind
        return {
            "operationId": f"{action}{kind.version.capitalize()}{kind.kind}{verb.capitalize()}",
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {
                "group": kind.group,
                "version": kind.version,
                "kind": kind.kind,
            },
            "parameters": self.parameters(action),
        }


class _V3Operations(_Operations):
    def parameter(self, name: str, kind: str, description: str, where: str) -> JSON:
        out: JSON = {
            "name": name,
            "in": where,
            "description": description,
            "schema": {"type": kind, "uniqueItems": True},
        }
        return {**out, "required": True} if where == "path" else out

    def make(self, verb: str, action: str, result: str, body: tuple[str, ...]) -> JSON:
        schema = {"$ref": f"#/components/schemas/{result}"}
        answer = {"description": "OK", "content": {_JSON_TYPE: {"schema": schema}}}
        out = {**self.common(verb, action), "responses": {"200": answer}}
        if body:
            sent = {"type": "object"} if action == "patch" else schema
            out["requestBody"] = {
                "content": {media: {"schema": sent} for media in body},
                "required": True,
            }
        return out


class _V2Operations(_Operations):
    def parameter(self, name: str, kind: str, description: str, where: str) -> JSON:
        out: JSON = {"name": name, "in": where, "description": description, "type": kind}
        return {**out, "required": True} if where == "path" else {**out, "uniqueItems": True}

    def make(self, verb: str, action: str, result: str, body: tuple[str, ...]) -> JSON:
        schema = {"$ref": f"#/definitions/{result}"}
        out = {
            **self.common(verb, action),
            "produces": [_JSON_TYPE],
            "consumes": list(body) or ["*/*"],
            "responses": {"200": {"description": "OK", "schema": schema}},
        }
        if body:
            sent = {"type": "object"} if action == "patch" else schema
            out["parameters"] = [
                {"name": "body", "in": "body", "required": True, "schema": sent},
                *out["parameters"],
            ]
        return out


def _paths(kind: Kind, ops: _Operations) -> JSON:
    """Return the paths of one kind: collection, object, status."""
    root = f"/{_document_of(kind)}"
    where = [("namespace", "string", "object name and auth scope, such as for teams and projects")]
    scope = f"{root}/namespaces/{{namespace}}" if kind.namespaced else root
    around = [ops.parameter(*one, "path") for one in where] if kind.namespaced else []
    named = ops.parameter("name", "string", f"name of the {kind.kind}", "path")
    json_body = (_JSON_TYPE,)
    patches = (*_PATCH_TYPES, _STRATEGIC) if kind.builtin else _PATCH_TYPES
    whole = {
        "get": ops.make("get", "get", ops.name, ()),
        "put": ops.make("put", "update", ops.name, json_body),
        "patch": ops.make("patch", "patch", ops.name, patches),
    }
    out: JSON = {
        f"{scope}/{kind.plural}": {
            "get": ops.make("get", "list", ops.list_name, ()),
            "post": ops.make("post", "create", ops.name, json_body),
            "delete": ops.make("delete", "deletecollection", ops.list_name, ()),
            "parameters": around,
        },
        f"{scope}/{kind.plural}/{{name}}": {
            **whole,
            "delete": ops.make("delete", "delete", ops.name, ()),
            "parameters": [*around, named],
        },
    }
    if kind.namespaced:
        listed = {"get": ops.make("get", "list", ops.list_name, ()), "parameters": []}
        out[f"{root}/{kind.plural}"] = listed
    for name in sorted(kind.subresources & {"status", "ephemeralcontainers"}):
        out[f"{scope}/{kind.plural}/{{name}}/{name}"] = {**whole, "parameters": [*around, named]}
    return out

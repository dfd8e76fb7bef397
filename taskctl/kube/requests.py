"""From a call to the HTTP request that carries it; no I/O.

Query parameters and headers as in the Kubernetes API reference ("Common parameters").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from taskctl.errors import ConfigError
from taskctl.kube.interface import (
    DeleteOptions,
    KubeObject,
    ListOptions,
    LogOptions,
    PatchOptions,
    PatchType,
    WatchOptions,
)
from taskctl.kube.resources import PODS, Resource

JSON: Final = "application/json"
_METADATA_LIST: Final = (
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1, application/json;q=0.5"
)
_METADATA_EVENT: Final = (
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1, application/json;q=0.5"
)


class Verb(StrEnum):
    """What is done, in the API server's own words; a metric label."""

    GET = "get"
    LIST = "list"
    WATCH = "watch"
    CREATE = "create"
    UPDATE = "update"
    PATCH = "patch"
    DELETE = "delete"
    LOG = "log"
    EXEC = "exec"
    RAW = "raw"


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, ready to send but for credentials.

    Attributes:
        verb: for metrics and retry rules.
        method: HTTP method.
        path: escaped, below the server's address.
        resource: plural and subresource, for metrics.
        query: escaped query string without the ``?``.
        headers: Accept, and Content-Type where there is a body.
        body: JSON, or None.
        idempotent: sending it twice does no harm.
    """

    verb: Verb
    method: str
    path: str
    resource: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=lambda: {"Accept": JSON})
    body: bytes | None = None
    idempotent: bool = False

    @property
    def target(self) -> str:
        """Path and query."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def get_request(res: Resource, name: str, namespace: str | None) -> Request:
    """Build the request for one object."""
    return Request(
        Verb.GET, "GET", res.path(_ns(res, namespace), name), res.plural, idempotent=True
    )


def list_request(res: Resource, namespace: str | None, options: ListOptions) -> Request:
    """Build the request for one page of a list.

    Raises:
        ConfigError: a negative limit.
    """
    if options.limit < 0:
        raise ConfigError(f"limit is {options.limit}; it must be 0 (all at once) or more")
    query: dict[str, str] = {}
    _put(query, "labelSelector", options.label_selector)
    _put(query, "fieldSelector", options.field_selector)
    _put(query, "limit", str(options.limit) if options.limit else "")
    _put(query, "continue", options.continue_token)
    # The server refuses a resourceVersion beside a continue token, which carries its own.
    if not options.continue_token:
        _put(query, "resourceVersion", options.resource_version)
    accept = _METADATA_LIST if options.metadata_only else JSON
    return _read_request(Verb.LIST, res, namespace, query, accept)


def watch_request(
    res: Resource, namespace: str | None, options: WatchOptions, timeout_s: float
) -> Request:
    """Build the request for a watch that the server ends after ``timeout_s`` seconds."""
    query = {"watch": "1", "timeoutSeconds": str(max(1, int(timeout_s)))}
    _put(query, "labelSelector", options.label_selector)
    _put(query, "fieldSelector", options.field_selector)
    _put(query, "resourceVersion", options.resource_version)
    if options.bookmarks or options.send_initial_events:
        query["allowWatchBookmarks"] = "true"
    if options.send_initial_events:
        query["sendInitialEvents"] = "true"
        query["resourceVersionMatch"] = "NotOlderThan"
    accept = _METADATA_EVENT if options.metadata_only else JSON
    return _read_request(Verb.WATCH, res, namespace, query, accept)


def _read_request(
    verb: Verb, res: Resource, namespace: str | None, query: Mapping[str, str], accept: str
) -> Request:
    return Request(
        verb,
        "GET",
        res.path(_ns(res, namespace)),
        res.plural,
        query=urlencode(query),
        headers={"Accept": accept},
        idempotent=True,
    )


def create_request(
    res: Resource,
    obj: KubeObject,
    namespace: str | None,
    *,
    dry_run: bool = False,
    strict: bool = False,
) -> Request:
    """Build the request that creates ``obj``; its own namespace serves as default."""
    if namespace is None:
        namespace = _metadata(res, obj).get("namespace")
    if res.namespaced and namespace is None:
        raise ConfigError(f"{res.kind}: name the namespace to create it in")
    query: dict[str, str] = {}
    _put(query, "dryRun", "All" if dry_run else "")
    _put(query, "fieldValidation", "Strict" if strict else "")
    return Request(
        Verb.CREATE,
        "POST",
        res.path(_ns(res, namespace)),
        res.plural,
        query=urlencode(query),
        headers={"Accept": JSON, "Content-Type": JSON},
        body=encode_body(res, obj),
    )


def replace_request(res: Resource, obj: KubeObject, subresource: str | None) -> Request:
    """Build the request that replaces ``obj``, addressed by its own metadata."""
    metadata = _metadata(res, obj)
    name = metadata.get("name")
    if not name:
        raise ConfigError(f"{res.kind}: metadata.name is missing; a replace needs it")
    return Request(
        Verb.UPDATE,
        "PUT",
        res.path(_ns(res, metadata.get("namespace")), name, subresource),
        _label(res, subresource),
        headers={"Accept": JSON, "Content-Type": JSON},
        body=encode_body(res, obj),
    )


def patch_request(
    res: Resource, name: str, namespace: str | None, body: Any, options: PatchOptions
) -> Request:
    """Build a PATCH.

    Raises:
        ConfigError: APPLY without a field manager, or ``force`` without APPLY, both of
            which the server would refuse.
    """
    apply = options.type is PatchType.APPLY
    if apply and not options.field_manager:
        raise ConfigError("an APPLY patch needs PatchOptions.field_manager")
    if options.force and not apply:
        raise ConfigError("PatchOptions.force is for APPLY patches only")
    query: dict[str, str] = {}
    _put(query, "fieldManager", options.field_manager)
    _put(query, "force", "true" if options.force else "")
    _put(query, "fieldValidation", "Strict" if options.strict else "")
    return Request(
        Verb.PATCH,
        "PATCH",
        res.path(_ns(res, namespace), name, options.subresource),
        _label(res, options.subresource),
        query=urlencode(query),
        headers={"Accept": JSON, "Content-Type": options.type.value},
        body=encode_body(res, body),
        idempotent=options.idempotent or apply,
    )


def delete_request(
    res: Resource, name: str, namespace: str | None, options: DeleteOptions
) -> Request:
    """Build a delete; options travel in the body."""
    preconditions: dict[str, str] = {}
    _put(preconditions, "uid", options.uid)
    _put(preconditions, "resourceVersion", options.resource_version)
    body: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
    if preconditions:
        body["preconditions"] = preconditions
    if options.grace_s is not None:
        body["gracePeriodSeconds"] = options.grace_s
    if options.propagation is not None:
        body["propagationPolicy"] = options.propagation.value
    return Request(
        Verb.DELETE,
        "DELETE",
        res.path(_ns(res, namespace), name),
        res.plural,
        headers={"Accept": JSON, "Content-Type": JSON},
        body=orjson.dumps(body),
    )


def log_request(pod: str, namespace: str, container: str, options: LogOptions) -> Request:
    """Build the request for a container's log, a stream of text."""
    query: dict[str, str] = {}
    _put(query, "container", container)
    for name, wanted in (
        ("follow", options.follow),
        ("previous", options.previous),
        ("timestamps", options.timestamps),
    ):
        _put(query, name, "true" if wanted else "")
    for name, number in (
        ("tailLines", options.tail_lines),
        ("sinceSeconds", options.since_s),
        ("limitBytes", options.limit_bytes),
    ):
        _put(query, name, "" if number is None else str(number))
    return Request(
        Verb.LOG,
        "GET",
        PODS.path(namespace, pod, "log"),
        "pods/log",
        query=urlencode(query),
        headers={"Accept": "*/*"},
        idempotent=True,
    )


def exec_request(
    pod: str,
    namespace: str,
    container: str,
    command: Sequence[str],
    *,
    stdin: bool = False,
    tty: bool = False,
) -> Request:
    """Build the request that runs a command in a container; its answer is a WebSocket."""
    query = [("container", container), ("stdout", "true")]
    # A terminal has one stream for both.
    query += [("tty", "true")] if tty else [("stderr", "true")]
    query += [("stdin", "true")] if stdin else []
    query += [("command", word) for word in command]
    return Request(
        Verb.EXEC,
        "GET",
        PODS.path(namespace, pod, "exec"),
        "pods/exec",
        query=urlencode(query),
        headers={"Accept": "*/*"},
    )


def encode_body(res: Resource, body: Any) -> bytes:
    """Encode a body as JSON.

    Raises:
        ConfigError: something in it has no JSON form.
    """
    try:
        return orjson.dumps(body)
    except TypeError as error:
        raise ConfigError(f"{res.kind}: the body is not JSON: {error}") from error


def _ns(res: Resource, namespace: str | None) -> str | None:
    return namespace if res.namespaced else None


def _label(res: Resource, subresource: str | None) -> str:
    return f"{res.plural}/{subresource}" if subresource else res.plural


def _metadata(res: Resource, obj: KubeObject) -> dict[str, Any]:
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict):
        raise ConfigError(f"{res.kind}: metadata is missing; give it a name")
    return metadata


def _put(query: dict[str, str], name: str, value: str) -> None:
    if value:
        query[name] = value

"""The HTTP surface: from a request to the part that answers it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

from aiohttp import web

from taskctl.embedded.server import bodies, errors, fields, patching, reads, stream
from taskctl.embedded.server.auth import Authenticator, User
from taskctl.embedded.server.background import DELETIONS_PER_TURN
from taskctl.embedded.server.core import Core, resource_of
from taskctl.embedded.server.documents import Documents
from taskctl.embedded.server.encode import Encoder
from taskctl.embedded.server.errors import Json
from taskctl.embedded.server.kinds import Kind
from taskctl.embedded.server.negotiation import negotiate
from taskctl.embedded.server.records import Record
from taskctl.embedded.server.special import Special
from taskctl.embedded.server.targets import (
    DeleteOptions,
    FieldValidation,
    Target,
    WriteOptions,
    options_invalid,
    parse_delete_options,
    parse_list_options,
    parse_path,
    parse_write_options,
)
from taskctl.embedded.server.writes import Outcome, Writer

logger = logging.getLogger(__name__)

# What Kubernetes lets anyone see (clusterrole system:public-info-viewer).
_PUBLIC: Final = ("/healthz", "/livez", "/readyz", "/version")
_PATCH_TYPES: Final = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_OBJECT_SUBRESOURCES: Final = ("status", "ephemeralcontainers")


class Api:
    """Answers requests."""

    def __init__(
        self, core: Core, authenticator: Authenticator, special: Special, bookmark_interval_s: float
    ) -> None:
        self._core = core
        self._authenticator = authenticator
        self._special = special
        self._bookmark_interval_s = bookmark_interval_s
        self._writer = Writer(core)
        self._documents = Documents(core.registry)
        self._verbs: dict[str, Callable[..., Awaitable[web.StreamResponse]]] = {
            "GET": self._get,
            "HEAD": self._get,
            "POST": self._post,
            "PUT": self._put,
            "PATCH": self._patch,
            "DELETE": self._delete,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request; whatever goes wrong becomes a ``Status``."""
        try:
            return await self._route(request)
        except errors.StatusError as error:
            return _refusal(error)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:
            logger.exception("%s %s failed", request.method, request.path)
            return _refusal(errors.internal(f"{type(error).__name__}: {error}"))

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if path.startswith(_PUBLIC):
            return self._documents.public(path)
        user = self._authenticator.authenticate(request.headers.get("Authorization"))
        target = parse_path(path)
        if target is None:
            return self._documents.answer(request)
        if target.subresource not in _OBJECT_SUBRESOURCES:
            answer = await self._special.answer(request, target, user)
            if answer is not None:
                return answer
        kind = self._kind(target)
        verb = self._verbs.get(request.method)
        if verb is None:
            raise errors.method_not_allowed()
        response = await verb(request, kind, target, user)
        if kind.deprecation_warning and not response.prepared:
            response.headers.add("Warning", _warning(kind.deprecation_warning))
        return response

    def _kind(self, target: Target) -> Kind:
        kind = self._core.registry.by_plural(target.group, target.version, target.plural)
        if kind is None or (target.namespace is not None and not kind.namespaced):
            raise errors.unknown_path()
        if target.namespace is None and kind.namespaced and target.name is not None:
            raise errors.unknown_path()
        if target.subresource and (
            target.subresource not in kind.subresources
            or target.subresource not in _OBJECT_SUBRESOURCES
        ):
            raise errors.not_found(resource_of(kind), target.name or "")
        return kind

    def _encoder(self, request: web.BaseRequest, kind: Kind) -> Encoder:
        encoding = negotiate(request.headers.get("Accept", ""))
        include = request.query.get("includeObject", "") or "Metadata"
        if include not in ("None", "Metadata", "Object"):
            raise errors.bad_request(
                "Unable to convert to Table as requested: includeObject: Invalid value: "
                f"\"{include}\": must be 'Metadata', 'Object', 'None', or empty"
            )
        return Encoder(self._core, kind, encoding, include)

    # --- verbs ----------------------------------------------------------------------

    async def _get(
        self, request: web.BaseRequest, kind: Kind, target: Target, user: User
    ) -> web.StreamResponse:
        encoder = self._encoder(request, kind)
        if target.name is not None:
            record = self._core.store.require(
                resource_of(kind), target.namespace or "", target.name
            )
            return _answer(encoder, encoder.object(record))
        options = parse_list_options(request.query)
        if options.watch:
            watch = stream.WatchRequest(
                target.namespace,
                reads.parse_selector(kind, options),
                options,
                encoder,
                self._bookmark_interval_s,
            )
            return await stream.serve(request, self._core, watch)
        records, meta = reads.list_objects(self._core, kind, target.namespace, options)
        return _answer(encoder, encoder.list(records, meta))

    async def _post(
        self, request: web.BaseRequest, kind: Kind, target: Target, user: User
    ) -> web.StreamResponse:
        # A custom resource may be created under its own path; the name there counts for nothing.
        named = target.name is not None and (kind.builtin or target.subresource)
        if named or (target.namespace is None and kind.namespaced):
            raise errors.method_not_allowed()
        encoder, options = self._encoder(request, kind), _write_options(request, "CreateOptions")
        obj = await _read_object(request, kind, options)
        outcome = self._writer.create(kind, target.namespace, obj, options)
        return _written(encoder, outcome)

    async def _put(
        self, request: web.BaseRequest, kind: Kind, target: Target, user: User
    ) -> web.StreamResponse:
        if target.name is None:
            raise _name_missing(kind)
        encoder, options = self._encoder(request, kind), _write_options(request, "UpdateOptions")
        obj = await _read_object(request, kind, options)
        return _written(encoder, self._writer.replace(kind, target, obj, options))

    async def _patch(
        self, request: web.BaseRequest, kind: Kind, target: Target, user: User
    ) -> web.StreamResponse:
        if target.name is None:
            raise _name_missing(kind)
        encoder, options = self._encoder(request, kind), _write_options(request, "PatchOptions")
        media_type = bodies.media_type(request)
        _check_patch_type(kind, media_type, options)
        body = await bodies.read(request)
        if media_type == "application/apply-patch+yaml":
            if not request.query.get("fieldManager"):
                problem = fields.required("fieldManager", "is required for apply patch")
                raise options_invalid("PatchOptions", problem)
            applied = bodies.parse_object(body, "application/yaml", kind.kind)
            outcome = self._writer.server_side_apply(kind, target, applied, options)
        else:
            change = _patch_function(media_type, bodies.parse_json(body, "error decoding patch"))
            outcome = self._writer.patch(kind, target, change, options)
        return _written(encoder, outcome)

    async def _delete(
        self, request: web.BaseRequest, kind: Kind, target: Target, user: User
    ) -> web.StreamResponse:
        if target.subresource:
            raise errors.method_not_allowed()
        encoder = self._encoder(request, kind)
        body = await bodies.read(request)
        content = None
        if body.strip():
            content = bodies.parse_object(body, bodies.media_type(request), "DeleteOptions")
        dry_runs = request.query.getall("dryRun", [])
        options = parse_delete_options(request.query, dry_runs, content)
        if target.name is None:
            if kind.builtin and kind.kind == "Namespace":
                raise errors.method_not_allowed()
            records, meta = reads.list_objects(
                self._core, kind, target.namespace, parse_list_options(request.query)
            )
            await self._delete_all(kind, records, options)
            return _answer(encoder, encoder.list(records, meta))
        written = self._writer.delete(kind, target.namespace or "", target.name, options)
        return self._special.deleted(encoder, kind, written)

    async def _delete_all(self, kind: Kind, records: list[Record], options: DeleteOptions) -> None:
        """Delete the objects of a listing, letting other requests in from time to time."""
        for chunk in _chunks(records):
            with self._core.store.batch():
                for record in chunk:
                    try:
                        self._writer.delete(kind, record.namespace, record.name, options)
                    except errors.StatusError as error:
                        if error.code != 404:  # somebody else was faster
                            raise
            await asyncio.sleep(0)


def _chunks(records: list[Record]) -> Iterator[list[Record]]:
    for start in range(0, len(records), DELETIONS_PER_TURN):
        yield records[start : start + DELETIONS_PER_TURN]


def _name_missing(kind: Kind) -> errors.StatusError:
    if kind.builtin:
        return errors.method_not_allowed()
    return errors.bad_request("name must be provided")


def _write_options(request: web.BaseRequest, kind: str) -> WriteOptions:
    query = request.query
    return parse_write_options(
        query, query.getall("dryRun", []), request.headers.get("User-Agent", ""), kind
    )


async def _read_object(request: web.BaseRequest, kind: Kind, options: WriteOptions) -> Json:
    body = await bodies.read(request)
    obj = bodies.parse_object(body, bodies.media_type(request), kind.kind)
    if options.validation is FieldValidation.STRICT:
        twice = bodies.duplicate_fields(body)
        if twice:
            raise errors.bad_request(
                f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
                f"strict decoding error: {', '.join(twice)}"
            )
    return obj


def _check_patch_type(kind: Kind, media_type: str, options: WriteOptions) -> None:
    supported = [
        name
        for name in _PATCH_TYPES
        if kind.builtin or name != "application/strategic-merge-patch+json"
    ]
    if media_type not in supported:
        raise errors.unsupported_media_type(", ".join(supported))
    if options.force and media_type != "application/apply-patch+yaml":
        problem = fields.forbidden("force", "may not be specified for non-apply patch")
        raise options_invalid("PatchOptions", problem)


def _patch_function(media_type: str, body: Any) -> Callable[[Json], Json]:
    if media_type == "application/json-patch+json":
        if not isinstance(body, list):
            raise errors.bad_request("a JSON patch must be a list of operations")
        return lambda obj: patching.json_patch(obj, body)
    if not isinstance(body, dict):
        raise errors.bad_request("a merge patch must be a JSON object")
    if media_type == "application/merge-patch+json":
        return lambda obj: patching.merge_patch(obj, body)
    return lambda obj: patching.strategic_merge(obj, body, in_place=True)


def _warning(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'299 - "{escaped}"'


def _answer(encoder: Encoder, body: bytes, status: int = 200) -> web.Response:
    return web.Response(
        body=body, status=status, headers={"Content-Type": encoder.encoding.content_type}
    )


def _written(encoder: Encoder, outcome: Outcome) -> web.Response:
    response = _answer(encoder, encoder.object(outcome.record), 201 if outcome.created else 200)
    for warning in outcome.warnings:
        response.headers.add("Warning", _warning(warning))
    return response


def _refusal(error: errors.StatusError) -> web.Response:
    headers = {"Content-Type": "application/json"}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    return web.Response(body=error.encode(), status=error.code, headers=headers)

"""The HTTP surface: from a request to the part that answers it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from taskctl.embedded.server.access.auth import Authenticator, User
from taskctl.embedded.server.api import reads, stream
from taskctl.embedded.server.api.documents import Documents
from taskctl.embedded.server.api.encode import Encoder, ListMeta
from taskctl.embedded.server.api.special import Special
from taskctl.embedded.server.controllers.background import DELETIONS_PER_TURN
from taskctl.embedded.server.core import Core
from taskctl.embedded.server.definitions.scale_paths import SUBRESOURCE
from taskctl.embedded.server.http import bodies, pacing, websockets
from taskctl.embedded.server.http.negotiation import negotiate
from taskctl.embedded.server.kinds.model import Kind
from taskctl.embedded.server.patch import formats as patching
from taskctl.embedded.server.protobuf import decode as protobuf
from taskctl.embedded.server.refusals import errors, fields
from taskctl.embedded.server.refusals.errors import Json
from taskctl.embedded.server.refusals.gotext import go_value
from taskctl.embedded.server.requests.options import (
    DeleteOptions,
    FieldValidation,
    WriteOptions,
    options_invalid,
    parse_bool,
    parse_delete_options,
    parse_list_options,
    parse_write_options,
)
from taskctl.embedded.server.requests.paths import Target, parse_path
from taskctl.embedded.server.storage.records import Record
from taskctl.embedded.server.writes.body_checks import BODY, Origin, Via
from taskctl.embedded.server.writes.scale import SCALE, Scaling, scale_record
from taskctl.embedded.server.writes.writer import Outcome, Patch, Writer

log = logging.getLogger(__name__)

# What Kubernetes lets anyone see (clusterrole system:public-info-viewer).
_PUBLIC: Final = ("/healthz", "/livez", "/readyz", "/version")
_JSON_PATCH: Final = "application/json-patch+json"
_PATCH_TYPES: Final = (
    _JSON_PATCH,
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_FINALIZE: Final = "finalize"
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_SLOW_BYTES: Final = 64 * 1024  # as YAML, some 20 ms
_OBJECT_SUBRESOURCES: Final = ("status", "ephemeralcontainers", _FINALIZE, SUBRESOURCE)


class Api:
    """Answers requests.

    Attributes:
        admitted: is told of each connection on which a request was authenticated; may refuse.
    """

    def __init__(
        self, core: Core, authenticator: Authenticator, special: Special, bookmark_interval_s: float
    ) -> None:
        self._core = core
        self._authenticator = authenticator
        self._special = special
        self._bookmark_interval_s = bookmark_interval_s
        self.admitted: Callable[[RequestHandler], None] = lambda _: None
        self._pacer = pacing.Pacer()
        self._writer = Writer(core)
        self._documents = Documents(core.registry)
        self._verbs: dict[str, Callable[..., Awaitable[web.StreamResponse]]] = {
            "GET": self._get,
            "POST": self._post,
            "PUT": self._put,
            "PATCH": self._patch,
            "DELETE": self._delete,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request; whatever goes wrong becomes a ``Status``."""
        try:
            return await self._pacer.send(request, await self._route(request))
        except errors.StatusError as error:
            return _refusal(error)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:
            log.exception("%s %s failed", request.method, request.path)
            return _refusal(errors.internal(f"{type(error).__name__}: {error}"))

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if path.startswith(_PUBLIC):
            if request.method not in ("GET", "HEAD"):
                raise errors.method_not_allowed()
            return self._documents.public(path)
        user = self._authenticator.authenticate(websockets.authorization(request))
        self.admitted(request.protocol)
        target = parse_path(path)
        if target is None:
            return self._documents.answer(request)
        if target.subresource not in _OBJECT_SUBRESOURCES:
            answer = await self._special.answer(request, target, user)
            if answer is not None:
                return answer
        kind = self._kind(request, target)
        # Kubernetes routes HEAD to custom resources only.
        method = "GET" if request.method == "HEAD" and not kind.builtin else request.method
        verb = self._verbs.get(method)
        if verb is None or (target.subresource == _FINALIZE and request.method != "PUT"):
            raise errors.method_not_allowed()
        if kind.read_only and method != "GET":
            raise errors.method_not_allowed(
                f"this embedded server runs no {kind.plural}; a cluster does"
            )
        response = await verb(request, kind, target, user)
        if kind.deprecation_warning and not response.prepared:
            response.headers.add("Warning", _warning(kind.deprecation_warning))
        return response

    def _kind(self, request: web.BaseRequest, target: Target) -> Kind:
        kind = self._core.registry.by_plural(target.group, target.version, target.plural)
        if kind is None or (target.namespace is not None and not kind.namespaced):
            raise errors.unknown_path()
        if target.namespace is None and kind.namespaced and target.name is not None:
            raise errors.unknown_path()
        if target.subresource and (
            target.subresource not in kind.subresources
            or target.subresource not in _OBJECT_SUBRESOURCES
        ):
            raise errors.unknown_path()
        if kind.namespaced and not target.namespace:
            _check_everywhere(request.method, kind, target)
        return kind

    def _encoder(self, request: web.BaseRequest, kind: Kind) -> Encoder:
        binary = kind.builtin and not parse_bool(request.query, "watch")
        encoding = negotiate(request.headers.get("Accept", ""), protobuf=binary)
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
            revision = request.query.get("resourceVersion", "")
            record = reads.get_object(self._core, kind, target, revision)
            if target.subresource == SUBRESOURCE:
                encoder = self._encoder(request, SCALE)
                return _answer(encoder, encoder.object(scale_record(kind, record)))
            return await _answer_object(encoder, record)
        options = parse_list_options(request.query)
        if options.watch and request.method != "HEAD":
            watch = stream.WatchRequest(
                target.namespace or None,
                reads.parse_selector(kind, options),
                options,
                encoder,
                self._bookmark_interval_s,
            )
            return await stream.serve(request, self._core, self._pacer, watch)
        records, meta = reads.list_objects(self._core, kind, target.namespace or None, options)
        return _answer_list(encoder, records, meta)

    async def _post(
        self, request: web.BaseRequest, kind: Kind, target: Target, user: User
    ) -> web.StreamResponse:
        # A custom resource may be created under its own path; the name there counts for nothing.
        named = target.name is not None and (kind.builtin or target.subresource)
        if named:
            raise errors.method_not_allowed()
        encoder, options = self._encoder(request, kind), _write_options(request, "CreateOptions")
        obj, twice = await _read_object(request, kind, options)
        outcome = self._writer.create(kind, target.namespace, obj, options)
        return _written(encoder, outcome, twice)

    async def _put(
        self, request: web.BaseRequest, kind: Kind, target: Target, user: User
    ) -> web.StreamResponse:
        if target.name is None:
            raise _name_missing(kind)
        options = _write_options(request, "UpdateOptions")
        if target.subresource == SUBRESOURCE:
            scale, twice = await _read_object(request, SCALE, options)
            return self._rescale(request, kind, target, (lambda _: scale, BODY, twice), options)
        encoder = self._encoder(request, kind)
        obj, twice = await _read_object(request, kind, options)
        return _written(encoder, self._writer.replace(kind, target, obj, options), twice)

    async def _patch(
        self, request: web.BaseRequest, kind: Kind, target: Target, user: User
    ) -> web.StreamResponse:
        if target.name is None:
            raise _name_missing(kind)
        encoder, options = self._encoder(request, kind), _write_options(request, "PatchOptions")
        media_type = bodies.media_type(request)
        _check_patch_type(kind, media_type, request.query, target.subresource)
        body = await bodies.read(request)
        if media_type == "application/apply-patch+yaml":
            if not request.query.get("fieldManager"):
                problem = fields.required("fieldManager", "is required for apply patch")
                raise options_invalid("PatchOptions", problem)
            applied = await bodies.in_turn(
                len(body), lambda: bodies.parse_object(body, "application/yaml", kind.kind)
            )
            outcome = self._writer.server_side_apply(kind, target, applied, options)
            return _written(encoder, outcome)
        patch, twice = await self._read_patch(kind, target, media_type, body, options)
        if twice and options.validation is FieldValidation.STRICT:
            patch = replace(patch, faults=tuple(twice))
        if target.subresource == SUBRESOURCE:
            made = (patch.change, Origin(Via.PATCH, patch.shown), twice)
            return self._rescale(request, kind, target, made, options)
        return _written(encoder, self._writer.patch(kind, target, patch, options), twice)

    async def _read_patch(
        self, kind: Kind, target: Target, media_type: str, body: bytes, options: WriteOptions
    ) -> tuple[Patch, list[str]]:
        """Return a patch, and a sentence per field that it has twice.

        A large one is computed beforehand, in a thread, from the object as it is now.
        """
        size_bytes = len(body)
        if media_type == _JSON_PATCH and b"copy" in body:
            size_bytes = bodies.BODY_LIMIT_BYTES  # it may become so large
        patch, twice = await bodies.in_turn(
            size_bytes, lambda: (_patch(media_type, body), _duplicates(body, options))
        )
        large = size_bytes > bodies.SMALL_BODY_BYTES and target.subresource != SUBRESOURCE
        present = self._writer.present(kind, target) if large else None
        if present is not None:
            patch = await bodies.in_turn(
                size_bytes,
                lambda: patch.prepared(present, lambda obj: _patch(media_type, body).change(obj)),
            )
        return patch, twice

    def _rescale(
        self,
        request: web.BaseRequest,
        kind: Kind,
        target: Target,
        made: tuple[Callable[[Json], Json], Origin, list[str]],
        options: WriteOptions,
    ) -> web.Response:
        encoder = self._encoder(request, SCALE)
        change, origin, warnings = made
        scaling = Scaling(change, origin, options.validation)
        outcome = self._writer.rescale(kind, target, scaling, options)
        shown = scale_record(kind, outcome.record)
        return _written(encoder, replace(outcome, record=shown), warnings)

    async def _delete(
        self, request: web.BaseRequest, kind: Kind, target: Target, user: User
    ) -> web.StreamResponse:
        if target.subresource:
            raise errors.method_not_allowed()
        encoder = self._encoder(request, kind)
        body = await bodies.read(request)
        content = None
        if body:
            content = bodies.parse_delete_options(body, bodies.media_type(request))
        dry_runs = request.query.getall("dryRun", [])
        options = parse_delete_options(request.query, dry_runs, content)
        if target.name is None:
            if kind.builtin and kind.kind == "Namespace":
                raise errors.method_not_allowed()
            records, meta = reads.list_objects(
                self._core, kind, target.namespace, parse_list_options(request.query)
            )
            await self._delete_all(kind, records, options)
            return _answer_list(encoder, records, meta)
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
                        if error.code != 404:  # another client was faster
                            raise
            await asyncio.sleep(0)


def _check_everywhere(method: str, kind: Kind, target: Target) -> None:
    """Refuse what cannot be done in all namespaces at once: anything but to list and watch.

    Custom resources have no other paths there at all (apiextensions-apiserver
    ``customresource_handler.go``, possiblyAcrossAllNamespacesVerbs). Built-in kinds have those
    with an empty segment; there a real server deletes in all namespaces, and this one does not.

    Raises:
        errors.StatusError: 400; 404; 405; 422.
    """
    if target.name is None and (method == "GET" or (method == "HEAD" and not kind.builtin)):
        return
    if not kind.builtin:
        raise errors.unknown_path()
    if target.namespace is None or method not in _METHODS:
        raise errors.method_not_allowed()
    if target.name is None and method == "POST":
        problem = fields.required("metadata.namespace")
        raise errors.invalid(kind.group, kind.kind, "", [problem])
    if target.name is None or method == "POST":
        raise errors.method_not_allowed()
    raise errors.bad_request("Namespace parameter required.")


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


async def _read_object(
    request: web.BaseRequest, kind: Kind, options: WriteOptions
) -> tuple[Json, list[str]]:
    """Return a body, and a sentence per field that it has twice."""
    body = await bodies.read(request)
    media_type = bodies.media_type(request)

    def parse() -> tuple[Json, list[str]]:
        obj = bodies.parse_object(body, media_type, kind.kind, protobuf_too=kind.builtin)
        return obj, [] if media_type == protobuf.MEDIA_TYPE else _duplicates(body, options, obj)

    obj, twice = await bodies.in_turn(len(body), parse)
    if twice and options.validation is FieldValidation.STRICT:
        raise BODY.cannot_handle(kind, obj, f"strict decoding error: {', '.join(twice)}")
    return obj, twice


def _duplicates(body: bytes, options: WriteOptions, parsed: Any = None) -> list[str]:
    if options.validation is FieldValidation.IGNORE:
        return []
    return bodies.duplicate_fields(body, parsed)


def _check_patch_type(
    kind: Kind, media_type: str, query: Mapping[str, str], subresource: str
) -> None:
    supported = [
        name
        for name in _PATCH_TYPES
        if kind.builtin or name != "application/strategic-merge-patch+json"
    ]
    if subresource == SUBRESOURCE:  # the fields of a Scale have no owners
        supported.remove("application/apply-patch+yaml")
    if media_type not in supported:
        raise errors.unsupported_media_type(", ".join(supported))
    if "force" in query and media_type != "application/apply-patch+yaml":
        problem = fields.forbidden("force", "may not be specified for non-apply patch")
        raise options_invalid("PatchOptions", problem)


def _patch(media_type: str, text: bytes) -> Patch:
    body = bodies.parse_json(text, "error decoding patch")
    if media_type == _JSON_PATCH:
        return Patch(lambda obj: patching.json_patch(obj, body))
    if not isinstance(body, dict):
        raise errors.bad_request("error decoding patch: a JSON object is wanted")
    if media_type == "application/merge-patch+json":
        return Patch(lambda obj: patching.merge_patch(obj, body))
    return Patch(
        lambda obj: patching.strategic_merge(obj, body, in_place=True),
        shown=lambda: go_value(bodies.parse_json(text, "")),
    )


def _warning(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'299 - "{escaped}"'


def _answer_list(encoder: Encoder, records: Sequence[Record], meta: ListMeta) -> web.StreamResponse:
    sizes = [len(record.raw) for record in records]
    if sum(sizes) <= pacing.SMALL_BYTES:
        return _answer(encoder, encoder.list(records, meta))
    response = pacing.PacedResponse(headers={"Content-Type": encoder.encoding.content_type})
    response.parts = encoder.list_parts(records, meta)
    response.in_thread = encoder.encoding.yaml or encoder.encoding.protobuf
    if encoder.encoding.protobuf:
        response.held_bytes = sum(sizes)
    elif not encoder.shares_texts:
        response.held_bytes = max(pacing.PIECE_BYTES, *sizes)
    return response


async def _answer_object(encoder: Encoder, record: Record) -> web.StreamResponse:
    slow = encoder.encoding.yaml or encoder.encoding.protobuf
    if slow and len(record.raw) > _SLOW_BYTES:
        return _answer(encoder, await asyncio.to_thread(encoder.object, record))
    return _answer(encoder, encoder.object(record))


def _answer(encoder: Encoder, body: bytes, status: int = 200) -> web.Response:
    return web.Response(
        body=body, status=status, headers={"Content-Type": encoder.encoding.content_type}
    )


def _written(encoder: Encoder, outcome: Outcome, twice: Sequence[str] = ()) -> web.Response:
    response = _answer(encoder, encoder.object(outcome.record), 201 if outcome.created else 200)
    for warning in (*twice, *outcome.warnings):
        response.headers.add("Warning", _warning(warning))
    return response


def _refusal(error: errors.StatusError) -> web.Response:
    headers = {"Content-Type": "application/json"}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    return web.Response(body=error.encode(), status=error.code, headers=headers)

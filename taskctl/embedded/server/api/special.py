"""Paths that are not plain objects: pods/log, bindings, evictions, tokens, access reviews."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import orjson
from aiohttp import web

from taskctl.clock import format_seconds
from taskctl.embedded.server.access.auth import ISSUER, Authenticator, User
from taskctl.embedded.server.api.encode import Encoder
from taskctl.embedded.server.core import Core, strategy_of
from taskctl.embedded.server.http import bodies
from taskctl.embedded.server.kinds import virtual as virtual_kinds
from taskctl.embedded.server.kinds.model import Kind
from taskctl.embedded.server.kinds.virtual import VirtualKind
from taskctl.embedded.server.pods import strategy as pods
from taskctl.embedded.server.protobuf import shapes
from taskctl.embedded.server.refusals import errors, fields
from taskctl.embedded.server.refusals.errors import Json
from taskctl.embedded.server.refusals.fields import FieldError
from taskctl.embedded.server.relay.logs import LogProxy
from taskctl.embedded.server.relay.remote import SUBRESOURCES, RemoteRelay
from taskctl.embedded.server.requests.options import parse_delete_options, parse_write_options
from taskctl.embedded.server.requests.paths import Target
from taskctl.embedded.server.storage.store import Written
from taskctl.embedded.server.writes.writer import Writer

_Answer = Callable[[web.BaseRequest, Target, User], Awaitable[web.StreamResponse]]
_UNSUPPORTED: Final = ("proxy",)


class Special:
    """Answers the requests that need code of their own."""

    def __init__(
        self, core: Core, authenticator: Authenticator, logs: LogProxy, remote: RemoteRelay
    ) -> None:
        self._core = core
        self._authenticator = authenticator
        self._logs = logs
        self._remote = remote
        self._writer = Writer(core)
        self._answers: dict[tuple[str, str, str, str], _Answer] = {
            ("GET", "", "pods", "log"): self._log,
            ("POST", "", "pods", "binding"): self._bind,
            ("POST", "", "pods", "eviction"): self._evict,
            ("POST", "", "serviceaccounts", "token"): self._token,
        }
        for subresource in SUBRESOURCES:
            for method in ("GET", "POST"):
                self._answers[method, "", "pods", subresource] = self._stream
        for kind, answer in (
            (virtual_kinds.BINDING, self._bind),
            (virtual_kinds.SELF_ACCESS_REVIEW, self._allowed_self),
            (virtual_kinds.ACCESS_REVIEW, self._allowed),
            (virtual_kinds.LOCAL_ACCESS_REVIEW, self._allowed_there),
            (virtual_kinds.SELF_RULES_REVIEW, self._rules),
            (virtual_kinds.SELF_SUBJECT_REVIEW, self._who),
            (virtual_kinds.TOKEN_REVIEW, self._review_token),
        ):
            self._answers["POST", kind.group, kind.plural, ""] = answer

    async def answer(
        self, request: web.BaseRequest, target: Target, user: User
    ) -> web.StreamResponse | None:
        """Answer the request if it is one of these; otherwise None."""
        place = (target.group, target.plural, target.subresource)
        answer = self._answers.get((request.method, *place))
        if any(found[1:] == place for found in self._answers):
            _check_place(target)
            if answer is None:
                raise errors.method_not_allowed()
        if answer is not None and target.version == "v1":
            return await answer(request, target, user)
        if target.plural == "pods" and target.subresource in _UNSUPPORTED:
            raise errors.not_implemented(
                f"this embedded server has no pods/{target.subresource}; on the local node, "
                "containers are processes of this machine"
            )
        return None

    def deleted(self, encoder: Encoder, kind: Kind, written: Written) -> web.Response:
        """Answer a delete: with the object while it exists, or where its kind does so always."""
        record = written.record
        if written.removed and not strategy_of(kind).returns_deleted:
            return _json(errors.success(record.resource, record.name, record.uid))
        return web.Response(
            body=encoder.object(record), headers={"Content-Type": encoder.encoding.content_type}
        )

    # --- pods -----------------------------------------------------------------------

    async def _log(
        self, request: web.BaseRequest, target: Target, user: User
    ) -> web.StreamResponse:
        pod = self._core.store.require(pods.PODS, target.namespace or "", target.name or "")
        return await self._logs.serve(request, pod)

    async def _stream(
        self, request: web.BaseRequest, target: Target, user: User
    ) -> web.StreamResponse:
        pod = self._core.store.require(pods.PODS, target.namespace or "", target.name or "")
        return await self._remote.serve(request, pod, target.subresource)

    async def _bind(
        self, request: web.BaseRequest, target: Target, user: User
    ) -> web.StreamResponse:
        binding = await _read(request, virtual_kinds.BINDING)
        options = parse_write_options(request.query, request.query.getall("dryRun", []), "")
        name = _same_name(binding, target)
        record = self._core.store.require(pods.PODS, target.namespace or "", name)
        obj = pods.bind(record, binding, self._core.clock.now())
        self._core.store.update(pods.PODS, obj, dry_run=options.dry_run)
        return _success(201)

    async def _evict(
        self, request: web.BaseRequest, target: Target, user: User
    ) -> web.StreamResponse:
        eviction = await _read(request, virtual_kinds.EVICTION)
        # The query has the options of the eviction, not those of the deletion.
        asked = parse_write_options(request.query, request.query.getall("dryRun", []), "")
        options = parse_delete_options({}, [], eviction.get("deleteOptions") or {})
        kind = self._core.registry.by_plural("", "v1", "pods")
        if kind is None:
            raise errors.unknown_path()
        namespace, name = target.namespace or "", _same_name(eviction, target)
        pod = self._core.store.require(pods.PODS, namespace, name).load()
        dry = self._writer.delete(kind, namespace, name, replace(options, dry_run=True))
        if not (options.dry_run or asked.dry_run) and dry.changed:
            with self._core.store.batch():
                _evicting(pod, format_seconds(self._core.clock.now()))
                self._core.store.update(pods.PODS, pod)
                # The version that the client asked for has been checked; it is the one before.
                self._writer.delete(kind, namespace, name, replace(options, revision=None))
        return _success(201)

    # --- identity and access --------------------------------------------------------

    async def _token(
        self, request: web.BaseRequest, target: Target, user: User
    ) -> web.StreamResponse:
        body = await _read(request, virtual_kinds.TOKEN_REQUEST)
        made = self._authenticator.issue(target.namespace or "", target.name or "", body)
        return _json(made, 201)

    async def _allowed_self(
        self, request: web.BaseRequest, target: Target, user: User
    ) -> web.StreamResponse:
        review = await _read(request, virtual_kinds.SELF_ACCESS_REVIEW)
        return _allow(review, _check_question(review))

    async def _allowed(
        self, request: web.BaseRequest, target: Target, user: User
    ) -> web.StreamResponse:
        review = await _read(request, virtual_kinds.ACCESS_REVIEW)
        return _allow(review, _check_question(review) + _check_subject(review))

    async def _allowed_there(
        self, request: web.BaseRequest, target: Target, user: User
    ) -> web.StreamResponse:
        review = await _read(request, virtual_kinds.LOCAL_ACCESS_REVIEW)
        given = (review.get("metadata") or {}).get("namespace")
        if given and given != target.namespace:
            raise errors.bad_request(
                "the namespace of the provided object does not match the namespace sent on the "
                "request"
            )
        found = _check_question(review) + _check_subject(review)
        spec = review.get("spec") or {}
        asked = spec.get("resourceAttributes") or {}
        if (asked.get("namespace") or "") != target.namespace:
            path = "spec.resourceAttributes.namespace"
            message = "must match metadata.namespace"
            found.append(fields.invalid(path, asked.get("namespace") or "", message))
        if spec.get("nonResourceAttributes"):
            message = "disallowed on this kind of request"
            found.append(
                fields.invalid("spec.nonResourceAttributes", spec["nonResourceAttributes"], message)
            )
        return _allow(review, found)

    async def _rules(
        self, request: web.BaseRequest, target: Target, user: User
    ) -> web.StreamResponse:
        review = await _read(request, virtual_kinds.SELF_RULES_REVIEW)
        if not (review.get("spec") or {}).get("namespace"):
            raise errors.bad_request("no namespace on request")
        rules = {
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": False,
        }
        return _json(_reviewed(review, rules), 201)

    async def _who(
        self, request: web.BaseRequest, target: Target, user: User
    ) -> web.StreamResponse:
        review = await _read(request, virtual_kinds.SELF_SUBJECT_REVIEW)
        return _json(_reviewed(review, {"userInfo": _user_info(user)}), 201)

    async def _review_token(
        self, request: web.BaseRequest, target: Target, user: User
    ) -> web.StreamResponse:
        review = await _read(request, virtual_kinds.TOKEN_REVIEW)
        spec = review.get("spec") or {}
        if not spec.get("token"):
            raise errors.bad_request("token is required for TokenReview in authentication")
        audiences = spec.get("audiences") or [ISSUER]
        try:
            found = self._authenticator.authenticate(f"Bearer {spec['token']}", audiences)
        except errors.StatusError:
            return _json(_reviewed(review, {"user": {}}), 201)
        status = {
            "authenticated": True,
            "user": _user_info(found),
            "audiences": list(found.audiences),
        }
        return _json(_reviewed(review, status), 201)


def _check_place(target: Target) -> None:
    """Refuse a path with too many or too few parts for what it leads to.

    Raises:
        errors.StatusError: 400; 404; 405.
    """
    namespaced = target.group == "" or target.plural == virtual_kinds.LOCAL_ACCESS_REVIEW.plural
    if namespaced != (target.namespace is not None):
        raise errors.unknown_path()
    if (target.name is None) == bool(target.subresource):
        raise errors.unknown_path()
    if target.namespace == "":
        raise errors.bad_request("Namespace parameter required.")


async def _read(request: web.BaseRequest, kind: VirtualKind) -> Json:
    """Read a body, which must be of the kind; it may leave out to say so.

    Raises:
        errors.StatusError: 400; 413; 415.
    """
    found = bodies.parse_object(await bodies.read(request), bodies.media_type(request), kind.kind)
    given, api_version = str(found.get("kind") or ""), str(found.get("apiVersion") or "")
    if not kind.is_meant_by(api_version, given):
        why = kind.not_meant(api_version, given)
        version = (api_version or kind.api_version).rpartition("/")[2]
        raise errors.bad_request(
            f'{given or kind.kind} in version "{version}" cannot be handled as a {kind.kind}: {why}'
        )
    problem = shapes.check(found, kind.api_version, kind.kind)
    if problem is not None:
        raise errors.bad_request(
            f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {problem}'
        )
    return {**found, "kind": kind.kind, "apiVersion": api_version or kind.api_version}


def _same_name(body: Json, target: Target) -> str:
    """Return the pod's name; that in the body must be the same as that in the URL."""
    named = (body.get("metadata") or {}).get("name") or ""
    if target.name and named and named != target.name:
        kind = "Binding" if target.subresource == "binding" else "Eviction"
        raise errors.bad_request(f"name in URL does not match name in {kind} object")
    return target.name or named


def _check_question(review: Json) -> list[FieldError]:
    spec = review.get("spec") or {}
    if bool(spec.get("resourceAttributes")) != bool(spec.get("nonResourceAttributes")):
        return []
    message = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
    return [fields.invalid("spec.resourceAttributes", None, message)]


def _check_subject(review: Json) -> list[FieldError]:
    spec = review.get("spec") or {}
    if spec.get("user") or spec.get("groups"):
        return []
    message = "at least one of user or group must be specified"
    return [fields.invalid("spec.user", "", message)]


def _allow(review: Json, found: list[FieldError]) -> web.Response:
    """Answer an access review: every valid token may do everything here."""
    if found:
        # Kubernetes leaves the kind out of this refusal.
        raise errors.invalid(virtual_kinds.AUTHORIZATION, "", "", found)
    return _json(_reviewed(review, {"allowed": True}), 201)


def _reviewed(review: Json, status: Json) -> Json:
    return {**review, "metadata": {}, "status": status}


def _evicting(pod: Json, now: str) -> None:
    """Say in a pod's status why it is being deleted, for those who count failures."""
    status: Json = pod.setdefault("status", {})
    conditions = [c for c in status.get("conditions") or () if c.get("type") != "DisruptionTarget"]
    conditions.append(
        {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting",
            "lastTransitionTime": now,
        }
    )
    status["conditions"] = conditions


def _user_info(user: User) -> Json:
    info: Json = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        info["uid"] = user.uid
    return info


def _success(status: int) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    return _json({**body, "code": status}, status)


def _json(body: Json, status: int = 200) -> web.Response:
    return web.Response(
        body=orjson.dumps(body), status=status, headers={"Content-Type": "application/json"}
    )

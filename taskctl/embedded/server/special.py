"""Paths that are not plain objects: pods/log, bindings, evictions, tokens, access reviews."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import orjson
from aiohttp import web

from taskctl.clock import format_seconds
from taskctl.embedded.server import bodies, errors, fields, pods
from taskctl.embedded.server.auth import ISSUER, Authenticator, User
from taskctl.embedded.server.core import Core, strategy_of
from taskctl.embedded.server.encode import Encoder
from taskctl.embedded.server.errors import Json
from taskctl.embedded.server.kinds import Kind
from taskctl.embedded.server.logs import LogProxy
from taskctl.embedded.server.store import Written
from taskctl.embedded.server.targets import (
    Target,
    parse_delete_options,
    parse_write_options,
)
from taskctl.embedded.server.writes import NAMESPACES, Writer

_Answer = Callable[[web.BaseRequest, Target, User], Awaitable[web.StreamResponse]]
_UNSUPPORTED: Final = ("exec", "attach", "portforward", "proxy")


class Special:
    """Answers the requests that need code of their own."""

    def __init__(self, core: Core, authenticator: Authenticator, logs: LogProxy) -> None:
        self._core = core
        self._authenticator = authenticator
        self._logs = logs
        self._writer = Writer(core)
        self._answers: dict[tuple[str, str, str, str], _Answer] = {
            ("GET", "", "pods", "log"): self._log,
            ("POST", "", "pods", "binding"): self._bind,
            ("POST", "", "bindings", ""): self._bind,
            ("POST", "", "pods", "eviction"): self._evict,
            ("POST", "", "serviceaccounts", "token"): self._token,
            ("PUT", "", "namespaces", "finalize"): self._finalize,
            ("POST", "authorization.k8s.io", "selfsubjectaccessreviews", ""): self._allowed,
            ("POST", "authorization.k8s.io", "subjectaccessreviews", ""): self._allowed,
            ("POST", "authorization.k8s.io", "selfsubjectrulesreviews", ""): self._rules,
            ("POST", "authentication.k8s.io", "selfsubjectreviews", ""): self._who,
            ("POST", "authentication.k8s.io", "tokenreviews", ""): self._review_token,
        }

    async def answer(
        self, request: web.BaseRequest, target: Target, user: User
    ) -> web.StreamResponse | None:
        """Answer the request if it is one of these; otherwise None."""
        place = (target.group, target.plural, target.subresource)
        answer = self._answers.get((request.method, *place))
        if answer is None and any(found[1:] == place for found in self._answers):
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

    async def _bind(
        self, request: web.BaseRequest, target: Target, user: User
    ) -> web.StreamResponse:
        binding = await _read(request, "Binding")
        options = parse_write_options(request.query, request.query.getall("dryRun", []), "")
        name = _same_name(binding, target)
        record = self._core.store.require(pods.PODS, target.namespace or "", name)
        obj = pods.bind(record, binding, self._core.clock.now())
        self._core.store.update(pods.PODS, obj, dry_run=options.dry_run)
        return _success(201)

    async def _evict(
        self, request: web.BaseRequest, target: Target, user: User
    ) -> web.StreamResponse:
        eviction = await _read(request, "Eviction")
        options = parse_delete_options(
            request.query, request.query.getall("dryRun", []), eviction.get("deleteOptions")
        )
        kind = self._core.registry.by_plural("", "v1", "pods")
        if kind is None:
            raise errors.unknown_path()
        namespace, name = target.namespace or "", _same_name(eviction, target)
        pod = self._core.store.require(pods.PODS, namespace, name).load()
        dry = self._writer.delete(kind, namespace, name, replace(options, dry_run=True))
        if not options.dry_run and dry.changed:
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
        body = await _read(request, "TokenRequest")
        made = self._authenticator.issue(target.namespace or "", target.name or "", body)
        return _json(made, 201)

    async def _allowed(
        self, request: web.BaseRequest, target: Target, user: User
    ) -> web.StreamResponse:
        review = await _read_review(request, target, "SelfSubjectAccessReview")
        spec = review.get("spec") or {}
        if bool(spec.get("resourceAttributes")) == bool(spec.get("nonResourceAttributes")):
            message = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
            problem = fields.invalid("spec.resourceAttributes", None, message)
            raise errors.invalid(target.group, review["kind"], "", [problem])
        # Every valid token may do everything here.
        return _json(_reviewed(review, {"allowed": True}), 201)

    async def _rules(
        self, request: web.BaseRequest, target: Target, user: User
    ) -> web.StreamResponse:
        review = await _read_review(request, target, "SelfSubjectRulesReview")
        rules = {
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": False,
        }
        return _json(_reviewed(review, rules), 201)

    async def _who(
        self, request: web.BaseRequest, target: Target, user: User
    ) -> web.StreamResponse:
        review = await _read_review(request, target, "SelfSubjectReview")
        return _json(_reviewed(review, {"userInfo": _user_info(user)}), 201)

    async def _review_token(
        self, request: web.BaseRequest, target: Target, user: User
    ) -> web.StreamResponse:
        review = await _read_review(request, target, "TokenReview")
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

    # --- namespaces -----------------------------------------------------------------

    async def _finalize(
        self, request: web.BaseRequest, target: Target, user: User
    ) -> web.StreamResponse:
        body = await _read(request, "Namespace")
        record = self._core.store.require(NAMESPACES, "", target.name or "")
        obj = record.load()
        finalizers = (body.get("spec") or {}).get("finalizers") or []
        obj["spec"] = {"finalizers": finalizers} if finalizers else {}
        written = self._core.store.update(NAMESPACES, obj)
        return web.Response(body=written.record.raw, headers={"Content-Type": "application/json"})


async def _read(request: web.BaseRequest, kind: str) -> Json:
    body = await bodies.read(request)
    found = bodies.parse_object(body, bodies.media_type(request), kind) if body.strip() else {}
    given, version = found.get("kind") or kind, found.get("apiVersion") or "v1"
    if given != kind and not given.endswith("AccessReview"):
        raise errors.bad_request(
            f'{given} in version "{version}" cannot be handled as a {kind}: no kind "{given}" is '
            f'registered for version "{version}"'
        )
    return found


def _same_name(body: Json, target: Target) -> str:
    """Return the pod's name; that in the body must be the same as that in the URL."""
    named = (body.get("metadata") or {}).get("name") or ""
    if target.name and named and named != target.name:
        kind = "Binding" if target.subresource == "binding" else "Eviction"
        raise errors.bad_request(f"name in URL does not match name in {kind} object")
    return target.name or named


async def _read_review(request: web.BaseRequest, target: Target, kind: str) -> Json:
    found = await _read(request, kind)
    return {"apiVersion": f"{target.group}/{target.version}", "kind": kind, **found}


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

"""Who may speak: one administrator's token, and tokens of service accounts.

There is no authorization beyond that: a client with a valid token may do everything. Tokens of
service accounts are JWTs signed with a key of this server; they die with their pod or account.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import orjson

from taskctl.clock import format_seconds
from taskctl.embedded.server.core import Core
from taskctl.embedded.server.refusals import errors, fields
from taskctl.embedded.server.refusals.errors import Json, Resource

_HEADER: Final = {"alg": "HS256", "typ": "JWT"}
_SERVICE_ACCOUNTS: Final = Resource("", "serviceaccounts")
_DEFAULT_LIFE_S: Final = 3600
_MIN_LIFE_S: Final = 600  # pkg/apis/authentication/validation
_MAX_LIFE_S: Final = 1 << 32
ISSUER: Final = "https://kubernetes.default.svc.cluster.local"


@dataclass(frozen=True, slots=True)
class User:
    """Who sends a request.

    Attributes:
        name: for example ``admin`` or ``system:serviceaccount:default:worker``.
        uid: of the service account; empty otherwise.
        groups: as Kubernetes would say.
        audiences: those of the ones asked for that the token is meant for.
    """

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ("system:authenticated",)
    audiences: tuple[str, ...] = (ISSUER,)


ADMIN: Final = User("admin", groups=("system:masters", "system:authenticated"))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Authenticator:
    """Checks bearer tokens and makes those of service accounts."""

    def __init__(self, core: Core, admin_token: str, signing_key: bytes) -> None:
        self._core = core
        self._admin = admin_token.encode()
        self._key = signing_key

    def authenticate(self, header: str | None, audiences: Sequence[str] = (ISSUER,)) -> User:
        """Return who the Authorization header names.

        Args:
            header: of the request.
            audiences: a service account's token must be meant for one of them.

        Raises:
            errors.StatusError: 401.
        """
        scheme, _, token = (header or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer":
            token = ""
        if not token:
            raise errors.unauthorized()
        if hmac.compare_digest(token.encode(), self._admin):
            return ADMIN
        return self._service_account(token, audiences)

    def _service_account(self, token: str, audiences: Sequence[str]) -> User:
        try:
            signed, _, signature = token.rpartition(".")
            wanted = hmac.digest(self._key, signed.encode(), hashlib.sha256)
            if not hmac.compare_digest(_decode(signature), wanted):
                raise errors.unauthorized()
            claims: Json = orjson.loads(_decode(signed.partition(".")[2]))
            bound: Json = claims["kubernetes.io"]
            expires_s = float(claims["exp"])
            meant_for = set(claims["aud"])
        except (binascii.Error, ValueError, KeyError, TypeError) as error:
            raise errors.unauthorized() from error
        if self._core.clock.now().timestamp() >= expires_s or not self._still_there(bound):
            raise errors.unauthorized()
        shared = tuple(one for one in audiences if one in meant_for)
        if not shared:
            raise errors.unauthorized()
        namespace = bound["namespace"]
        return User(
            claims["sub"],
            bound["serviceaccount"]["uid"],
            (
                "system:serviceaccounts",
                f"system:serviceaccounts:{namespace}",
                "system:authenticated",
            ),
            shared,
        )

    def _still_there(self, bound: Json) -> bool:
        uids = [bound["serviceaccount"]["uid"]]
        if "pod" in bound:
            uids.append(bound["pod"]["uid"])
        return all(self._core.store.by_uid(uid) is not None for uid in uids)

    def issue(self, namespace: str, name: str, request: Json) -> Json:
        """Answer a TokenRequest: return it with its status filled in.

        Raises:
            errors.StatusError: 404, no such account or pod; 409, the pod is another one; 422.
        """
        account = self._core.store.require(_SERVICE_ACCOUNTS, namespace, name)
        spec: Json = request.get("spec") or {}
        life_s = spec.get("expirationSeconds") or _DEFAULT_LIFE_S
        if not isinstance(life_s, int) or not _MIN_LIFE_S <= life_s <= _MAX_LIFE_S:
            message = "may not specify a duration less than 10 minutes"
            problem = fields.invalid("spec.expirationSeconds", life_s, message)
            raise errors.invalid("authentication.k8s.io", "TokenRequest", "", [problem])
        now = self._core.clock.now()
        expires = now + timedelta(seconds=life_s)
        bound: Json = {
            "namespace": namespace,
            "serviceaccount": {"name": name, "uid": account.uid},
        }
        reference = spec.get("boundObjectRef")
        if reference:
            bound["pod"] = self._bind_to_pod(namespace, reference)
        claims: Json = {
            "aud": spec.get("audiences") or [ISSUER],
            "exp": int(expires.timestamp()),
            "iat": int(now.timestamp()),
            "nbf": int(now.timestamp()),
            "iss": ISSUER,
            "jti": secrets.token_hex(16),
            "sub": f"system:serviceaccount:{namespace}:{name}",
            "kubernetes.io": bound,
        }
        status = {"token": self._sign(claims), "expirationTimestamp": format_seconds(expires)}
        return {
            **request,
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": account.uid,
                "creationTimestamp": format_seconds(now),
            },
            "spec": {
                "boundObjectRef": None,
                **spec,
                "audiences": claims["aud"],
                "expirationSeconds": life_s,
            },
            "status": status,
        }

    def _bind_to_pod(self, namespace: str, reference: Any) -> Json:
        if not isinstance(reference, dict) or reference.get("kind") != "Pod":
            kind = reference.get("kind") if isinstance(reference, dict) else ""
            raise errors.bad_request(f"cannot bind token to object of type /v1, Kind={kind}")
        pods = Resource("", "pods")
        pod = self._core.store.require(pods, namespace, str(reference.get("name")))
        if reference.get("uid") and reference["uid"] != pod.uid:
            why = (
                f"the UID in the bound object reference ({reference['uid']}) does not match the "
                "UID in record. The object might have been deleted and then recreated"
            )
            raise errors.conflict(Resource("", "Pod"), pod.name, why)
        return {"name": pod.name, "uid": pod.uid}

    def _sign(self, claims: Json) -> str:
        signed = f"{_encode(orjson.dumps(_HEADER))}.{_encode(orjson.dumps(claims))}"
        signature = hmac.digest(self._key, signed.encode(), hashlib.sha256)
        return f"{signed}.{_encode(signature)}"

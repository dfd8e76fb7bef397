"""Secrets and ConfigMaps: encoding, keys, sizes, immutability.

After ``ValidateSecret`` and ``ValidateConfigMap`` in Kubernetes
``pkg/apis/core/validation/validation.go``; the sentences are theirs.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Final

from taskctl.embedded.server.refusals import fields
from taskctl.embedded.server.refusals.errors import Json
from taskctl.embedded.server.refusals.fields import FieldError
from taskctl.embedded.server.strategies.strategy import Strategy
from taskctl.embedded.server.values.meta import IMMUTABLE

_CONFIG_KEY: Final = re.compile(r"[-._a-zA-Z0-9]+")
_CONFIG_KEY_MESSAGE: Final = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. "
    "'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
_VALUES_LIMIT_BYTES: Final = 1024 * 1024
_ACCOUNT_TOKEN: Final = "kubernetes.io/service-account-token"
# Keys that a secret of a type must have (pkg/apis/core/validation, ValidateSecret).
_SECRET_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/basic-auth": ("username", "password"),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}


class SecretStrategy(Strategy):
    """Secrets."""

    def prepare_create(self, obj: Json) -> None:
        """Encode ``stringData``; the type defaults to Opaque."""
        obj.setdefault("type", "Opaque")
        _fold_string_data(obj)

    def prepare_update(self, obj: Json, old: Json) -> None:
        """Encode ``stringData``."""
        obj.setdefault("type", "Opaque")
        _fold_string_data(obj)

    def check_create(self, obj: Json) -> list[FieldError]:
        """Check that the values are base64, and that there is what the type promises."""
        found = _check_keys(obj, ("data",))
        for name, value in (obj.get("data") or {}).items():
            try:
                base64.b64decode(value or "", validate=True)
            except (binascii.Error, TypeError, ValueError):
                # The value is a secret, so the message does not repeat it.
                found.append(fields.invalid(f"data[{name}]", "***", "must be base64"))
        if not found:
            found = _check_size(obj, ("data",), "data") + _check_secret_type(obj)
        return found

    def check_update(self, obj: Json, old: Json) -> list[FieldError]:
        """Check the values, the type, and that an immutable secret stays as it is."""
        found = self.check_create(obj)
        if obj.get("type") != old.get("type"):
            found.append(fields.invalid("type", obj.get("type"), IMMUTABLE))
        return found + _check_immutable(obj, old, ("data",))


def _fold_string_data(obj: Json) -> None:
    plain = obj.pop("stringData", None)
    if isinstance(plain, dict):
        data: dict[str, Any] = obj.get("data") or {}
        for name, value in plain.items():
            data[name] = base64.b64encode(str(value).encode()).decode()
        obj["data"] = data


class ConfigMapStrategy(Strategy):
    """ConfigMaps."""

    def check_create(self, obj: Json) -> list[FieldError]:
        """Check that no key is in both maps."""
        both = set(obj.get("data") or ()) & set(obj.get("binaryData") or ())
        found = _check_keys(obj, ("data", "binaryData")) + [
            fields.invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
            for key in sorted(both)
        ]
        return found + _check_size(obj, ("data", "binaryData"), "[]")

    def check_update(self, obj: Json, old: Json) -> list[FieldError]:
        """Also check that an immutable map stays as it is."""
        return self.check_create(obj) + _check_immutable(obj, old, ("data", "binaryData"))


def _check_keys(obj: Json, names: tuple[str, ...]) -> list[FieldError]:
    """Check the keys of a ConfigMap or Secret, which may become file names."""
    found = []
    for name in names:
        for key in obj.get(name) or ():
            path = f"{name}[{key}]"
            if not _CONFIG_KEY.fullmatch(key):
                found.append(fields.invalid(path, key, _CONFIG_KEY_MESSAGE))
            elif key in (".", "..") or key.startswith(".."):
                found.append(fields.invalid(path, key, f"must not be '{key[:2]}' or start with it"))
            elif len(key) > 253:
                found.append(fields.invalid(path, key, "must be no more than 253 characters"))
    return found


def _check_size(obj: Json, names: tuple[str, ...], path: str) -> list[FieldError]:
    """Check the sum of all values: bytes, not base64."""
    total = 0
    for name in names:
        plain = name == "data" and obj.get("kind") == "ConfigMap"
        for value in (obj.get(name) or {}).values():
            total += len(value.encode()) if plain else len(value.rstrip("=")) * 3 // 4
    return [fields.too_long(path, _VALUES_LIMIT_BYTES)] if total > _VALUES_LIMIT_BYTES else []


def _check_secret_type(obj: Json) -> list[FieldError]:
    kind, data = obj.get("type"), obj.get("data") or {}
    if kind == _ACCOUNT_TOKEN:
        name = "kubernetes.io/service-account.name"
        if not (obj["metadata"].get("annotations") or {}).get(name):
            return [fields.required(f"metadata.annotations[{name}]")]
    wanted = _SECRET_KEYS.get(str(kind), ())
    if kind == "kubernetes.io/basic-auth" and any(name in data for name in wanted):
        return []  # one of the two is enough
    return [fields.required(f"data[{name}]") for name in wanted if name not in data]


def _check_immutable(obj: Json, old: Json, names: tuple[str, ...]) -> list[FieldError]:
    if not old.get("immutable"):
        return []
    message = "field is immutable when `immutable` is set"
    found = [] if obj.get("immutable") else [fields.forbidden("immutable", message)]
    return found + [
        fields.forbidden(name, message) for name in names if obj.get(name) != old.get(name)
    ]

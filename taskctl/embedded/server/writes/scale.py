"""The ``scale`` subresource of custom resources: replicas, as autoscaling/v1 Scale.

After apiextensions-apiserver ``pkg/registry/customresource/etcd.go`` (ScaleREST) and
``validator.go``. The definition says where in an object the numbers lie.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from taskctl.embedded.server.definitions.scale_paths import SUBRESOURCE
from taskctl.embedded.server.kinds.model import Column, Kind, ScalePaths
from taskctl.embedded.server.refusals import errors, fields
from taskctl.embedded.server.refusals.errors import Json
from taskctl.embedded.server.refusals.fields import FieldError
from taskctl.embedded.server.requests.options import FieldValidation
from taskctl.embedded.server.requests.paths import Target
from taskctl.embedded.server.storage.records import Record
from taskctl.embedded.server.writes import body_checks
from taskctl.embedded.server.writes.body_checks import Origin

_INT32_MAX: Final = 2**31 - 1
_SHOWN: Final = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")

SCALE: Final = Kind(
    group="autoscaling",
    version="v1",
    kind="Scale",
    list_kind="ScaleList",
    plural=SUBRESOURCE,
    singular=SUBRESOURCE,
    columns=(
        Column("Desired", "integer", description="Desired number", json_path=".spec.replicas"),
        Column("Available", "integer", description="Actual number", json_path=".status.replicas"),
        Column("Age", "date", json_path=".metadata.creationTimestamp"),
    ),
    builtin=True,
)


@dataclass(frozen=True, slots=True)
class Scaling:
    """What a request does to an object's replicas.

    Attributes:
        change: makes the new Scale from the present one.
        origin: of the Scale, for refusals.
        validation: of unknown fields in it.
    """

    change: Callable[[Json], Json]
    origin: Origin
    validation: FieldValidation

    def apply(self, kind: Kind, target: Target, obj: Json) -> tuple[Json, list[str]]:
        """Return an object with the replicas that are asked for, and warnings.

        Args:
            kind: of the object.
            target: names it.
            obj: the object; not changed.

        Raises:
            errors.StatusError: the new Scale is refused.
            PatchError: it cannot be made.
        """
        scale = self.change(_scale(kind, obj, 0 if _replicas(kind, obj) is None else None))
        if not isinstance(scale, dict):
            raise errors.bad_request("the patch leaves no object behind")
        body_checks.check_identity(SCALE, scale, self.origin)
        warnings = body_checks.prune(SCALE, scale, self.validation, self.origin)
        body_checks.check_types(SCALE, scale, self.origin)
        body_checks.check_names(scale["metadata"], target)
        made: Json = orjson.loads(orjson.dumps(obj))
        wanted = (scale.get("spec") or {}).get("replicas") or 0
        _put(made, _paths(kind).spec, wanted)
        revision = scale["metadata"].get("resourceVersion")
        if revision:
            made["metadata"]["resourceVersion"] = revision
        return made, warnings


def scale_record(kind: Kind, record: Record) -> Record:
    """Return the Scale of a stored object, as a record of its own.

    Raises:
        errors.StatusError: 500, the object says nothing of replicas.
    """
    scale = _scale(kind, record.load())
    return replace(record, api_version=SCALE.api_version, raw=orjson.dumps(scale))


def check(kind: Kind, obj: Json, *, status_only: bool = False) -> list[FieldError]:
    """Return what is wrong with an object's numbers (validateScaleSpec, validateScaleStatus)."""
    if kind.scale is None:
        return []
    found = _check_number(obj, kind.scale.status)
    if not status_only:
        found = _check_number(obj, kind.scale.spec) + found
    if kind.scale.selector:
        selector = _at(obj, kind.scale.selector)
        if selector is not None and not isinstance(selector, str):
            message = f"{kind.scale.selector} accessor error: it is not of the type string"
            found.append(fields.invalid(kind.scale.selector, selector, message))
    return found


def _check_number(obj: Json, path: str) -> list[FieldError]:
    value = _at(obj, path)
    if value is None:
        return []
    if isinstance(value, bool) or not isinstance(value, int):
        message = f"{path} accessor error: it is not of the type int64"
        return [fields.invalid(path, 0, message)]
    if value < 0:
        return [fields.invalid(path, value, "should be a non-negative integer")]
    if value > _INT32_MAX:
        return [fields.invalid(path, value, f"should be less than or equal to {_INT32_MAX}")]
    return []


def _paths(kind: Kind) -> ScalePaths:
    if kind.scale is None:
        raise errors.unknown_path()
    return kind.scale


def _scale(kind: Kind, obj: Json, default: int | None = None) -> Json:
    paths = _paths(kind)
    replicas = _replicas(kind, obj)
    if replicas is None:
        replicas = default
    if replicas is None:
        why = f'the spec replicas field "{paths.spec}" does not exist'
        raise errors.internal(why)
    status: Json = {"replicas": _number(_at(obj, paths.status))}
    selector = _at(obj, paths.selector) if paths.selector else None
    if isinstance(selector, str) and selector:
        status["selector"] = selector
    metadata = obj["metadata"]
    return {
        "kind": SCALE.kind,
        "apiVersion": SCALE.api_version,
        "metadata": {name: metadata[name] for name in _SHOWN if name in metadata},
        "spec": {"replicas": replicas} if replicas else {},
        "status": status,
    }


def _replicas(kind: Kind, obj: Json) -> int | None:
    value = _at(obj, _paths(kind).spec)
    return None if value is None else _number(value)


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _steps(path: str) -> list[str]:
    return path.removeprefix(".").split(".")


def _at(obj: Json, path: str) -> Any:
    spot: Any = obj
    for step in _steps(path):
        spot = spot.get(step) if isinstance(spot, dict) else None
    return spot


def _put(obj: Json, path: str, value: int) -> None:
    *above, last = _steps(path)
    spot = obj
    for step in above:
        below = spot.get(step)
        if not isinstance(below, dict):
            below = spot[step] = {}
        spot = below
    spot[last] = value

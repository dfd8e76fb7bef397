"""Parts of a pod's spec inside a TaskCluster: the shapes that Kubernetes has published for them.

They go to the worker pods as they stand. A field that Kubernetes does not know would be dropped
there in silence, and what is left may mean something else: a toleration with a misspelt key
tolerates everything. So the CRD has their full schemas, and the models check against the same.

``data/podparts.json`` is made by ``scripts/gen_podparts.py``.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Annotated, Any, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

Json = dict[str, Any]
_VALUE_CHARS: Final = 80


@cache
def _definitions() -> Json:
    path = resources.files("taskctl.api").joinpath("data/podparts.json")
    loaded: Json = json.loads(path.read_bytes())
    return loaded


@cache
def schema_of(name: str) -> Json:
    """Return the structural schema of a part, for example ``Toleration``; read-only."""
    return _inline(_definitions()[name])


def _inline(node: Json) -> Json:
    if "$ref" in node:
        beside = {key: value for key, value in node.items() if key != "$ref"}
        return {**_inline(_definitions()[node["$ref"]]), **beside}
    out = dict(node)
    if "properties" in node:
        out["properties"] = {key: _inline(one) for key, one in node["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in node:
            out[key] = _inline(node[key])
    return out


@dataclass(frozen=True, slots=True)
class Part:
    """Marks a field that holds such a part as a plain dict: ``Annotated[dict, Part("Affinity")]``.

    Attributes:
        name: Kubernetes' name of its type.
    """

    name: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Check before anything else."""
        return core_schema.no_info_before_validator_function(checker(self.name), handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> Json:
        """Return what Kubernetes has published."""
        return copy.deepcopy(schema_of(self.name))


Affinity = Annotated[Json, Part("Affinity")]
LabelSelector = Annotated[Json, Part("LabelSelector")]
LocalObjectReference = Annotated[Json, Part("LocalObjectReference")]
PodSecurityContext = Annotated[Json, Part("PodSecurityContext")]
ResourceRequirements = Annotated[Json, Part("ResourceRequirements")]
TopologySpreadConstraint = Annotated[Json, Part("TopologySpreadConstraint")]
Toleration = Annotated[Json, Part("Toleration")]


def extend(name: str) -> Callable[[Json], None]:
    """Return the ``json_schema_extra`` that adds a part's fields to those a model declares."""

    def add(schema: Json) -> None:
        known = copy.deepcopy(schema_of(name))
        schema["properties"] = known["properties"] | schema["properties"]
        schema.pop("additionalProperties", None)

    return add


def checker(name: str) -> Callable[[Any], Any]:
    """Return a validator that refuses what is not such a part.

    Raises (the validator):
        pydantic.ValidationError: with the path of each field that is wrong.
    """

    def check(value: Any) -> Any:
        errors = list(_problems(name, value))
        if errors:
            raise ValidationError.from_exception_data(name, errors)
        return value

    return check


def _problems(name: str, value: Any) -> Iterator[InitErrorDetails]:
    for error in _validator(name).iter_errors(_without_nulls(value)):
        path = tuple(error.instance_path)
        unexpected = getattr(error.kind, "unexpected", None)
        if unexpected is not None:
            for field in sorted(unexpected):
                yield InitErrorDetails(type="extra_forbidden", loc=(*path, field), input=None)
        else:
            yield InitErrorDetails(type=_complaint(error), loc=path, input=None)


def _complaint(error: Any) -> PydanticCustomError:
    message = str(error.message)
    if len(message) > 2 * _VALUE_CHARS:
        message = f"{message[:_VALUE_CHARS]} … {message[-_VALUE_CHARS:]}"
    return PydanticCustomError("kubernetes", "{message}", {"message": message})


@cache
def _validator(name: str) -> Any:
    import jsonschema_rs  # here, so that a command that reads no TaskCluster need not load it

    return jsonschema_rs.Draft4Validator(_closed(schema_of(name)))


def _closed(node: Json) -> Json:
    """Return the schema with unknown fields forbidden, as field validation does it."""
    out = dict(node)
    if "properties" in node:
        out["properties"] = {key: _closed(one) for key, one in node["properties"].items()}
        out["additionalProperties"] = False
    elif "additionalProperties" in node:
        out["additionalProperties"] = _closed(node["additionalProperties"])
    if "items" in node:
        out["items"] = _closed(node["items"])
    return out


def _without_nulls(value: Any) -> Any:
    """Null means absent, as to the API server."""
    if isinstance(value, dict):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value

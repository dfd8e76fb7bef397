"""JSON types of bodies that have no OpenAPI schema here, by the tables of their messages.

Reviews, bindings, options of a delete, and the schemas inside of definitions: what Go would
refuse to decode is refused, so that other code may rely on the types.
"""

from __future__ import annotations

from typing import Any, Final

from taskctl.embedded.server.protobuf.tables import Field, fields_of, message_of
from taskctl.embedded.server.refusals import fields
from taskctl.embedded.server.refusals.fields import FieldError, Path

_DEPTH_LIMIT: Final = 100
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "bytes": (str,),
    "bool": (bool,),
    "int": (int,),
    "double": (int, float),
    "meta.v1.Time": (str,),
    "meta.v1.MicroTime": (str,),
    "resource.Quantity": (str, int, float),
    "intstr.IntOrString": (int, str),
    "authentication.v1.ExtraValue": (list,),
    "authorization.v1.ExtraValue": (list,),
    "apiextensions.v1.JSONSchemaPropsOrBool": (bool, dict),
    "apiextensions.v1.JSONSchemaPropsOrArray": (dict, list),
    "apiextensions.v1.JSONSchemaPropsOrStringArray": (dict, list),
}
_ANY: Final = frozenset({"apiextensions.v1.JSON", "runtime.RawExtension", "meta.v1.FieldsV1"})
_SCHEMA: Final = "apiextensions.v1.JSONSchemaProps"


class _WrongError(Exception):
    def __init__(self, path: Path, value: Any, wanted: str) -> None:
        super().__init__(wanted)
        self.problem = fields.type_invalid(fields.format_path(path), value, f"must be {wanted}")


def check(obj: dict[str, Any], api_version: str, kind: str) -> FieldError | None:
    """Return the first field of a body that has a wrong type; drop its nulls.

    Args:
        obj: the body.
        api_version: of the kind.
        kind: one of those in the tables; of others nothing is known.
    """
    message = message_of(api_version, kind)
    if message is None:
        return None
    try:
        _check_message(obj, message, ())
    except _WrongError as error:
        return error.problem
    return None


def _check_message(obj: dict[str, Any], message: str, path: Path) -> None:
    if len(path) > _DEPTH_LIMIT:
        raise _WrongError(path, None, f"nested at most {_DEPTH_LIMIT} deep")
    for field in fields_of(message).values():
        if field.inline:
            _check_message(obj, field.type, path)
        elif field.name in obj:
            value = obj[field.name]
            if value is None:
                del obj[field.name]
            else:
                _check_field(value, field, (*path, field.name))


def _check_field(value: Any, field: Field, path: Path) -> None:
    if field.map:
        if not isinstance(value, dict):
            raise _WrongError(path, value, "an object")
        for key, one in value.items():
            _check_value(one, field.type, (*path, key))
    elif field.many:
        if not isinstance(value, list):
            raise _WrongError(path, value, "a list")
        for index, one in enumerate(value):
            _check_value(one, field.type, (*path, index))
    else:
        _check_value(value, field.type, path)


def _check_value(value: Any, kind: str, path: Path) -> None:
    if kind in _ANY:
        return
    wanted = _TYPES.get(kind, (dict,))
    wrong = not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted)
    if wrong:
        names = " or ".join(one.__name__ for one in wanted)
        raise _WrongError(path, value, f"of type {names}")
    if kind.startswith(f"{_SCHEMA}Or"):
        listed = value if isinstance(value, list) else [value]
        for index, one in enumerate(listed):
            if isinstance(one, dict):
                _check_message(one, _SCHEMA, (*path, index))
            elif not isinstance(one, bool) and not kind.endswith("StringArray"):
                raise _WrongError((*path, index), one, "of type dict")
    elif wanted == (dict,):
        _check_message(value, kind, path)

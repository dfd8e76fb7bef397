"""Structural schemas: what the server knows of a kind's shape.

A :class:`StructuralSchema` is built once from OpenAPI v3 JSON and then prunes, defaults and
validates objects as k8s.io/apiextensions-apiserver does for custom resources.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import orjson

from taskctl.embedded.server.cel import check as cel_check
from taskctl.embedded.server.cel import rules as cel
from taskctl.embedded.server.refusals.fields import NO_PATH, FieldError, FieldReason, invalid
from taskctl.embedded.server.schema import go_values as builtin_values
from taskctl.embedded.server.schema import walks as schema_walks
from taskctl.embedded.server.schema.nodes import SchemaNode, build
from taskctl.embedded.server.schema.values import ValueValidator

__all__ = ["FieldError", "StructuralSchema", "compiled"]

JSON = dict[str, Any]

# k8s.io/apiextensions-apiserver pkg/registry/customresource/strategy.go, hasBlockingErr.
_BLOCKING: Final = frozenset(
    {
        FieldReason.NOT_SUPPORTED, FieldReason.REQUIRED, FieldReason.TOO_LONG,
        FieldReason.TOO_MANY, FieldReason.TYPE_INVALID,
    }
)  # fmt: skip
_RULES_SKIPPED: Final = invalid(
    NO_PATH,
    None,
    "some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation",
)


class StructuralSchema:
    """One version's schema, compiled. Safe to share between threads.

    Attributes:
        raw: the OpenAPI v3 JSON; not to be changed.
        root: its tree.
        rule_errors: CEL rules that do not compile; their paths are relative to the schema.
    """

    def __init__(self, raw: JSON, *, builtin: bool = False) -> None:
        """Compile a schema.

        Args:
            raw: OpenAPI v3 JSON of the whole object, as in
                ``spec.versions[].schema.openAPIV3Schema``. Must be structural; use
                crds.check_crd for one that comes from a user.
            builtin: of a kind that Kubernetes decodes into Go types.
        """
        self.raw = raw
        self._builtin = builtin
        self.root: SchemaNode = build(raw)
        self._values = ValueValidator(raw)
        self._rules, self.rule_errors = cel.compile_tree(self.root)

    def apply_defaults(self, obj: JSON) -> None:
        """Fill in defaults in place; drop nulls where the schema is not nullable."""
        schema_walks.apply_defaults(obj, self.root)

    def prune(self, obj: JSON) -> list[str]:
        """Drop unknown fields in place.

        Returns:
            One text per dropped field, as the server says it under fieldValidation Strict
            and Warn: ``unknown field "spec.foo"``.
        """
        dropped = schema_walks.prune_metadata(obj)
        schema_walks.prune(obj, self.root, "", dropped, embedded=True)
        if not self._builtin:  # the decoder of Go types tells of them in the text's order
            dropped.sort()
        return [f'unknown field "{path}"' for path in dropped]

    def settle(self, obj: JSON) -> FieldError | None:
        """Make of a built-in kind's values, in place, what decoding them does.

        Returns:
            What cannot be decoded, or None.
        """
        return builtin_values.settle(obj, self.root)

    def validate(
        self, obj: JSON, old: JSON | None, *, found: Sequence[FieldError] = ()
    ) -> list[FieldError]:
        """Check a defaulted object.

        Args:
            obj: the object to be stored.
            old: the stored object on update, None on create. Errors in parts that the
                update leaves alone are forgiven (ratcheting, on by default since 1.30),
                except those of transition rules.
            found: errors found elsewhere in the object, in its metadata say.

        Returns:
            The errors, empty when the object is valid. CEL rules do not run when an error
            could make them fail for no reason of their own, as on the real server.
        """
        errors: list[FieldError] = []
        for path, error in self._values.check(obj):
            if old is None or not schema_walks.unchanged(path, self.root, obj, old):
                errors.append(error)
        if self.root.embedded_below:
            schema_walks.check_embedded(obj, self.root, (), errors)
        if self.root.lists_below:
            errors.extend(self._check_lists(obj, old))
        if self._rules is None:
            return errors
        if any(error.reason in _BLOCKING for error in (*found, *errors)):
            return [*errors, _RULES_SKIPPED]
        return [*errors, *cel_check.check(self._rules, obj, old)]

    def _check_lists(self, obj: JSON, old: JSON | None) -> list[FieldError]:
        found: list[FieldError] = []
        schema_walks.check_lists(obj, self.root, (), found)
        if found and old is not None:
            before: list[FieldError] = []
            schema_walks.check_lists(old, self.root, (), before)
            if before:  # stored that way already: not this update's fault
                return []
        return found


def compiled(raw: JSON) -> StructuralSchema:
    """Return the compiled schema of a definition's version.

    Compiling a large schema takes 0.1 s. It is wanted twice, to check the definition and to serve
    its kind, and again whenever something else of the definition changes.
    """
    try:
        text = orjson.dumps(raw)
    except TypeError:  # an integer of more than 64 bits, from YAML
        return StructuralSchema(raw)
    return _compiled(text)


@lru_cache(maxsize=16)
def _compiled(raw: bytes) -> StructuralSchema:
    return StructuralSchema(orjson.loads(raw))

"""``x-kubernetes-validations``: compile once per schema, evaluate per write.

Semantics of k8s.io/apiextensions-apiserver ``pkg/apiserver/schema/cel/validation.go``:
transition rules (those that mention ``oldSelf``) run on updates only, list items are
matched by key in lists of type map, and an error where the update changed nothing is
forgiven unless it comes from a transition rule. Two things of the real server are missing:
the cost budget, and full type checking (misspelt fields and unknown functions are found,
``1 + "a"`` is found when the rule runs).
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import cel

from taskctl.clock import parse_time
from taskctl.embedded.server import fields
from taskctl.embedded.server.cel_functions import FUNCTIONS, NATIVE
from taskctl.embedded.server.cel_names import Names, escape, exposed, scan
from taskctl.embedded.server.fields import FieldError, FieldReason, Path
from taskctl.embedded.server.schema_nodes import ListType, Node, build
from taskctl.embedded.server.schema_walks import canonical, list_key

JSON = dict[str, Any]

_MAX_MESSAGE_BYTES: Final = 5 * 1024
_EVALUATION_ERRORS: Final = (
    ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, AttributeError
)  # fmt: skip
_UNSUPPORTED: Final = object()


class RuleError(ValueError):
    """A rule cannot be compiled against its schema."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One compiled rule.

    Attributes:
        source: the CEL text.
        program: returns whether the value is fine.
        message: what to say otherwise; empty for "failed rule: ...".
        message_program: computes what to say, if given.
        field_path: where to say it, relative to the rule, for example ``.image``.
        reason: of the error.
        uses_old: it is a transition rule.
        optional_old: ``oldSelf`` is an optional, so it runs on create as well.
        same_is_fine: plain ``self == oldSelf``; needs no evaluation when nothing changed.
    """

    source: str
    program: cel.Program
    message: str
    message_program: cel.Program | None
    field_path: tuple[str, ...]
    reason: FieldReason
    uses_old: bool
    optional_old: bool
    same_is_fine: bool


@dataclass(slots=True)
class RuleNode:
    """A schema node with rules on it or below it."""

    schema: Node
    rules: list[Rule] = field(default_factory=list)
    functions: dict[str, Any] = field(default_factory=dict)
    top_fields: set[str] | None = field(default_factory=set)
    properties: dict[str, RuleNode] = field(default_factory=dict)
    additional: RuleNode | None = None
    items: RuleNode | None = None
    transitions_below: bool = False


def compile_tree(root: Node) -> tuple[RuleNode | None, list[FieldError]]:
    """Compile every rule of a schema.

    Returns:
        The tree, or None when there are no rules; and the errors, whose paths are
        relative to the schema, for example ``properties[spec].x-kubernetes-validations[0].rule``.
    """
    errors: list[FieldError] = []
    return _compile(with_type_and_metadata(root), "", errors, correlatable=True), errors


def with_type_and_metadata(root: Node) -> Node:
    """Return the root as rules see it: with apiVersion, kind and the object's name."""
    text: JSON = {"type": "string"}
    metadata: JSON = {
        "type": "object",
        "properties": {"name": text, "generateName": text},
    }
    properties = {
        **root.properties,
        "apiVersion": build(text),
        "kind": build(text),
        "metadata": build(metadata),
    }
    return Node(
        raw=root.raw, type=root.type or "object", properties=properties, preserve=root.preserve
    )


def _compile(
    node: Node, where: str, errors: list[FieldError], *, correlatable: bool
) -> RuleNode | None:
    out = RuleNode(node)
    names: list[Names] = []
    for index, raw in enumerate(node.raw.get("x-kubernetes-validations") or []):
        spot = f"{where}.x-kubernetes-validations[{index}]".lstrip(".")
        try:
            rule, used = _compile_rule(raw, node, correlatable=correlatable)
        except RuleError as error:
            errors.append(fields.invalid(f"{spot}.rule", raw.get("rule", ""), str(error)))
            continue
        out.rules.append(rule)
        names.extend(used)
        for program in (rule.program, rule.message_program):
            if program is not None:
                out.functions.update(_needed_functions(program, used))
    _merge_top_fields(out, names)
    for name, one in node.properties.items():
        spot = f"{where}.properties[{name}]"
        if (below := _compile(one, spot, errors, correlatable=correlatable)) is not None:
            out.properties[name] = below
    if node.additional is not None:
        spot = f"{where}.additionalProperties"
        out.additional = _compile(node.additional, spot, errors, correlatable=correlatable)
    if node.items is not None:
        keyed = correlatable and node.list_type is ListType.MAP
        out.items = _compile(node.items, f"{where}.items", errors, correlatable=keyed)
    below_all = [*out.properties.values(), out.additional, out.items]
    out.transitions_below = any(rule.uses_old for rule in out.rules) or any(
        one.transitions_below for one in below_all if one is not None
    )
    return out if out.rules or any(below_all) else None


def _merge_top_fields(out: RuleNode, names: list[Names]) -> None:
    for one in names:
        if one.top_fields is None or out.top_fields is None:
            out.top_fields = None
        else:
            out.top_fields |= one.top_fields


def _compile_rule(raw: JSON, node: Node, *, correlatable: bool) -> tuple[Rule, list[Names]]:
    source = (raw.get("rule") or "").strip()
    if not source:
        raise RuleError("rule is not specified")
    if not exposed(node) and not node.properties:
        raise RuleError("rules need a schema with a type; CEL cannot see this value")
    optional = bool(raw.get("optionalOldSelf"))
    program, names = _compile_text(source, node, optional)
    used = [names]
    message_program = None
    if raw.get("messageExpression"):
        message_program, more = _compile_text(raw["messageExpression"], node, optional)
        used.append(more)
    uses_old = "oldSelf" in names.roots
    if uses_old and not correlatable and not optional:
        raise RuleError("oldSelf cannot be used on the uncorrelatable portion of the schema")
    if optional and not uses_old:
        raise RuleError("option optionalOldSelf can only be used with a rule that uses oldSelf")
    rule = Rule(
        source=source,
        program=program,
        message=(raw.get("message") or "").strip(),
        message_program=message_program,
        field_path=_parse_field_path(raw.get("fieldPath") or "", node),
        reason=_reason(raw.get("reason")),
        uses_old=uses_old,
        optional_old=optional,
        same_is_fine=source.replace(" ", "") in ("self==oldSelf", "oldSelf==self"),
    )
    return rule, used


def _reason(raw: str | None) -> FieldReason:
    if not raw:
        return FieldReason.INVALID
    allowed = (
        FieldReason.REQUIRED, FieldReason.FORBIDDEN, FieldReason.INVALID, FieldReason.DUPLICATE
    )  # fmt: skip
    if raw not in tuple(allowed):
        raise RuleError(f"reason {raw!r} is not one of {', '.join(allowed)}")
    return FieldReason(raw)


def _compile_text(source: str, node: Node, optional: bool) -> tuple[cel.Program, Names]:
    try:
        program = cel.compile(source)
    except ValueError as error:
        raise RuleError(f"compilation failed: {error}") from error
    names = scan(source, node, optional_old_self=optional)
    if names.unknown:
        raise RuleError(f"compilation failed: {'; '.join(names.unknown)}")
    plain = {one.rpartition(".")[2] for one in names.qualified}
    for name in program.functions():
        if name not in NATIVE and name not in FUNCTIONS and name not in plain:
            raise RuleError(
                f"compilation failed: this server has no CEL function or macro {name!r}; "
                "write the rule without it"
            )
    for name in sorted(names.qualified):
        if name not in FUNCTIONS and not name.startswith("optional."):
            raise RuleError(f"compilation failed: this server has no CEL function {name!r}")
    return program, names


def _needed_functions(program: cel.Program, used: list[Names]) -> JSON:
    wanted = set(program.functions())
    for one in used:
        wanted |= one.qualified
    return {name: FUNCTIONS[name] for name in wanted if name in FUNCTIONS}


def _parse_field_path(text: str, node: Node) -> tuple[str, ...]:
    """Parse ``.a.b`` or ``.a['b-c']`` and check it against the schema.

    Raises:
        RuleError: the path does not exist.
    """
    tokens: list[str] = []
    rest = text.strip()
    while rest:
        if rest.startswith("['") and "']" in rest:
            name, _, rest = rest[2:].partition("']")
        elif rest.startswith("."):
            cut = min((i for i in (rest.find(".", 1), rest.find("[", 1)) if i > 0), default=None)
            name, rest = rest[1:cut], "" if cut is None else rest[cut:]
        else:
            raise RuleError(f"fieldPath {text!r} must begin with a dot, for example .spec.image")
        below = node.child(name)
        if below is None:
            raise RuleError(f"fieldPath {text!r} does not refer to a valid field")
        tokens.append(name)
        node = below
    return tuple(tokens)


# --- evaluation ---------------------------------------------------------------------


def check(tree: RuleNode, obj: JSON, old: JSON | None) -> list[FieldError]:
    """Evaluate the rules of a schema on an object.

    Args:
        tree: from :func:`compile_tree`.
        obj: the object to be stored, after defaulting.
        old: the stored object on update, None on create.
    """
    errors: list[FieldError] = []
    _check(tree, obj, old, (), errors)
    return errors


def _check(node: RuleNode, value: Any, old: Any, path: Path, errors: list[FieldError]) -> None:
    if value is None:  # rules on a nullable value see only what is not null
        return
    same = old is not None and value == old
    if same and not node.transitions_below:
        return
    if node.rules:
        _check_rules(node, value, old, path, errors, same=same)
    for below, one, old_one, token in _below(node, value, old):
        _check(below, one, old_one, (*path, token), errors)


def _below(node: RuleNode, value: Any, old: Any) -> Iterator[tuple[RuleNode, Any, Any, Any]]:
    if isinstance(value, dict):
        old_map = old if isinstance(old, dict) else {}
        for name, below in node.properties.items():
            if name in value:
                yield below, value[name], old_map.get(name), name
        if node.additional is not None:
            for name, one in value.items():
                if name not in node.schema.properties:
                    yield node.additional, one, old_map.get(name), name
    elif isinstance(value, list) and node.items is not None:
        schema = node.schema
        by_key: dict[Any, Any] = {}
        if schema.list_type is ListType.MAP and isinstance(old, list):
            by_key = {canonical(list_key(one, schema)): one for one in old if isinstance(one, dict)}
        for index, one in enumerate(value):
            matched = None
            if by_key and isinstance(one, dict):
                matched = by_key.get(canonical(list_key(one, schema)))
            yield node.items, one, matched, index


def _check_rules(
    node: RuleNode, value: Any, old: Any, path: Path, errors: list[FieldError], *, same: bool
) -> None:
    due = [rule for rule in node.rules if _is_due(rule, old, same)]
    if not due:
        return
    try:
        context = _context(node, value, old, optional=False)
        with_optional = None
        if any(rule.optional_old for rule in due):
            with_optional = _context(node, value, old, optional=True)
    except (ValueError, TypeError, OverflowError) as error:
        errors.append(fields.invalid(fields.format_path(path), _kind(node), str(error)))
        return
    for rule in due:
        used = with_optional if rule.optional_old and with_optional is not None else context
        problem = _evaluate(rule, used, _kind(node), path)
        if problem is not None:
            errors.append(problem)


def _is_due(rule: Rule, old: Any, same: bool) -> bool:
    if same and (not rule.uses_old or rule.same_is_fine):
        return False  # an error here would be forgiven, or cannot be
    return not rule.uses_old or old is not None or rule.optional_old


def _kind(node: RuleNode) -> str:
    return node.schema.type or "object"


def _evaluate(rule: Rule, context: cel.Context, kind: str, path: Path) -> FieldError | None:
    where = fields.format_path(path)
    try:
        result = rule.program.execute(context)
    except _EVALUATION_ERRORS as error:
        detail = f"{_describe(error)} evaluating rule: {rule.message or rule.source}"
        return fields.invalid(where, kind, detail)
    if result is True:
        return None
    if result is not False:
        detail = f"cel expression must evaluate to a bool, not {type(result).__name__}"
        return fields.invalid(where, kind, f"rule compile error: {detail}: {rule.source}")
    where = fields.format_path((*path, *rule.field_path))
    detail = _message(rule, context)
    match rule.reason:
        case FieldReason.FORBIDDEN:
            return fields.forbidden(where, detail)
        case FieldReason.REQUIRED:
            return fields.required(where, detail)
        case FieldReason.DUPLICATE:
            return fields.duplicate(where, kind)
    return fields.invalid(where, kind, detail)


def _message(rule: Rule, context: cel.Context) -> str:
    if rule.message_program is not None:
        try:
            text = rule.message_program.execute(context)
        except _EVALUATION_ERRORS:
            text = None
        if isinstance(text, str):
            text = text.strip()
            if text and "\n" not in text and len(text.encode()) <= _MAX_MESSAGE_BYTES:
                return text
    return rule.message or f"failed rule: {rule.source}"


def _describe(error: Exception) -> str:
    match error:
        case KeyError():
            return f"no such key: {error.args[0] if error.args else ''}"
        case IndexError():
            return str(error)
        case ZeroDivisionError():
            return "division by zero"
        case OverflowError():
            return "integer overflow"
        case TypeError():
            return "no such overload"
    return str(error).partition("\n")[0]


# --- values -------------------------------------------------------------------------


def _context(node: RuleNode, value: Any, old: Any, *, optional: bool) -> cel.Context:
    """Convert only what the rules of this node read: conversion is what costs time."""
    variables = {"self": _convert_top(node, value)}
    if optional:
        known = old is not None
        variables["oldSelf"] = (
            cel.OptionalValue.of(_convert_top(node, old)) if known else cel.OptionalValue.none()
        )
    elif old is not None:
        variables["oldSelf"] = _convert_top(node, old)
    return cel.Context(variables, node.functions or None)


def _convert_top(node: RuleNode, value: Any) -> Any:
    schema = node.schema
    if isinstance(value, dict) and node.top_fields is not None and schema.additional is None:
        return _convert_object(value, schema, node.top_fields)
    return to_cel(value, schema)


def _convert_object(value: JSON, node: Node, wanted: set[str] | None) -> JSON:
    out: JSON = {}
    for name, one in value.items():
        prop = node.properties.get(name)
        if prop is None or one is None:
            continue  # unknown fields are not visible; a null field counts as absent
        key = escape(name)
        if key is None or (wanted is not None and key not in wanted):
            continue
        converted = to_cel(one, prop)
        if converted is not _UNSUPPORTED:
            out[key] = converted
    return out


def to_cel(value: Any, node: Node) -> Any:
    """Convert a JSON value to what rules see, along its schema.

    Numbers of type ``number`` become floats, strings of the formats date-time, date,
    duration and byte become timestamps, durations and bytes.
    """
    match value:
        case dict():
            if node.additional is not None and not node.properties:
                additional = node.additional
                return {name: to_cel(one, additional) for name, one in value.items()}
            if not node.properties:
                return {}
            return _convert_object(value, node, None)
        case list():
            items = node.items
            return [to_cel(one, items) for one in value] if items is not None else []
        case str() if node.format and node.type == "string":
            return _convert_text(value, node.format)
        case int() if node.type == "number" and not isinstance(value, bool):
            return float(value)
        case float() if node.type == "integer":
            return int(value)
    return value


def _convert_text(text: str, kind: str) -> Any:
    match kind:
        case "date-time":
            return parse_time(text)
        case "date":
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        case "duration":
            return _parse_duration(text)
        case "byte":
            return base64.b64decode(text)
    return text


def _parse_duration(text: str) -> timedelta:
    value = cel.evaluate("duration(text)", {"text": text})
    if not isinstance(value, timedelta):
        raise ValueError(f"{text!r} is not a duration")
    return value

"""``x-kubernetes-validations``: compile once per schema, evaluate per write.

Semantics of k8s.io/apiextensions-apiserver ``pkg/apiserver/schema/cel/validation.go``:
transition rules (those that mention ``oldSelf``) run on updates only, list items are
matched by key in lists of type map, and an error where the update changed nothing is
forgiven unless it comes from a transition rule. What a rule costs is counted as it runs. One
thing of the real server is missing: full type checking (misspelt fields and unknown functions
are found, ``1 + "a"`` is found when the rule runs).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from taskctl.embedded.server.cel.names import Names, exposed, scan
from taskctl.embedded.server.cel.patterns import pattern_problem
from taskctl.embedded.server.cel.program import Program
from taskctl.embedded.server.cel.syntax import SyntaxProblem, parse
from taskctl.embedded.server.cel.types import EvaluationError
from taskctl.embedded.server.refusals import fields
from taskctl.embedded.server.refusals.fields import FieldError, FieldReason
from taskctl.embedded.server.schema.nodes import ListType, SchemaNode, build

JSON = dict[str, Any]

_VARIABLES: Final = ("self", "oldSelf")


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
    program: Program
    message: str
    message_program: Program | None
    field_path: tuple[str, ...]
    reason: FieldReason
    uses_old: bool
    optional_old: bool
    same_is_fine: bool


@dataclass(slots=True)
class RuleNode:
    """A schema node with rules on it or below it."""

    schema: SchemaNode
    rules: list[Rule] = field(default_factory=list)
    top_fields: set[str] | None = field(default_factory=set)
    properties: dict[str, RuleNode] = field(default_factory=dict)
    additional: RuleNode | None = None
    items: RuleNode | None = None
    transitions_below: bool = False


def compile_tree(root: SchemaNode) -> tuple[RuleNode | None, list[FieldError]]:
    """Compile every rule of a schema.

    Returns:
        The tree, or None when there are no rules; and the errors, whose paths are
        relative to the schema, for example ``properties[spec].x-kubernetes-validations[0].rule``.
    """
    errors: list[FieldError] = []
    return _compile(with_type_and_metadata(root), "", errors, correlatable=True), errors


def with_type_and_metadata(root: SchemaNode) -> SchemaNode:
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
    return SchemaNode(
        raw=root.raw, type=root.type or "object", properties=properties, preserve=root.preserve
    )


def _compile(
    node: SchemaNode, where: str, errors: list[FieldError], *, correlatable: bool
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


def _compile_rule(raw: JSON, node: SchemaNode, *, correlatable: bool) -> tuple[Rule, list[Names]]:
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


def _compile_text(source: str, node: SchemaNode, optional: bool) -> tuple[Program, Names]:
    try:
        tree = parse(source)
    except SyntaxProblem as error:
        raise RuleError(f"compilation failed: {error}") from error
    if problem := pattern_problem(tree, source):
        raise RuleError(f"compilation failed: {problem}")
    names = scan(tree, source, node, optional_old_self=optional)
    if names.unknown:
        raise RuleError("compilation failed: " + "\n".join(names.unknown))
    try:
        return Program(tree, _VARIABLES), names
    except EvaluationError as error:
        raise RuleError(f"compilation failed: {error}") from error


def _parse_field_path(text: str, node: SchemaNode) -> tuple[str, ...]:
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

"""Evaluating the rules of a schema on an object, within a budget."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

from taskctl.embedded.server.cel.program import Program
from taskctl.embedded.server.cel.rules import JSON, Rule, RuleNode
from taskctl.embedded.server.cel.types import (
    NONE,
    Budget,
    BudgetError,
    EvaluationError,
    OptionalValue,
    type_of,
)
from taskctl.embedded.server.cel.values import convert_object, to_cel
from taskctl.embedded.server.refusals import fields
from taskctl.embedded.server.refusals.fields import FieldError, FieldReason, Path
from taskctl.embedded.server.schema.nodes import ListType
from taskctl.embedded.server.schema.walks import canonical, list_key

_MAX_MESSAGE_BYTES: Final = 5 * 1024
# k8s.io/apiserver pkg/apis/cel/config.go: PerCallLimit; RuntimeCELCostBudget is ten times that
# there, which would be some seconds here.
PER_RULE_LIMIT: Final = 1_000_000
PER_OBJECT_LIMIT: Final = 3_000_000


def check(tree: RuleNode, obj: JSON, old: JSON | None) -> list[FieldError]:
    """Evaluate the rules of a schema on an object.

    Args:
        tree: from :func:`compile_tree`.
        obj: the object to be stored, after defaulting.
        old: the stored object on update, None on create.
    """
    run = _Run()
    with contextlib.suppress(_NoBudgetLeft):  # the last error says so
        run.check(tree, obj, old, ())
    return run.errors


class _NoBudgetLeft(Exception):
    """No further rules are to be run."""


class _Run:
    """The evaluation of an object's rules.

    Attributes:
        errors: found so far.
    """

    def __init__(self) -> None:
        self.errors: list[FieldError] = []
        self._left = float(PER_OBJECT_LIMIT)

    def check(self, node: RuleNode, value: Any, old: Any, path: Path) -> None:
        """Evaluate the rules on a value and below it."""
        if value is None:  # rules on a nullable value see only what is not null
            return
        same = old is not None and value == old
        if same and not node.transitions_below:
            return
        if node.rules:
            self._check_rules(node, value, old, path, same=same)
        for below, one, old_one, token in _below(node, value, old):
            self.check(below, one, old_one, (*path, token))

    def _check_rules(self, node: RuleNode, value: Any, old: Any, path: Path, *, same: bool) -> None:
        due = [rule for rule in node.rules if _is_due(rule, old, same)]
        if not due:
            return
        where = fields.format_path(path)
        try:
            seen = _variables(node, value, old, optional=False)
            with_optional = None
            if any(rule.optional_old for rule in due):
                with_optional = _variables(node, value, old, optional=True)
        except (ValueError, TypeError, OverflowError) as error:
            self.errors.append(fields.invalid(where, _kind(node), str(error)))
            return
        for rule in due:
            used = with_optional if rule.optional_old and with_optional is not None else seen
            problem = self._evaluate(rule, used, _kind(node), path)
            if problem is not None:
                self.errors.append(problem)

    def _execute(self, program: Program, seen: JSON) -> Any:
        """Evaluate within what is left for the object, and for each rule.

        Raises:
            EvaluationError: the expression has no value.
            BudgetError: it costs too much.
        """
        budget = Budget(min(float(PER_RULE_LIMIT), self._left))
        try:
            return program.run(seen, budget)
        finally:
            self._left -= budget.spent

    def _too_expensive(self, rule: Rule, kind: str, where: str) -> _NoBudgetLeft:
        """Say that a rule cost too much, in the sentences of the real server."""
        why = (
            "'operation cancelled: actual cost limit exceeded': no further validation rules "
            f"will be run due to call cost exceeds limit for rule: {rule.message or rule.source}"
        )
        if self._left <= 0:
            why = (
                "validation failed due to running out of cost budget, no further validation "
                "rules will be run"
            )
        self.errors.append(fields.invalid(where, kind, why))
        return _NoBudgetLeft()

    def _evaluate(self, rule: Rule, seen: JSON, kind: str, path: Path) -> FieldError | None:
        where = fields.format_path(path)
        try:
            result = self._execute(rule.program, seen)
        except BudgetError as error:
            raise self._too_expensive(rule, kind, where) from error
        except EvaluationError as error:
            detail = f"{error} evaluating rule: {rule.message or rule.source}"
            return fields.invalid(where, kind, detail)
        if result is True:
            return None
        if result is not False:
            detail = f"cel expression must evaluate to a bool, not {type_of(result).name}"
            return fields.invalid(where, kind, f"rule compile error: {detail}: {rule.source}")
        where = fields.format_path((*path, *rule.field_path))
        detail = self._message(rule, seen)
        match rule.reason:
            case FieldReason.FORBIDDEN:
                return fields.forbidden(where, detail)
            case FieldReason.REQUIRED:
                return fields.required(where, detail)
            case FieldReason.DUPLICATE:
                return fields.duplicate(where, kind)
        return fields.invalid(where, kind, detail)

    def _message(self, rule: Rule, seen: JSON) -> str:
        if rule.message_program is not None:
            text = None
            with contextlib.suppress(EvaluationError, BudgetError):
                text = self._execute(rule.message_program, seen)
            if isinstance(text, str):
                text = text.strip()
                if text and "\n" not in text and len(text.encode()) <= _MAX_MESSAGE_BYTES:
                    return text
        return rule.message or f"failed rule: {rule.source}"


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


def _is_due(rule: Rule, old: Any, same: bool) -> bool:
    if same and (not rule.uses_old or rule.same_is_fine):
        return False  # an error here would be forgiven, or cannot be
    return not rule.uses_old or old is not None or rule.optional_old


def _kind(node: RuleNode) -> str:
    return node.schema.type or "object"


def _variables(node: RuleNode, value: Any, old: Any, *, optional: bool) -> JSON:
    """Convert only what the rules of this node read: conversion is what costs time."""
    variables = {"self": _convert_top(node, value)}
    if optional:
        known = old is not None
        variables["oldSelf"] = OptionalValue(_convert_top(node, old)) if known else NONE
    elif old is not None:
        variables["oldSelf"] = _convert_top(node, old)
    return variables


def _convert_top(node: RuleNode, value: Any) -> Any:
    schema = node.schema
    if isinstance(value, dict) and node.top_fields is not None and schema.additional is None:
        return convert_object(value, schema, node.top_fields)
    return to_cel(value, schema)

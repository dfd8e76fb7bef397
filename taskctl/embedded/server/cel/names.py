"""Static checks of a CEL expression: which names it uses, and whether the schema has them.

The real server type-checks rules when the CRD is created. This module finds the commonest of
those errors: unknown fields, variables, functions and forms of macros.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from taskctl.embedded.server.cel.functions import FUNCTIONS, NAMESPACES
from taskctl.embedded.server.cel.macros import Binding, Macro, MacroProblem, binding_of
from taskctl.embedded.server.cel.syntax import Expression, NodeForm, located
from taskctl.embedded.server.cel.types import TYPE_NAMES, WELL_KNOWN_TYPES
from taskctl.embedded.server.schema.nodes import SchemaNode

_LITERALS: Final = frozenset({"true", "false", "null", "in", "has"})
_CONSTANTS: Final = frozenset({"true", "false", "null"}) | TYPE_NAMES
ROOTS: Final = frozenset({"self", "oldSelf"})
# Methods that evaluate their argument only if they need it, so that they are not functions.
_ALTERNATIVES: Final = frozenset({"or", "orValue"})
_INTEGER: Final = SchemaNode(raw={"type": "integer"}, type="integer")
_STRING: Final = SchemaNode(raw={"type": "string"}, type="string")
_REMEDY: Final = (
    "there is no such function or macro; check its spelling, or write the rule without it"
)

# Names that are reserved in CEL, so that Kubernetes escapes properties called so.
_RESERVED: Final = frozenset(
    {
        "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for",
        "function", "if", "import", "let", "loop", "package", "namespace", "return", "var",
        "void", "while",
    }
)  # fmt: skip


@lru_cache(maxsize=4096)
def escape(name: str) -> str | None:
    """Return the name by which CEL rules reach a property, or None if they cannot.

    The rule is that of k8s.io/apiserver ``pkg/cel/escaping.go``.
    """
    if name in _RESERVED:
        return f"__{name}__"
    if not re.fullmatch(r"[A-Za-z_.\-/][A-Za-z0-9_.\-/]*", name):
        return None
    out = name.replace("__", "__underscores__")
    return out.replace(".", "__dot__").replace("-", "__dash__").replace("/", "__slash__")


@lru_cache(maxsize=4096)
def spellings(name: str) -> tuple[str, ...]:
    """Return the names by which CEL rules reach a property: escaped, and mostly as it is, too.

    What is reserved and no literal or operator is taken after a dot, so ``self.namespace`` works
    as well as ``self.__namespace__``.
    """
    escaped = escape(name)
    if escaped is None:
        return ()
    if name in _RESERVED and name not in _LITERALS:
        return (escaped, name)
    return (escaped,)


def exposed(node: SchemaNode | None) -> bool:
    """Tell whether rules can see this value (k8s.io/apiserver ``SchemaDeclType``)."""
    if node is None:
        return False
    if node.raw.get("x-kubernetes-int-or-string"):
        return True
    if node.type == "array":
        return exposed(node.items)
    if node.type == "object" and node.additional is not None:
        return exposed(node.additional)
    return node.type != ""


@dataclass(slots=True)
class Names:
    """What one expression refers to.

    Attributes:
        unknown: error texts for names that do not exist.
        top_fields: the fields of ``self`` and ``oldSelf`` in use; None when a root is used
            as a whole.
        roots: which of ``self`` and ``oldSelf`` occur.
    """

    unknown: list[str] = field(default_factory=list)
    top_fields: set[str] | None = field(default_factory=set)
    roots: set[str] = field(default_factory=set)


def dotted(node: Expression) -> str:
    """Return ``a.b.c`` if a node is made of names and plain fields, else ""."""
    if node.form is NodeForm.NAME:
        return node.text
    if node.form is NodeForm.FIELD and not node.optional:
        before = dotted(node.parts[0])
        return f"{before}.{node.text}" if before else ""
    return ""


def qualified_name(node: Expression, scope: Container[str]) -> str | None:
    """Return ``sets.contains`` for a call of it; None for any other call.

    Args:
        node: a call or method.
        scope: variables, which hide the libraries of their names.
    """
    if node.form is not NodeForm.METHOD or node.parts[0].form is not NodeForm.NAME:
        return None
    library = node.parts[0].text
    if library not in NAMESPACES or library in scope:
        return None
    return f"{library}.{node.text}"


_Scope = Mapping[str, SchemaNode | None]


class _Scanner:
    """Walks an expression along the schema.

    A method returns what is known of a node's value: its schema, or None.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self.names = Names()

    def value(self, node: Expression, scope: _Scope) -> SchemaNode | None:
        match node.form:
            case NodeForm.NAME:
                return self._name(node, scope)
            case NodeForm.FIELD:
                return self._field(node, scope)
            case NodeForm.INDEX:
                held = self.value(node.parts[0], scope)
                self.value(node.parts[1], scope)
                return None if held is None else held.items or held.additional
            case NodeForm.METHOD:
                return self._method(node, scope)
            case NodeForm.CALL:
                return self._call(node, scope)
        known = [self.value(one, scope) for one in node.parts]
        return known[1] if node.text == "?:" and known[1] is known[2] else None

    def _fault(self, node: Expression, why: str) -> None:
        self._fault_at(node.start, why)

    def _fault_at(self, start: int, why: str) -> None:
        self.names.unknown.append(located(self._source, start, why))

    def _name(self, node: Expression, scope: _Scope) -> SchemaNode | None:
        name = node.text
        if name not in scope:
            if name not in _CONSTANTS:
                self._fault(node, f"undeclared reference to '{name}' (in container '')")
            return None
        if self._is_root(node, scope):
            self.names.roots.add(name)
            self.names.top_fields = None
        return scope[name]

    def _is_root(self, node: Expression, scope: _Scope) -> bool:
        return node.form is NodeForm.NAME and node.text in ROOTS and f".{node.text}" in scope

    def _field(self, node: Expression, scope: _Scope) -> SchemaNode | None:
        held, name = node.parts[0], node.text
        if dotted(node) in WELL_KNOWN_TYPES and "google" not in scope:
            return None
        if self._is_root(held, scope):
            self._use(held.text, name)
            return self._property(node, scope[held.text])
        if held.form is NodeForm.CALL and held.text == "dyn" and len(held.parts) == 1:
            root = held.parts[0]
            if self._is_root(root, scope):  # what has no declared type can be reached that way
                self._use(root.text, name)
                known = scope[root.text]
                if known is not None and not any(
                    name in spellings(one) for one in known.properties
                ):
                    self._fault(node, f"undefined field '{name}'")
                return None
        return self._property(node, self.value(held, scope))

    def _use(self, root: str, name: str) -> None:
        self.names.roots.add(root)
        if self.names.top_fields is not None:
            self.names.top_fields.add(name)

    def _property(self, node: Expression, held: SchemaNode | None) -> SchemaNode | None:
        if held is None or held.raw.get("x-kubernetes-int-or-string"):
            return None
        for name, one in held.properties.items():
            if node.text in spellings(name) and exposed(one):
                return one
        if held.additional is not None and exposed(held.additional):
            return held.additional
        self._fault(node, f"undefined field '{node.text}'")
        return None

    def _call(self, node: Expression, scope: _Scope) -> SchemaNode | None:
        if node.text == "has":
            if len(node.parts) != 1 or node.parts[0].form is not NodeForm.FIELD:
                start = node.parts[0].start if node.parts else node.start
                self._fault_at(start, "invalid argument to has() macro")
                return None
        elif node.text not in FUNCTIONS or "." in node.text:
            self._unknown_function(node, node.text)
        for one in node.parts:
            self.value(one, scope)
        return None

    def _unknown_function(self, node: Expression, name: str) -> None:
        self._fault(node, f"undeclared reference to '{name}' (in container ''): {_REMEDY}")

    def _method(self, node: Expression, scope: _Scope) -> SchemaNode | None:
        try:
            binding = binding_of(node)
        except MacroProblem as problem:
            self._fault(problem.node, str(problem))
            return None
        if binding is not None:
            return self._binding(binding, scope)
        name = qualified_name(node, scope)
        if name is not None:
            if name not in FUNCTIONS:
                self._unknown_function(node, name)
            for one in node.parts[1:]:
                self.value(one, scope)
            return None
        known = [self.value(one, scope) for one in node.parts]
        if node.text in _ALTERNATIVES:
            if len(node.parts) != 2:
                why = f"found no matching overload for '{node.text}': it takes one argument"
                self._fault(node, why)
            return known[0]
        if node.text not in FUNCTIONS:
            self._unknown_function(node, node.text)
        if node.text == "value":
            return known[0]
        return known[0].items if node.text in ("first", "last") and known[0] else None

    def _binding(self, binding: Binding, scope: _Scope) -> SchemaNode | None:
        held = self.value(binding.held, scope)
        inner = {**scope}
        for name, one in zip(binding.names, _items(binding, held), strict=False):
            inner[name] = one
            inner.pop(f".{name}", None)
        if binding.test is not None:
            self.value(binding.test, inner)
        self.value(binding.body, inner)
        return held if binding.macro is Macro.FILTER and held and held.items else None


def _items(binding: Binding, held: SchemaNode | None) -> tuple[SchemaNode | None, ...]:
    """Return what is known of the values of a macro's names."""
    one_name = len(binding.names) == 1
    if binding.macro in (Macro.OPT_MAP, Macro.OPT_FLAT_MAP):
        return (held,)
    if held is not None and held.type == "array":
        return (held.items,) if one_name else (_INTEGER, held.items)
    if held is not None and held.additional is not None:
        return (_STRING,) if one_name else (_STRING, held.additional)
    return (None,) * len(binding.names)


def scan(
    tree: Expression, source: str, root: SchemaNode, *, optional_old_self: bool = False
) -> Names:  # fmt: skip
    """Read one expression against the schema of ``self``.

    Args:
        tree: of the expression.
        source: its text, to show where something is wrong.
        root: the schema node that the rule stands at.
        optional_old_self: ``oldSelf`` is an optional, so its fields are not followed.
    """
    scanner = _Scanner(source)
    old = None if optional_old_self else root
    # A name with a dot before it says that the name still is the root, not a macro's.
    scanner.value(tree, {"self": root, "oldSelf": old, ".self": root, ".oldSelf": old})
    return scanner.names

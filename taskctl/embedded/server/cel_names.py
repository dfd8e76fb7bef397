"""Static checks of CEL source: which names it uses, and whether the schema has them.

The CEL library compiles without knowing the schema, so a misspelt field would only fail
when the rule first runs. The real server type-checks rules when the CRD is created. This
module finds the commonest of those errors: unknown fields, unknown variables.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from taskctl.embedded.server.cel_functions import NAMESPACES, TYPE_NAMES
from taskctl.embedded.server.schema_nodes import Node

_TOKEN: Final = re.compile(
    r"""\s*(?:
      (?P<string>[bBrR]{0,2}(?:\"\"\"[\s\S]*?\"\"\"|'''[\s\S]*?'''|
        "(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*|`[A-Za-z0-9_.\-/ ]+`)
    | (?P<number>\d[\w.]*)
    | (?P<comment>//[^\n]*)
    | (?P<mark>.)
    )""",
    re.VERBOSE,
)
_MACROS: Final = frozenset({"all", "exists", "exists_one", "map", "filter"})
_LITERALS: Final = frozenset({"true", "false", "null", "in", "has"})
ROOTS: Final = frozenset({"self", "oldSelf"})

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


def exposed(node: Node | None) -> bool:
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
        qualified: ``sets.contains`` and the like.
    """

    unknown: list[str] = field(default_factory=list)
    top_fields: set[str] | None = field(default_factory=set)
    roots: set[str] = field(default_factory=set)
    qualified: set[str] = field(default_factory=set)


def _tokens(source: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for match in _TOKEN.finditer(source):
        kind = match.lastgroup
        if kind not in (None, "comment"):
            found.append((kind, match.group(kind)))
    return found


class _Scanner:
    """Reads an expression from left to right and follows field chains."""

    def __init__(self, source: str, root: Node, old: Node | None) -> None:
        self._tokens = _tokens(source)
        self._bound: dict[str, Node | None] = {}
        self._types: dict[str, Node | None] = {"self": root, "oldSelf": old}
        self.names = Names()

    def scan(self) -> Names:
        index = 0
        while index < len(self._tokens):
            kind, text = self._tokens[index]
            if kind == "name" and self._text(index - 1) != ".":
                index = self._head(index, text)
            else:
                index += 1
        return self.names

    def _text(self, index: int) -> str:
        return self._tokens[index][1] if 0 <= index < len(self._tokens) else ""

    def _head(self, index: int, text: str) -> int:
        after = self._text(index + 1)
        if text in ROOTS:
            self.names.roots.add(text)
            return self._chain(index, self._types[text], top=True)
        if text == "dyn" and after == "(" and self._text(index + 2) in ROOTS:
            return self._dyn(index, self._text(index + 2))
        if text in self._bound:
            return self._chain(index, self._bound[text], top=False)
        if text in NAMESPACES and after == ".":
            self.names.qualified.add(f"{text}.{self._text(index + 2)}")
            return index + 3
        if text in _LITERALS or text in TYPE_NAMES or after == "(":
            return index + 1
        if self._is_binding(index):
            return index + 1
        self.names.unknown.append(f"undeclared reference to '{text}'")
        return index + 1

    def _dyn(self, index: int, root: str) -> int:
        """``dyn(self).x``: what has no declared type can be reached, and compared, that way."""
        self.names.roots.add(root)
        node, name = self._types[root], self._text(index + 5).strip("`")
        if self._text(index + 3) != ")" or self._text(index + 4) != "." or node is None:
            self.names.top_fields = None
            return index + 3
        if self.names.top_fields is not None:
            self.names.top_fields.add(name)
        if not any(name in spellings(prop) for prop in node.properties):
            self.names.unknown.append(f"undefined field '{name}'")
        return index + 6

    def _is_binding(self, index: int) -> bool:
        """``x`` in ``[1].all(x, ...)``: a variable whose type is not known here."""
        opens = self._text(index - 1) == "(" and self._text(index - 2) in _MACROS
        if opens and self._text(index - 3) == "." and self._text(index + 1) == ",":
            self._bound[self._text(index)] = None
            return True
        return False

    def _chain(self, index: int, node: Node | None, *, top: bool) -> int:
        """Follow ``.a.b[0].c`` and return the index after what was read."""
        at = index + 1
        first = True
        while True:
            mark = self._text(at)
            if mark == "[" and node is not None and self._text(at + 2) == "]":
                if top and first:
                    self.names.top_fields = None
                node = node.items or node.additional
                at += 3
            elif mark == "." and self._text(at + 2) == "(":
                if top and first:
                    self.names.top_fields = None
                return self._call(at, node)
            elif mark == ".":
                name = self._text(at + 1).strip("`")
                if top and first and self.names.top_fields is not None:
                    self.names.top_fields.add(name)
                node = self._field(node, name)
                at += 2
            else:
                if top and first:
                    self.names.top_fields = None
                return at
            first = False

    def _call(self, at: int, node: Node | None) -> int:
        """``.all(x, ...)`` binds x to the items; other calls end what is known."""
        if self._text(at + 1) in _MACROS and self._text(at + 4) == ",":
            below: Node | None = None
            if node is not None and node.type == "array":
                below = node.items
            elif node is not None and node.additional is not None:
                below = Node(raw={"type": "string"}, type="string")
            self._bound[self._text(at + 3)] = below
            return at + 4
        return at + 2

    def _field(self, node: Node | None, name: str) -> Node | None:
        if node is None or node.raw.get("x-kubernetes-int-or-string"):
            return None
        for prop, one in node.properties.items():
            if name in spellings(prop) and exposed(one):
                return one
        if node.additional is not None and exposed(node.additional):
            return node.additional
        self.names.unknown.append(f"undefined field '{name}'")
        return None


def scan(source: str, root: Node, *, optional_old_self: bool = False) -> Names:
    """Read one expression against the schema of ``self``.

    Args:
        source: CEL.
        root: the schema node that the rule stands at.
        optional_old_self: ``oldSelf`` is an optional, so its fields are not followed.
    """
    return _Scanner(source, root, None if optional_old_self else root).scan()

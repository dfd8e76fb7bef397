"""CEL as a syntax tree, which the library that evaluates it keeps to itself.

Made for estimating what an expression costs; whether it is right in every respect is for the
library to say. Grammar: github.com/google/cel-spec ``doc/langdef.md``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

# cel-go parser/options.go: expressionSizeCodePointLimit, maxRecursionDepth (250 there).
MAX_CODE_POINTS: Final = 100_000
MAX_DEPTH: Final = 100
_MAX_NODES: Final = 10_000

_TOKEN: Final = re.compile(
    r"""
      (?P<space>[ \t\r\n\f]+|//[^\n]*)
    | (?P<string>[bBrR]{0,2}(?:\"\"\"[\s\S]*?\"\"\"|'''[\s\S]*?'''|
        "(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    | (?P<number>0[xX][0-9a-fA-F]+[uU]?|(?:\d+\.\d+|\d+|\.\d+)(?:[eE][+-]?\d+)?[uU]?)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*|`[A-Za-z0-9_.\-/ ]+`)
    | (?P<mark>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]{}])
    """,
    re.VERBOSE,
)
_BINARY: Final = {
    "||": 1, "&&": 2,
    "==": 3, "!=": 3, "<": 3, "<=": 3, ">": 3, ">=": 3, "in": 3,
    "+": 4, "-": 4, "*": 5, "/": 5, "%": 5,
}  # fmt: skip


# Macros that look at each item of a list or map.
LOOPS: Final = frozenset(
    {"all", "exists", "exists_one", "existsOne", "map", "filter", "transformList", "transformMap"}
)


class Form(StrEnum):
    """What a node of the tree is."""

    LITERAL = "literal"
    NAME = "name"
    FIELD = "field"
    INDEX = "index"
    CALL = "call"
    METHOD = "method"
    OPERATOR = "operator"
    LIST = "list"
    MAP = "map"


@dataclass(slots=True)
class Expression:
    """A node.

    Attributes:
        form: of the node.
        text: the name, operator or literal.
        parts: operands; of a method, what it is called on comes first.
        depth: of the tree below, this node included.
        loops: how deep loops are nested in it.
        nodes: in the tree.
    """

    form: Form
    text: str = ""
    parts: list[Expression] = field(default_factory=list)
    depth: int = 1
    loops: int = 0
    nodes: int = 1


@dataclass(frozen=True, slots=True)
class Token:
    """A word of an expression: its kind, its text, and where it begins."""

    kind: str
    text: str
    start: int


class SyntaxProblem(ValueError):
    """The text is not CEL, or too large."""


def tokens(source: str) -> list[Token]:
    """Split an expression.

    Raises:
        SyntaxProblem: it is too long, or has a character that no word begins with.
    """
    if len(source) > MAX_CODE_POINTS:
        raise SyntaxProblem(
            f"expression code point size exceeds limit: size: {len(source)}, "
            f"limit {MAX_CODE_POINTS}"
        )
    found: list[Token] = []
    at = 0
    while at < len(source):
        match = _TOKEN.match(source, at)
        if match is None:
            raise SyntaxProblem(f"token recognition error at: {source[at : at + 10]!r}")
        if match.lastgroup != "space":
            found.append(Token(str(match.lastgroup), match.group(), at))
        at = match.end()
    return found


def parse(source: str) -> Expression:
    """Parse an expression.

    Raises:
        SyntaxProblem: it is not CEL, too long, or too deeply nested.
    """
    parser = _Parser(tokens(source))
    found = parser.expression()
    parser.expect("")
    return found


class _Parser:
    def __init__(self, found: list[Token]) -> None:
        self._tokens = found
        self._next = 0
        self._level = 0
        self._nodes = 0

    def expression(self) -> Expression:
        self._level += 1
        if self._level > MAX_DEPTH:
            raise SyntaxProblem("max recursion depth exceeded")
        left = self._binary(1)
        if self._take_if("?"):
            yes = self._binary(1)
            self.expect(":")
            left = self._make(Form.OPERATOR, "?:", [left, yes, self.expression()])
        self._level -= 1
        return left

    def expect(self, text: str) -> None:
        """Take the next word, which must be this one; "" for the end."""
        if self._peek() != text:
            raise SyntaxProblem(f"mismatched input {self._peek()!r} expecting {text!r}")
        self._next += 1

    def _make(self, form: Form, text: str, parts: list[Expression] | None = None) -> Expression:
        parts = parts or []
        self._nodes += 1
        depth = 1 + max((one.depth for one in parts), default=0)
        if depth > MAX_DEPTH * 2 or self._nodes > _MAX_NODES:
            raise SyntaxProblem("max recursion depth exceeded")
        loops = max((one.loops for one in parts), default=0)
        if form is Form.METHOD and text in LOOPS:
            loops += 1
        return Expression(form, text, parts, depth, loops, 1 + sum(one.nodes for one in parts))

    def _peek(self, ahead: int = 0) -> str:
        at = self._next + ahead
        return self._tokens[at].text if at < len(self._tokens) else ""

    def _kind(self) -> str:
        return self._tokens[self._next].kind if self._next < len(self._tokens) else ""

    def _take_if(self, text: str) -> bool:
        # A string that reads like a mark is no mark.
        if self._kind() in ("mark", "name") and self._peek() == text:
            self._next += 1
            return True
        return False

    def _binary(self, lowest: int) -> Expression:
        left = self._unary()
        while self._kind() in ("mark", "name"):
            operator = self._peek()
            rank = _BINARY.get(operator, 0)
            if rank < lowest:
                break
            self._next += 1
            right = self._binary(rank + 1)
            if rank <= 2 and left.form is Form.OPERATOR and left.text == operator:
                # A chain of conditions is one node, however long.
                left.parts.append(right)
                left.depth = max(left.depth, right.depth + 1)
                left.loops = max(left.loops, right.loops)
                left.nodes += right.nodes
            else:
                left = self._make(Form.OPERATOR, operator, [left, right])
        return left

    def _unary(self) -> Expression:
        signs = 0
        while self._take_if("!") or self._take_if("-"):
            signs += 1
        found = self._member()
        return self._make(Form.OPERATOR, "not", [found]) if signs else found

    def _member(self) -> Expression:
        found = self._primary()
        while True:
            if self._take_if("."):
                self._take_if("?")
                name = self._name()
                if self._take_if("("):
                    found = self._make(Form.METHOD, name, [found, *self._list(")")])
                else:
                    found = self._make(Form.FIELD, name, [found])
            elif self._take_if("["):
                self._take_if("?")
                index = self.expression()
                self.expect("]")
                found = self._make(Form.INDEX, "", [found, index])
            else:
                return found

    def _primary(self) -> Expression:
        kind, text = self._kind(), self._peek()
        if self._take_if("("):
            found = self.expression()
            self.expect(")")
            return found
        if self._take_if("["):
            return self._make(Form.LIST, "", self._list("]"))
        if self._take_if("{"):
            return self._make(Form.MAP, "", self._list("}"))
        self._take_if(".")
        if kind in ("string", "number"):
            self._next += 1
            return self._make(Form.LITERAL, text)
        name = self._name()
        if self._take_if("("):
            return self._make(Form.CALL, name, self._list(")"))
        return self._make(Form.NAME, name)

    def _name(self) -> str:
        if self._kind() != "name":
            raise SyntaxProblem(f"mismatched input {self._peek()!r} expecting a name")
        self._next += 1
        return self._tokens[self._next - 1].text.strip("`")

    def _list(self, end: str) -> list[Expression]:
        """Read expressions up to a bracket; of a map, keys and values alike."""
        found: list[Expression] = []
        while not self._take_if(end):
            self._take_if("?")
            found.append(self.expression())
            if end == "}":
                self.expect(":")
                found.append(self.expression())
            if not self._take_if(","):
                self.expect(end)
                break
        return found

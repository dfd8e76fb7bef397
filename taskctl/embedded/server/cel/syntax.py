"""CEL as a syntax tree, with the optional syntax of cel-go (``.?f``, ``[?k]``, ``[?x]``).

Grammar: github.com/google/cel-spec ``doc/langdef.md``. Sentences are those of cel-go, whose parser
is made by ANTLR, as far as they do not list what that expected.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NoReturn

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
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<mark>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]{}])
    """,
    re.VERBOSE,
)
_BINARY: Final = {
    "||": 1, "&&": 2,
    "==": 3, "!=": 3, "<": 3, "<=": 3, ">": 3, ">=": 3, "in": 3,
    "+": 4, "-": 4, "*": 5, "/": 5, "%": 5,
}  # fmt: skip


# Words that cannot be names (cel-go parser/helper.go). Fields may have them, after a dot.
_RESERVED: Final = frozenset(
    {
        "as", "break", "const", "continue", "else", "for", "function", "if", "import", "in", "let",
        "loop", "package", "namespace", "return", "var", "void", "while",
    }
)  # fmt: skip


class NodeForm(StrEnum):
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
        parts: operands; of a method, what it is called on comes first; of a map, keys and values.
        start: where it is in the source; of an operator and a call, where that is.
        optional: ``.?f`` and ``[?k]``.
        optional_parts: the items ``[?x]`` of a list and the keys ``{?k: v}`` of a map.
        depth: of the tree below, this node included.
    """

    form: NodeForm
    text: str = ""
    parts: list[Expression] = field(default_factory=list)
    start: int = 0
    optional: bool = False
    optional_parts: frozenset[int] = frozenset()
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Token:
    """A word of an expression: its kind, its text, and where it begins."""

    kind: str
    text: str
    start: int


class SyntaxProblem(ValueError):
    """The text is not CEL, or too large."""


def located(source: str, start: int, why: str) -> str:
    """Say what is wrong and where, as cel-go does (common/error.go)."""
    line = source.count("\n", 0, start)
    begin = source.rfind("\n", 0, start) + 1
    end = source.find("\n", start)
    shown = source[begin : len(source) if end < 0 else end]
    column = start - begin
    return f"ERROR: <input>:{line + 1}:{column + 1}: {why}\n | {shown}\n | {'.' * column}^"


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
            why = f"Syntax error: token recognition error at: {source[at : at + 10]!r}"
            if source[at] == "`":  # a name in quotation marks is another version's
                why = "unsupported syntax: '`'"
            raise SyntaxProblem(located(source, at, why))
        if match.lastgroup != "space":
            found.append(Token(str(match.lastgroup), match.group(), at))
        at = match.end()
    return found


def parse(source: str) -> Expression:
    """Parse an expression.

    Raises:
        SyntaxProblem: it is not CEL, too long, or too deeply nested.
    """
    parser = _Parser(source)
    found = parser.expression()
    parser.expect("")
    return found


class _Parser:
    def __init__(self, source: str) -> None:
        self._source = source
        self._tokens = tokens(source)
        self._next = 0
        self._level = 0
        self._nodes = 0

    def expression(self) -> Expression:
        self._level += 1
        if self._level > MAX_DEPTH:
            raise SyntaxProblem("max recursion depth exceeded")
        left = self._binary(1)
        start = self._start()
        if self._take_if("?"):
            yes = self._binary(1)
            self.expect(":")
            left = self._make(NodeForm.OPERATOR, "?:", [left, yes, self.expression()], start)
        self._level -= 1
        return left

    def expect(self, text: str) -> None:
        """Take the next word, which must be this one; "" for the end."""
        if self._peek() != text or self._kind() in ("string", "number"):
            self._unexpected(repr(text) if text else "<EOF>")
        self._next += 1

    def _unexpected(self, wanted: str) -> NoReturn:
        found = repr(self._peek()) if self._kind() else "'<EOF>'"
        why = f"Syntax error: mismatched input {found} expecting {wanted}"
        raise SyntaxProblem(located(self._source, self._start(), why))

    def _make(
        self, form: NodeForm, text: str, parts: list[Expression], start: int, **more: Any
    ) -> Expression:
        self._nodes += 1
        depth = 1 + max((one.depth for one in parts), default=0)
        if depth > MAX_DEPTH * 2 or self._nodes > _MAX_NODES:
            raise SyntaxProblem("max recursion depth exceeded")
        return Expression(form, text, parts, start, depth=depth, **more)

    def _peek(self) -> str:
        return self._tokens[self._next].text if self._next < len(self._tokens) else ""

    def _kind(self) -> str:
        return self._tokens[self._next].kind if self._next < len(self._tokens) else ""

    def _start(self) -> int:
        at = self._next
        return self._tokens[at].start if at < len(self._tokens) else len(self._source)

    def _take_if(self, text: str) -> bool:
        # A string that reads like a mark is not one.
        if self._kind() in ("mark", "name") and self._peek() == text:
            self._next += 1
            return True
        return False

    def _binary(self, lowest: int) -> Expression:
        left = self._unary()
        while self._kind() in ("mark", "name"):
            operator, start = self._peek(), self._start()
            rank = _BINARY.get(operator, 0)
            if rank < lowest:
                break
            self._next += 1
            right = self._binary(rank + 1)
            if rank <= 2 and left.form is NodeForm.OPERATOR and left.text == operator:
                # A chain of conditions is one node, however long.
                left.parts.append(right)
                left.depth = max(left.depth, right.depth + 1)
            else:
                left = self._make(NodeForm.OPERATOR, operator, [left, right], start)
        return left

    def _unary(self) -> Expression:
        signs: list[Token] = []
        while self._kind() == "mark" and self._peek() in ("!", "-"):
            signs.append(self._tokens[self._next])
            self._next += 1
        if len({sign.text for sign in signs}) > 1:
            self._next -= len(signs) - 1
            self._unexpected("a value")  # the grammar takes either sign, not both
        if signs and signs[-1].text == "-" and self._kind() == "number":
            sign = signs.pop()  # -9223372036854775808 is a literal
            token = self._tokens[self._next]
            self._next += 1
            literal = self._make(NodeForm.LITERAL, f"-{token.text}", [], sign.start)
            found = self._suffixes(literal)
        else:
            found = self._suffixes(self._primary())
        if len(signs) % 2:
            found = self._make(NodeForm.OPERATOR, f"{signs[0].text}_", [found], signs[0].start)
        elif signs:  # twice is once not, but of the right type
            found = self._make(NodeForm.OPERATOR, f"{signs[0].text}_", [found], signs[0].start)
            found = self._make(NodeForm.OPERATOR, f"{signs[0].text}_", [found], signs[0].start)
        return found

    def _suffixes(self, found: Expression) -> Expression:
        while True:
            start = self._start()
            if self._take_if("."):
                optional = self._take_if("?")
                name = self._field_name()
                start_call = self._start()
                if not optional and self._take_if("("):
                    parts = [found, *self._list(")")[0]]
                    found = self._make(NodeForm.METHOD, name, parts, start_call)
                else:
                    found = self._make(NodeForm.FIELD, name, [found], start, optional=optional)
            elif self._take_if("["):
                optional = self._take_if("?")
                index = self.expression()
                self.expect("]")
                found = self._make(NodeForm.INDEX, "", [found, index], start, optional=optional)
            else:
                return found

    def _primary(self) -> Expression:
        kind, text, start = self._kind(), self._peek(), self._start()
        if self._take_if("("):
            found = self.expression()
            self.expect(")")
            return found
        if self._take_if("["):
            parts, optional = self._list("]")
            return self._make(NodeForm.LIST, "", parts, start, optional_parts=optional)
        if self._take_if("{"):
            parts, optional = self._list("}")
            return self._make(NodeForm.MAP, "", parts, start, optional_parts=optional)
        if kind in ("string", "number"):
            self._next += 1
            return self._make(NodeForm.LITERAL, text, [], start)
        if kind == "mark" and text == ".":
            self._next += 1  # from the root, which is all there is
        if self._kind() == "name" and self._peek() in _RESERVED:
            why = f"reserved identifier: {self._peek()}"
            raise SyntaxProblem(located(self._source, self._start(), why))
        name = self._field_name()
        start_call = self._start()
        if self._take_if("("):
            return self._make(NodeForm.CALL, name, self._list(")")[0], start_call)
        return self._make(NodeForm.NAME, name, [], start)

    def _field_name(self) -> str:
        if self._kind() != "name":
            self._unexpected("IDENTIFIER")
        self._next += 1
        return self._tokens[self._next - 1].text

    def _list(self, end: str) -> tuple[list[Expression], frozenset[int]]:
        """Read expressions up to a bracket; of a map, keys and values alike.

        Returns:
            The expressions, and which of them were marked as optional.
        """
        found: list[Expression] = []
        optional: set[int] = set()
        while not self._take_if(end):
            if end != ")" and self._take_if("?"):
                optional.add(len(found))
            found.append(self.expression())
            if end == "}":
                self.expect(":")
                found.append(self.expression())
            if not self._take_if(","):
                self.expect(end)
                break
            if end == ")" and self._peek() == end:
                self._unexpected("a value")
        return found, frozenset(optional)

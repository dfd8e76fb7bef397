"""Writing YAML that every reader takes for the same values: kubectl, PyYAML, YAML 1.2."""

from __future__ import annotations

import re
from typing import Any, Final

from taskctl.cli.terminal import is_unsafe
from taskctl.cli.yamlscalars import resolve

_WIDTH: Final = 100
# Line ends of YAML 1.1, which a reader may turn into others; a byte order mark it may drop.
_DELICATE: Final = re.compile("[\x85\u2028\u2029\ufeff]")
# What YAML 1.2 takes for a number and 1.1 does not, and other readers' own ideas.
_NUMBER_ELSEWHERE: Final = re.compile(r"[-+.]?[0-9][0-9a-fA-FxXoO_:.eE+-]*")


def write_yaml(value: Any) -> str:
    """Return a JSON value as YAML, keys in the order they have, without a line end.

    Control characters and such that change the direction of text are written as escapes.
    """
    import yaml

    text: str = yaml.dump(
        value, Dumper=_dumper(), sort_keys=False, allow_unicode=True, width=_WIDTH
    )
    return _escape(text).removesuffix("\n")


def _dumper() -> Any:
    import yaml

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        def ignore_aliases(self, data: Any) -> bool:
            return True

    Dumper.add_representer(str, _represent)
    return Dumper


def _represent(dumper: Any, text: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=_style(text))


def _style(text: str) -> str | None:
    if is_unsafe(text.replace("\n", "").replace("\t", "")) or _DELICATE.search(text):
        return '"'
    if "\n" in text:
        # A literal block cannot begin with a blank in every reader, nor hold blanks at line ends.
        plain_lines = all(line == line.rstrip() for line in text.split("\n"))
        return "|" if plain_lines and not text[0].isspace() and "\t" not in text else '"'
    if resolve(text) != text or _NUMBER_ELSEWHERE.fullmatch(text) or text == "=":
        return '"'
    return None


def _escape(text: str) -> str:
    """Escape what the emitter wrote as it is; it stands between double quotes."""
    from taskctl.safetext import visible

    return visible(text, keep="\n")

"""How a history is asked for over HTTP: parameters, and the line that ends an answer. Pure.

An answer is lines as they stand in the files, so that the reader judges them as if it had these,
and one more that says that it is whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from taskctl.errors import ConfigError
from taskctl.history.reading import Wanted

PATH: Final = "/history"
# The API server's proxy keeps `Authorization` to itself.
TOKEN_HEADER: Final = "X-Taskctl-Token"
# Of a Service of the install; its port, and the Secret with the token, have names of their own.
SERVICE: Final = "taskctl-history"
PORT_NAME: Final = "history"
TOKEN_SECRET: Final = "taskctl-history"
TOKEN_KEY: Final = "token"
VIEW_ROLE: Final = "taskctl-history-view"
MAX_NEWEST: Final = 10_000
_END: Final = "end"
_MAX_CHARS: Final = 253
_TEXTS: Final = {"namespace": "namespace", "name": "name", "rootUID": "root_uid", "uid": "uid"}


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for.

    Attributes:
        wanted: which Tasks.
        newest: only so many lines, the newest first; 0: all, the oldest first.
    """

    wanted: Wanted
    newest: int = 0

    def query(self) -> dict[str, str]:
        """Return the parameters that say it."""
        found = {
            parameter: text
            for parameter, field in _TEXTS.items()
            if (text := getattr(self.wanted, field))
        }
        if self.wanted.gone:
            found["gone"] = "true"
        if self.newest:
            found["newest"] = str(self.newest)
        return found


def parse_question(query: Mapping[str, str]) -> Question:
    """Return what parameters ask for.

    Raises:
        ConfigError: one of them is unknown, or cannot be; names it.
    """
    texts: dict[str, Any] = {}
    gone, newest = False, 0
    for parameter, value in query.items():
        if parameter in _TEXTS:
            if not value or len(value) > _MAX_CHARS or not value.isprintable() or '"' in value:
                raise ConfigError(f"{parameter}: must be a name of 1 to {_MAX_CHARS} characters")
            texts[_TEXTS[parameter]] = value
        elif parameter == "gone":
            if value not in ("true", "false"):
                raise ConfigError("gone: must be true or false")
            gone = value == "true"
        elif parameter == "newest":
            if not (value.isascii() and value.isdecimal() and 0 < int(value[:9]) <= MAX_NEWEST):
                raise ConfigError(f"newest: must be a number from 1 to {MAX_NEWEST}")
            newest = int(value[:9])
        else:
            raise ConfigError(f"{parameter}: there is no such parameter")
    if newest and not gone:
        raise ConfigError("newest: needs gone=true")
    return Question(Wanted(**texts, gone=gone), newest)


@dataclass(frozen=True, slots=True)
class End:
    """The last line of an answer.

    Attributes:
        more: of the newest ones: whether there are, or may be, older ones.
        problem: why the answer ends before its end; empty: it is whole.
    """

    more: bool = False
    problem: str = ""

    def encode(self) -> bytes:
        """Return the line."""
        import orjson

        return orjson.dumps({_END: {"more": self.more, "problem": self.problem}}) + b"\n"


def parse_end(line: bytes) -> End | None:
    """Return the end that a line is, or None: it is of a Task."""
    import orjson

    # A Task begins with its apiVersion, so most lines need not be parsed for this.
    if not line.startswith(b'{"end":'):
        return None
    try:
        found = orjson.loads(line)[_END]
        return End(found["more"] is True, str(found["problem"]))
    except (ValueError, KeyError, TypeError):
        return None

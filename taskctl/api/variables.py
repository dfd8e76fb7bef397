"""Variables in the texts of a TaskCluster: ``${USER}``, ``${NAMESPACE}``, ``${CLUSTER}``.

They may stand in every text of ``workspace``, ``volumes`` and ``volumeMounts``, so that one
manifest serves many people. As with Kubernetes' own ``$(NAME)``, ``$$`` stands for ``$``; a ``$``
before anything but ``$`` and ``{`` stands for itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pydantic_core import InitErrorDetails


class Variable(StrEnum):
    """Names of the variables."""

    USER = "USER"
    NAMESPACE = "NAMESPACE"
    CLUSTER = "CLUSTER"


# Fields of a TaskCluster's spec in whose texts they are replaced.
FIELDS: Final = ("workspace", "volumes", "volumeMounts")

# What a user may be called: whatever text it is put into, it stays one part of a path or name.
USER_NAME: Final = r"^[A-Za-z0-9]([A-Za-z0-9._@-]*[A-Za-z0-9])?$"
MAX_USER: Final = 128
USER_DOTS_MESSAGE: Final = "must not contain '..', because it becomes part of paths"

_KNOWN: Final = "|".join(Variable)
_PART: Final = r"([^$]|\$\$|\$\{(" + _KNOWN + r")\}|\$[^${])*"
# For CEL, whose regular expressions are RE2's; they match texts without and with ${USER}.
SOUND_TEXT: Final = rf"^{_PART}\$?$"
NEEDS_USER: Final = rf"^{_PART}\$\{{{Variable.USER}\}}"
NO_STEP_BACK: Final = r"(^|/)\.\.(/|$)"

UNKNOWN_MESSAGE: Final = (
    "the variables here are ${USER}, ${NAMESPACE} and ${CLUSTER}; for a $ before { write $$"
)
USER_MESSAGE: Final = (
    "is needed, because ${USER} is used in workspace, volumes or volumeMounts: say for whom this "
    "TaskCluster is"
)
STEP_BACK_MESSAGE: Final = "must not contain '..' as a part; write the path in full"
# The last parts of the locations of paths. No value of a variable brings '..' into one.
_PATHS: Final = (("mountPath",), ("hostPath", "path"), ("nfs", "path"))

_TOKEN: Final = re.compile(r"\$(?:\$|\{([^}]*)(\})?)")
Location = tuple[str | int, ...]


def replace_variables(text: str, value_of: Callable[[str], str | None]) -> str:
    """Return a text with its variables replaced.

    Args:
        text: with variables.
        value_of: returns the value of a variable, or None: it stays as it is written.
    """

    def replaced(match: re.Match[str]) -> str:
        name, closed = match.group(1), match.group(2)
        if name is None:
            return "$"
        value = value_of(name) if closed else None
        return match.group(0) if value is None else value

    return _TOKEN.sub(replaced, text)


def variables_in(text: str) -> tuple[str, ...]:
    """Return what is written as a variable in a text, known or not, without ``${`` and ``}``."""
    return tuple(name for name, _ in _TOKEN.findall(text) if name) if "${" in text else ()


def texts_of(value: Any, path: Location = ()) -> Iterator[tuple[Location, str]]:
    """Yield each text in a JSON value with its location; keys of maps are none."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from texts_of(item, (*path, str(key)))
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from texts_of(item, (*path, number))


def uses_user() -> str:
    """Return the CEL expression that is true for a spec where a text that it sees has ``${USER}``.

    It sees paths and names of claims; :func:`check_variables` sees all texts.
    """
    workspace = ("mountPath", "claimName", "hostPath.path", "nfs.path")
    volume = ("hostPath.path", "nfs.path", "persistentVolumeClaim.claimName")
    return (
        f"(has(self.workspace) && ({_any_uses('self.workspace', workspace)}))"
        f" || (has(self.volumes) && self.volumes.exists(v, {_any_uses('v', volume)}))"
        " || (has(self.volumeMounts) && self.volumeMounts.exists(m, "
        f"m.mountPath.matches(r'{NEEDS_USER}')))"
    )


def _any_uses(variable: str, fields: Sequence[str]) -> str:
    found = []
    for field in fields:
        holder = field.rpartition(".")[0]
        there = f"has({variable}.{holder}) && " if holder else ""
        there += f"has({variable}.{field}) && "
        found.append(f"({there}{variable}.{field}.matches(r'{NEEDS_USER}'))")
    return " || ".join(found)


def check_variables(spec: Any) -> Any:
    """Refuse a raw TaskCluster's spec with a variable that is unknown or has no value, or ``..``.

    Raises:
        pydantic.ValidationError: with the path of each such text.
    """
    # Here, as the policies load this module, and with them every command.
    from pydantic import ValidationError

    if isinstance(spec, Mapping):
        errors = list(_problems(spec))
        if errors:
            raise ValidationError.from_exception_data("TaskClusterSpec", errors)
    return spec


def _problems(spec: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
    needs_user = False
    for field in FIELDS:
        for path, text in texts_of(spec.get(field), (field,)):
            if not re.fullmatch(SOUND_TEXT[1:-1], text):
                yield _error(path, f"{text!r}: {UNKNOWN_MESSAGE}")
            elif Variable.USER in variables_in(text):
                needs_user = True
            is_path = any(path[-len(end) :] == end for end in _PATHS)
            if is_path and re.search(NO_STEP_BACK, text):
                yield _error(path, f"{text!r} {STEP_BACK_MESSAGE}")
    if needs_user and spec.get("user") is None:
        yield _error(("user",), USER_MESSAGE)


def _error(path: Location, message: str) -> InitErrorDetails:
    from pydantic_core import InitErrorDetails, PydanticCustomError

    kind = PydanticCustomError("variable", "{message}", {"message": message})
    return InitErrorDetails(type=kind, loc=path, input=None)

"""Options of a child, checked: what is taken here is taken by the agent and the API server.

A wrong option is refused before anything is asked of anyone, with its path and the remedy.
"""

from __future__ import annotations

import os

from taskctl.sdk.errors import Unsendable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Final

# Option: field of a Task's spec.
FIELDS: Final = {
    "image": "image",
    "cluster": "clusterName",
    "env": "env",
    "working_dir": "workingDir",
    "timeout_s": "timeoutSeconds",
    "start_deadline_s": "startDeadlineSeconds",
    "slots": "slots",
    "resources": "resources",
    "priority": "priority",
    "group": "group",
    "retry": "retry",
    "ttl": "ttlSecondsAfterFinished",
    "run_after": "runAfter",
    "when": "when",
    "suspend": "suspend",
    "read_only_workspace": "readOnlyWorkspace",
}
# Short for fields of resources; see merged().
_AMOUNTS: Final = ("cpu", "memory")
_INPUTS: Final = ("input", "input_object")
# All options that become fields of a Task's spec.
NAMES: Final = (*FIELDS, *_AMOUNTS)
_WHEN: Final = ("Success", "Failure", "Always")
_RETRY: Final = (
    *("limit", "backoffSeconds", "maxBackoffSeconds", "jitter"),
    *("onExitCodes", "exceptExitCodes"),
)
_TTL: Final = ("success", "failure")
_RUN_AFTER: Final = ("tasks", "group", "count", "minSuccess", "subtree")
_ENV: Final = ("name", "value", "valueFrom")
_INT32_MAX: Final = 2**31 - 1
_MAX_KEY_CHARS: Final = 1024
# Linux takes 131,072 bytes for an argument or a variable (MAX_ARG_STRLEN), with the NUL.
_MAX_ARGUMENT_BYTES: Final = 131_071


def check_names(options: Mapping[str, Any], *, of_function: bool = False) -> None:
    """Make sure that all options exist.

    Args:
        options: by name.
        of_function: they are those of ``@task``, where the arguments are the input.

    Raises:
        TypeError: one does not.
    """
    known = NAMES if of_function else (*_INPUTS, *NAMES)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise TypeError(f"unknown option {unknown[0]!r}; known are {', '.join(known)}")


def check_text(value: Any, where: str, max_chars: int = 0) -> str:
    """Return a text that is not empty.

    Raises:
        Unsendable: it is none.
    """
    if not isinstance(value, str):
        raise _wrong(where, value, "a text")
    if not value:
        raise Unsendable(f"{where}: must not be empty; leave it out")
    if max_chars and len(value) > max_chars:
        raise Unsendable(f"{where}: has {len(value)} characters; at most {max_chars} are allowed")
    return str(value)


def check_key(value: Any) -> str:
    """Return a spawn key."""
    return check_text(value, "key", _MAX_KEY_CHARS)


def command(target: Any) -> list[str]:
    """Return a command's arguments.

    Raises:
        Unsendable: they are not a list of texts, or no process could be started with them.
    """
    if isinstance(target, (str, bytes)):
        raise Unsendable(f"a command is a list of texts; for a shell: ['sh', '-c', {target!r}]")
    if not isinstance(target, (list, tuple)):
        raise Unsendable(
            f"a command is a list of texts, and not empty; this is {type(target).__name__} "
            f"{target!r}"
        )
    parts = [os.fspath(part) if hasattr(part, "__fspath__") else part for part in target]
    if not parts or not all(isinstance(part, str) for part in parts):
        raise Unsendable(f"a command is a list of texts, and not empty; this is {target!r}")
    return [_argument(part, f"command[{number}]") for number, part in enumerate(parts)]


def field(name: str, value: Any) -> Any:
    """Return the value of a spec's field for that of an option; None: inherit.

    Raises:
        Unsendable: it is not what the option takes.
    """
    return None if value is None else _CHECKS[name](value, name)


def merged(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with ``cpu`` and ``memory`` as what they are short for: ``resources``.

    ``memory`` is request and limit at once, ``cpu`` the request.

    Raises:
        Unsendable: ``resources`` is there as well, or one of them is not an amount.
    """
    rest = {name: value for name, value in options.items() if name not in _AMOUNTS}
    given = {name: options[name] for name in _AMOUNTS if options.get(name) is not None}
    if not given:
        return rest
    if rest.get("resources") is not None:
        raise Unsendable(f"{min(given)}: leave it out, or say it in resources")
    amounts = {name: _amount(value, name) for name, value in given.items()}
    made: dict[str, Any] = {"requests": amounts}
    if "memory" in amounts:
        made["limits"] = {"memory": amounts["memory"]}
    return {**rest, "resources": made}


def _argument(text: str, where: str, name: str = "") -> str:
    if "\0" in text:
        raise Unsendable(f"{where}: holds a NUL character, which no process can be given")
    try:
        size = len(text.encode()) + (len(name.encode()) + 1 if name else 0)
    except UnicodeEncodeError as error:
        raise Unsendable(f"{where}: is not valid Unicode text ({error})") from error
    if size > _MAX_ARGUMENT_BYTES:
        raise Unsendable(
            f"{where}: has {size} bytes; Linux starts no process with an argument or variable of "
            f"over {_MAX_ARGUMENT_BYTES}; pass it as input, or in a file"
        )
    return str(text)


def _env(value: Any, where: str) -> list[dict[str, Any]]:
    if hasattr(value, "items"):
        return [
            {"name": _variable(name, where), "value": _value(name, text, f"{where}[{name!r}]")}
            for name, text in value.items()
        ]
    if not isinstance(value, (list, tuple)):
        raise _wrong(where, value, "a dict of text, or a list as in a Task's spec")
    made = []
    for number, entry in enumerate(value):
        place = f"{where}[{number}]"
        entry = _map(entry, place, _ENV)
        name = _variable(entry.get("name"), f"{place}.name")
        if "value" in entry:
            entry["value"] = _value(name, entry["value"], f"{place}.value")
        if "valueFrom" in entry:
            entry["valueFrom"] = _json(entry["valueFrom"], f"{place}.valueFrom")
        made.append(entry)
    return made


def _variable(name: Any, where: str) -> str:
    text = check_text(name, where if where.endswith("name") else f"{where}: a name")
    if "=" in text or "\0" in text or text.startswith("TASKCTL_"):
        raise Unsendable(
            f"{where}: {text!r} cannot be a variable's name: no '=' or NUL, and names that begin "
            "with TASKCTL_ are taskctl's own; choose another"
        )
    return text


def _value(name: str, value: Any, where: str) -> str:
    if not isinstance(value, str):
        remedy = "leave the variable out" if value is None else "make it a text"
        raise Unsendable(f"{where}: must be text, not {_kind(value)}; {remedy}")
    return _argument(value, where, name)


def _retry(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, int):
        return {"limit": _integer(value, where, 0, 1000)}
    made = _map(value, where, _RETRY)
    for name, item in made.items():
        place = f"{where}.{name}"
        if name == "limit":
            _integer(item, place, 0, 1000)
        elif name in ("onExitCodes", "exceptExitCodes"):
            if not isinstance(item, (list, tuple)):
                raise _wrong(place, item, "a list of numbers")
            made[name] = [_integer(code, f"{place}[{n}]", 1, 255) for n, code in enumerate(item)]
        elif isinstance(item, bool) or not isinstance(item, (int, float)):
            raise _wrong(place, item, "a number")
    return made


def _ttl(value: Any, where: str) -> dict[str, Any]:
    made = _map(value, where, _TTL)
    return {name: _integer(item, f"{where}.{name}", 0) for name, item in made.items()}


def _run_after(value: Any, where: str) -> dict[str, Any]:
    """Return ``runAfter``: of a list of children or names, or of a dict with its fields."""
    if hasattr(value, "items"):
        return _run_after_fields(value, where)
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise _wrong(where, value, "a list of children or names")
    names = [getattr(item, "name", item) for item in value]
    for number, name in enumerate(names):
        check_text(name, f"{where}[{number}]")
    return {"tasks": sorted(names) if isinstance(value, (set, frozenset)) else names}


def _run_after_fields(value: Any, where: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, item in _map(value, where, _RUN_AFTER).items():
        place = f"{where}.{name}"
        if name == "tasks":
            if hasattr(item, "items"):
                raise _wrong(place, item, "a list of children or names")
            made |= _run_after(item, place)
        elif name == "group":
            made[name] = check_text(item, place)
        elif name == "subtree":
            made[name] = _flag(item, place)
        else:
            made[name] = _integer(item, place, 0)
    return made


def _when(value: Any, where: str) -> str:
    if value not in _WHEN:
        raise Unsendable(f"{where}: is {value!r}; it must be one of {', '.join(_WHEN)}")
    return str(value)


def _resources(value: Any, where: str) -> dict[str, Any]:
    made = _map(value, where, ("requests", "limits"))
    for kind, amounts in made.items():
        place = f"{where}.{kind}"
        made[kind] = {
            name: _amount(item, f"{place}.{name}")
            for name, item in _map(amounts, place, _AMOUNTS).items()
        }
    return made


def _amount(value: Any, where: str) -> str | int:
    """Return a quantity; the API server takes texts and whole numbers."""
    wanted = "a number or a text such as " + ("'512Mi'" if where.endswith("memory") else "'500m'")
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise _wrong(where, value, wanted)
    if isinstance(value, float):
        value = int(value) if value == int(value) else f"{round(value * 1000)}m"
    if not value or (isinstance(value, int) and value < 0):
        raise Unsendable(f"{where}: is {value!r}; it must be {wanted}, above 0")
    return int(value) if isinstance(value, int) else str(value)


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(where, value, "True or False")
    return value


def _integer(value: Any, where: str, low: int = 1, high: int = _INT32_MAX) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(where, value, "a whole number")
    if not low <= value <= high:
        raise Unsendable(f"{where}: is {value}; it must be {low} to {high}")
    return int(value)


def _map(value: Any, where: str, known: tuple[str, ...]) -> dict[str, Any]:
    """Return a dict with known keys, without those that hold None."""
    if not hasattr(value, "items"):
        raise _wrong(where, value, f"a dict with {', '.join(known)}")
    made: dict[str, Any] = {}
    for name, item in value.items():
        if name not in known:
            raise Unsendable(f"{where}.{name}: unknown field; known are {', '.join(known)}")
        if item is not None:
            made[name] = item
    return made


def _json(value: Any, where: str) -> Any:
    from taskctl.sdk._stored import is_plain

    if not is_plain(value, where):
        raise _wrong(where, value, "made of dicts, lists, texts and numbers")
    return value


def _wrong(where: str, value: Any, wanted: str) -> Unsendable:
    return Unsendable(f"{where}: must be {wanted}, not {_kind(value)} {value!r:.60}")


def _kind(value: Any) -> str:
    return "None" if value is None else type(value).__name__


_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    **dict.fromkeys(("cluster", "image", "working_dir", "group"), check_text),
    **dict.fromkeys(("timeout_s", "start_deadline_s"), _integer),
    "slots": lambda value, where: _integer(value, where, 1, 100),
    "resources": _resources,
    "priority": lambda value, where: _integer(value, where, -_INT32_MAX - 1),
    "env": _env,
    "retry": _retry,
    "ttl": _ttl,
    "run_after": _run_after,
    "when": _when,
    **dict.fromkeys(("suspend", "read_only_workspace"), _flag),
}

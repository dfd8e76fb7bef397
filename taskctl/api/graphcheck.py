"""Is a root's list of tasks a graph that can run? Checks on plain data, for all who ask.

The API server refuses what a rule of the definition can see (names that are used twice or are
not there). The command line asks this before it sends anything, and the controller before it
creates the first task: circles and placeholders show only here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

# Whatever follows belongs to us; a template language's other braces do not.
_PLACEHOLDER: Final = re.compile(r"\{\{\s*params\.([^{}]*?)\s*\}\}|\{\{\s*params\.")
_NAMES_SHOWN: Final = 10

Template = Mapping[str, Any]


def params_of(spec: Mapping[str, Any]) -> dict[str, str]:
    """Return the values of ``spec.params`` by name; those without one are left out."""
    values = {}
    for param in spec.get("params") or ():
        value = param.get("value", param.get("default"))
        if value is not None:
            values[param["name"]] = value
    return values


def complaint(spec: Mapping[str, Any]) -> str | None:
    """Return what is wrong with ``spec.tasks`` and ``spec.params``, or None.

    Args:
        spec: of a Task, as the API server takes it; its fields have the right types.
    """
    tasks: Sequence[Template] = spec.get("tasks") or ()
    return (
        _bad_names(tasks) or _circle(tasks) or _bad_params(spec) or _bad_placeholders(spec, tasks)
    )


def _bad_names(tasks: Sequence[Template]) -> str | None:
    seen: dict[str, int] = {}
    for index, task in enumerate(tasks):
        name = task["name"]
        if name in seen:
            return f"tasks[{index}].name: {name} is the name of tasks[{seen[name]}], too"
        seen[name] = index
    for index, task in enumerate(tasks):
        after = task.get("runAfter") or ()
        for name in after:
            if name not in seen:
                known = ", ".join(list(seen)[:_NAMES_SHOWN])
                return (
                    f"tasks[{index}].runAfter: {name} names no task of this root; there are {known}"
                )
        if len(set(after)) != len(after):
            return f"tasks[{index}].runAfter: names a task twice; remove the repetition"
        if task.get("minSuccess") is not None:
            if task["minSuccess"] > len(after):
                return f"tasks[{index}].minSuccess: is larger than the number of tasks in runAfter"
            if task.get("when") == "Always":
                return f"tasks[{index}].minSuccess: has no meaning with when: Always"
    return None


def _circle(tasks: Sequence[Template]) -> str | None:
    """Return the complaint that names a circle, or None. No recursion: chains may be long."""
    after = {task["name"]: tuple(task.get("runAfter") or ()) for task in tasks}
    done: set[str] = set()
    for start in after:
        path: dict[str, Iterator[str]] = {start: iter(after[start])}
        while path:
            last = next(reversed(path))
            below = next(path[last], None)
            if below is None:
                path.popitem()
                done.add(last)
            elif below in path:
                names = list(path)
                shown = " → ".join([*names[names.index(below) :], below])
                return f"tasks: runAfter has a circle: {shown}; none of these could ever start"
            elif below not in done:
                path[below] = iter(after[below])
    return None


def _bad_params(spec: Mapping[str, Any]) -> str | None:
    seen: set[str] = set()
    for index, param in enumerate(spec.get("params") or ()):
        name = param["name"]
        if name in seen:
            return f"params[{index}].name: {name} is there twice; remove one"
        seen.add(name)
        if param.get("value", param.get("default")) is None:
            return (
                f"params[{index}]: {name} has no value; set value (taskctl submit -p "
                f"{name}=VALUE), or give it a default"
            )
    return None


def _bad_placeholders(spec: Mapping[str, Any], tasks: Sequence[Template]) -> str | None:
    values = params_of(spec)
    defaults = {field: spec[field] for field in FILLED if field in spec}
    places = [("", defaults), *((f"tasks[{i}].", task) for i, task in enumerate(tasks))]
    for where, holder in places:
        for path, text in _strings(holder):
            for match in _PLACEHOLDER.finditer(text):
                name = match.group(1)
                if name is None:
                    return f"{where}{path}: a placeholder has no end; it is {{{{params.NAME}}}}"
                if name not in values:
                    known = ", ".join(list(values)[:_NAMES_SHOWN]) or "none"
                    return (
                        f"{where}{path}: {{{{params.{name}}}}} names no parameter; "
                        f"spec.params has {known}"
                    )
    return None


# Fields of the root that its tasks take over, and in which placeholders count.
FILLED: Final = ("image", "command", "args", "env", "workingDir", "inputObject", "input")


def _strings(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the strings in JSON values with their paths. Keys are no strings of these."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _strings(item, f"{path}[{index}]")


def fill(value: Any, params: Mapping[str, str]) -> Any:
    """Return JSON values with every ``{{params.NAME}}`` in its strings replaced, once.

    A value that looks like a placeholder itself is not looked at again.
    """
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda match: params[match.group(1)], value)
    if isinstance(value, Mapping):
        return {key: fill(item, params) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [fill(item, params) for item in value]
    return value

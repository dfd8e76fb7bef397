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
        _bad_source(spec)
        or _bad_names(tasks)
        or _circle(tasks)
        or _bad_params(spec)
        or _bad_placeholders(spec, tasks)
    )


def _bad_source(spec: Mapping[str, Any]) -> str | None:
    for index, source in enumerate(spec.get("inputFrom") or ()):
        if spec.get("tasks") and source.get("group"):
            return (
                f"inputFrom[{index}].group: groups are those of this tree, whose tasks wait for "
                "the root's input; give it to one of the tasks, with runAfterGroup"
            )
    return None


def _bad_names(tasks: Sequence[Template]) -> str | None:
    seen: dict[str, int] = {}
    for index, task in enumerate(tasks):
        name = task["name"]
        if name in seen:
            return f"tasks[{index}].name: {name} is the name of tasks[{seen[name]}], too"
        seen[name] = index
    for index, task in enumerate(tasks):
        after = task.get("runAfter") or ()
        for path, name in (*(("runAfter", name) for name in after), *_source_names(task)):
            if name not in seen:
                known = ", ".join(list(seen)[:_NAMES_SHOWN])
                return (
                    f"tasks[{index}].{path}: {name} names no task of this root; there are {known}"
                )
        if len(set(after)) != len(after):
            return f"tasks[{index}].runAfter: names a task twice; remove the repetition"
        wrong = _bad_join(task)
        if wrong is not None:
            return f"tasks[{index}].{wrong}"
    return None


def _bad_join(task: Template) -> str | None:
    """Return what is wrong with how a task waits and what it takes, or None."""
    group = task.get("runAfterGroup")
    if task.get("minSuccess") is not None:
        if not group and task["minSuccess"] > len(awaited(task)):
            return "minSuccess: is larger than the number of tasks in runAfter"
        if task.get("when") == "Always":
            return "minSuccess: has no meaning with when: Always"
    if task.get("count") is not None and not group:
        return "count: says how many members of runAfterGroup are expected; set that too"
    for index, source in enumerate(task.get("inputFrom") or ()):
        if source.get("group") not in (None, group):
            return f"inputFrom[{index}].group: set runAfterGroup to {source['group']} too"
    if "input" in task and task.get("inputObject"):
        return "input: there is inputObject too; remove one of them"
    return None


def _source_names(task: Template) -> Iterator[tuple[str, str]]:
    """Yield the names in ``inputFrom`` of a task, each with its path."""
    for index, source in enumerate(task.get("inputFrom") or ()):
        for name in source.get("tasks") or ():
            yield f"inputFrom[{index}].tasks", name
        if source.get("task") is not None:
            yield f"inputFrom[{index}].task", source["task"]


def awaited(task: Template) -> tuple[str, ...]:
    """Return the tasks of the same root that a task runs after, each once."""
    names = (*(task.get("runAfter") or ()), *(name for _, name in _source_names(task)))
    return tuple(dict.fromkeys(names))


def _circle(tasks: Sequence[Template]) -> str | None:
    """Return the complaint that names a circle, or None. No recursion: chains may be long."""
    after = {task["name"]: awaited(task) for task in tasks}
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
    if tasks and spec.get("onExit"):
        places.append(("onExit.", spec["onExit"]))
    for index, receiver in enumerate(spec.get("notify") or ()) if tasks else ():
        found = {field: receiver[field] for field in NOTIFY_FILLED if receiver.get(field)}
        places.append((f"notify[{index}].", found))
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
# Fields of its receivers in which they count, too.
NOTIFY_FILLED: Final = ("queue", "payload")


def _strings(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the strings in JSON values with their paths. Keys of objects are left out."""
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

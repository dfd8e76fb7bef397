"""From a function and its arguments to a Task. Pure.

The encoding is the SDK's: what a task may spawn with some arguments, a program outside may submit
with the same ones, and what does not come back as it was is refused here, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from taskctl.constants import ANNOTATION_CREATED, ANNOTATION_SUBMISSION, API_VERSION, LABEL_CLIENT
from taskctl.errors import ConfigError
from taskctl.policy.labels import label_of
from taskctl.sdk import _options, _stored
from taskctl.sdk._functions import Call, TaskFunction, encode_arguments
from taskctl.sdk.errors import Unsendable

# Options that are not fields of a child's spec, or that mean something else outside.
_OWN: Final = ("code", "by_value", "cluster", "key", "name")
# What is larger becomes a TaskObject: each watcher of Tasks gets a Task's spec again and again.
INLINE_BYTES: Final = 16 * 1024
# etcd takes 1.5 MiB for an object.
MAX_INPUT_BYTES: Final = 1024 * 1024
_STEM_CHARS: Final = 40


@dataclass(frozen=True, slots=True)
class FunctionCommand:
    """What runs a function: the command, and what belongs to the input beside the arguments.

    Attributes:
        command: of the Task.
        envelope: fields around the arguments; empty: the arguments are the input.
        after: Tasks that must have succeeded before.
    """

    command: tuple[str, ...]
    envelope: Mapping[str, Any] = field(default_factory=dict)
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionFrame:
    """What does not depend on the function.

    Attributes:
        namespace: where the Task goes.
        cluster: name of the TaskCluster.
        image: for tasks that do not say another one.
        client_id: of the client that submits.
        submission_id: of this submission; tells our Task from a stranger's of the same name.
        created: time, as MicroTime text.
        trace: annotation that names the trace it is submitted in; may be empty.
    """

    namespace: str
    cluster: str
    image: str
    client_id: str
    submission_id: str
    created: str
    trace: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Submission:
    """What is to be created: the Task, and before it the TaskObject with a large input."""

    task: dict[str, Any]
    input_object: dict[str, Any] | None = None


def split_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of the submission, and those of the Task.

    Raises:
        TypeError: one does not exist.
    """
    own = {name: value for name, value in options.items() if name in _OWN}
    rest = {name: value for name, value in options.items() if name not in _OWN}
    unknown = sorted(set(rest) - {"input", "input_object", *_options.NAMES})
    if unknown:
        known = ", ".join(dict.fromkeys((*_OWN, "input", "input_object", *_options.NAMES)))
        raise TypeError(f"unknown option {unknown[0]!r}; known are {known}")
    return own, rest


def arguments_of(call: Call[Any, Any]) -> dict[str, Any]:
    """Return a call's arguments as JSON values.

    Raises:
        Unsendable: they do not fit the function, or would not come back as they are.
    """
    return encode_arguments(call)


def envelope(program: FunctionCommand, arguments: Any) -> Any:
    """Return the input for a program: the arguments, with what belongs to them."""
    return {**program.envelope, "arguments": arguments} if program.envelope else arguments


def build(
    frame: SubmissionFrame,
    program: FunctionCommand | Sequence[str],
    arguments: Any,
    name: str,
    options: Mapping[str, Any],
) -> Submission:
    """Return the objects to create.

    Args:
        frame: where it goes.
        program: what runs a function, or a command.
        arguments: of the function, as JSON value; of a command None.
        name: of the Task.
        options: of the Task, by the SDK's names.

    Raises:
        Unsendable: an option or the input is not what the API server takes.
        ConfigError: there is no image.
    """
    given = dict(options)
    spec: dict[str, Any] = {"clusterName": frame.cluster}
    has_input = False
    value: Any = None
    named_input = given.pop("input_object", None)
    if "input" in given:
        if named_input is not None:
            raise Unsendable("input: leave out either input or input_object")
        value, has_input = _stored.to_plain(given.pop("input"), "input"), True
    if isinstance(program, FunctionCommand):
        if has_input or named_input is not None:
            raise Unsendable("input: a function's arguments are its input; leave this out")
        value, has_input = envelope(program, arguments), True
        spec["command"] = list(program.command)
        given["run_after"] = [*(given.get("run_after") or ()), *program.after]
    else:
        spec["command"] = _options.command(program)
    if not given.get("run_after"):
        given.pop("run_after", None)
    for option, item in _options.merged(given).items():
        checked = _options.field(option, item)
        if checked is not None:
            spec[_options.FIELDS[option]] = checked
    spec.setdefault("image", frame.image)
    if not spec["image"]:
        raise ConfigError(
            "image: is missing; say which image holds the function and its packages, with "
            "image=… here or at the client"
        )
    task = _task(name, frame) | {"spec": spec}
    if named_input is not None:
        spec["inputObject"] = _options.check_text(named_input, "input_object")
    if has_input:
        spec["input"] = value
    return with_input(task)


def with_input(task: dict[str, Any]) -> Submission:
    """Return a Task as it is submitted: a large input as an object of its own.

    Raises:
        Unsendable: the input is too large, or has no JSON form.
    """
    metadata, spec = task["metadata"], task["spec"]
    if "input" not in spec:
        return Submission(task)
    value = spec["input"]
    try:
        size = len(orjson.dumps(value))
    except TypeError as error:
        raise Unsendable(f"the input has no JSON form: {error}") from error
    if size <= INLINE_BYTES:
        return Submission(task)
    if size > MAX_INPUT_BYTES:
        raise Unsendable(
            f"the arguments have {size} bytes as JSON, and an object in Kubernetes holds about "
            f"{MAX_INPUT_BYTES}; write them to the workspace from a task, or to a store, and pass "
            "where they are"
        )
    name = f"{metadata['name']}-input"
    task["spec"] = {key: field for key, field in spec.items() if key != "input"}
    task["spec"]["inputObject"] = name
    entry = {
        "apiVersion": API_VERSION,
        "kind": "TaskObject",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": dict(metadata["labels"]),
            "annotations": {
                ANNOTATION_SUBMISSION: metadata["annotations"][ANNOTATION_SUBMISSION],
            },
        },
        "value": value,
    }
    return Submission(task, entry)


def _task(name: str, frame: SubmissionFrame) -> dict[str, Any]:
    annotations = {
        ANNOTATION_SUBMISSION: frame.submission_id,
        ANNOTATION_CREATED: frame.created,
        **frame.trace,
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "Task",
        "metadata": {
            "name": name,
            "namespace": frame.namespace,
            "labels": {LABEL_CLIENT: frame.client_id},
            "annotations": annotations,
        },
    }


def default_name(target: Any, chance: str) -> str:
    """Return a name for a Task: what it runs, and some random characters."""
    if isinstance(target, Call):
        target = target.function
    if isinstance(target, TaskFunction):
        text = target.__qualname__
    elif isinstance(target, Sequence) and target:
        text = label_of(target)
    else:
        text = getattr(target, "__qualname__", "task")
    stem = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_STEM_CHARS].strip("-")
    return f"{stem or 'task'}-{chance}"

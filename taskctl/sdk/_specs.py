"""What can be asked of the agent, as operations that either transport carries out."""

from __future__ import annotations

import sys
import time

from taskctl.sdk import _options, _stored
from taskctl.sdk._functions import Call, TaskFunction, encode_arguments
from taskctl.sdk._places import command_of
from taskctl.sdk._types import OfResult, R, R_co, overload
from taskctl.sdk.errors import InputInvalid, Unsendable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
    from typing import Any, Final, TypedDict, Union, Unpack

    from taskctl.sdk._child import ChildT, SpawnedChild
    from taskctl.sdk._exchange import Operation
    from taskctl.sdk._types import (
        F1,
        F2,
        A,
        AnyCall,
        Awaited,
        B,
        Command,
        FList,
        FMore,
        Future,
        Futures,
        Ts,
    )
    from taskctl.wire import Message

    # What to run: a function, a function with arguments, a command, or None: what this task runs.
    Target = Union[TaskFunction[..., Any], Call[..., Any], Sequence[str], None]

    class Options(TypedDict, total=False):
        """Options of a child; what is absent is inherited from this task."""

        input: Any
        input_object: str
        cluster: str
        image: str
        env: Mapping[str, str] | Sequence[Mapping[str, Any]]
        working_dir: str
        timeout_s: int
        start_deadline_s: int
        slots: int
        cpu: int | float | str
        memory: int | str
        resources: Mapping[str, Mapping[str, int | str]]
        priority: int
        group: str
        retry: int | Mapping[str, Any]
        ttl: Mapping[str, int]
        run_after: Sequence[str | SpawnedChild[Any]] | Mapping[str, Any]
        when: str
        suspend: bool
        read_only_workspace: bool

    class Named(Options, total=False):
        """Options of one child: what names it, too."""

        key: str | None
        name: str | None


MAX_BATCH: Final = 1000  # children in a request
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024


class ChildSpec(OfResult[R_co]):
    """A child to be created; made by :func:`child`."""

    __slots__ = ("args", "key", "name", "options", "target")

    def __init__(
        self,
        target: Target,
        args: tuple[Any, ...],
        key: str | None,
        name: str | None,
        options: Mapping[str, Any],
    ) -> None:
        self.target = target
        self.args = args
        self.key = key
        self.name = name
        self.options = options


class Info:
    """What the agent knows of this attempt at this moment.

    Attributes:
        cancel_reason: why the task is to stop, or empty.
        deadline: seconds since the epoch at which the timeout strikes; None: no timeout.
    """

    __slots__ = ("cancel_reason", "deadline")

    def __init__(self, cancel_reason: str, deadline: float | None) -> None:
        self.cancel_reason = cancel_reason
        self.deadline = deadline

    @property
    def time_left_s(self) -> float | None:
        """Seconds until the timeout, at least 0; None: no timeout."""
        return None if self.deadline is None else max(0.0, self.deadline - time.time())


@overload
def child(target: AnyCall[Awaited[R]], /, **options: Unpack[Named]) -> ChildSpec[R]: ...
@overload
def child(target: AnyCall[R], /, **options: Unpack[Named]) -> ChildSpec[R]: ...
@overload
def child(
    target: Callable[[Unpack[Ts]], Awaited[R]], /, *args: Unpack[Ts], **options: Unpack[Named]
) -> ChildSpec[R]: ...
@overload
def child(
    target: Callable[[Unpack[Ts]], R], /, *args: Unpack[Ts], **options: Unpack[Named]
) -> ChildSpec[R]: ...
@overload
def child(target: F1[A, Awaited[R]], a: Future[A], /, **options: Unpack[Named]) -> ChildSpec[R]: ...
@overload
def child(
    target: F2[A, B, Awaited[R]], a: Future[A], b: Future[B], /, **options: Unpack[Named]
) -> ChildSpec[R]: ...
@overload
def child(
    target: F2[A, B, Awaited[R]], a: Future[A], b: B, /, **options: Unpack[Named]
) -> ChildSpec[R]: ...
@overload
def child(
    target: F2[A, B, Awaited[R]], a: A, b: Future[B], /, **options: Unpack[Named]
) -> ChildSpec[R]: ...
@overload
def child(target: F1[A, R], a: Future[A], /, **options: Unpack[Named]) -> ChildSpec[R]: ...
@overload
def child(
    target: F2[A, B, R], a: Future[A], b: Future[B], /, **options: Unpack[Named]
) -> ChildSpec[R]: ...
@overload
def child(target: F2[A, B, R], a: Future[A], b: B, /, **options: Unpack[Named]) -> ChildSpec[R]: ...
@overload
def child(target: F2[A, B, R], a: A, b: Future[B], /, **options: Unpack[Named]) -> ChildSpec[R]: ...
@overload
def child(
    target: FList[A, Awaited[R]], a: Futures[A], /, *args: Any, **options: Unpack[Named]
) -> ChildSpec[R]: ...
@overload
def child(
    target: FMore[A, Awaited[R]],
    a: Future[A],
    b: Any,
    c: Any,
    /,
    *args: Any,
    **options: Unpack[Named],
) -> ChildSpec[R]: ...
@overload
def child(
    target: FList[A, R], a: Futures[A], /, *args: Any, **options: Unpack[Named]
) -> ChildSpec[R]: ...
@overload
def child(
    target: FMore[A, R], a: Future[A], b: Any, c: Any, /, *args: Any, **options: Unpack[Named]
) -> ChildSpec[R]: ...
@overload
def child(target: Command, /, **options: Unpack[Named]) -> ChildSpec[Any]: ...
def child(  # type: ignore[misc]  # the overloads say what fits
    target: Target,
    *args: Any,
    key: str | None = None,
    name: str | None = None,
    **options: Unpack[Options],
) -> ChildSpec[Any]:
    """Describe a child, for spawn_many().

    Args:
        target: a function made by ``@task``, such a function's ``call(...)``, a command as a
            list, or None to run what this task runs.
        args: the function's arguments.
        key: names the child among this task's children, so that this task, run again, finds
            it. Default: made from what is spawned and how often that was spawned before.
        name: of the Task. Default: made from this task and the key.
        options: ``input`` (any value; of a function its arguments are the input),
            ``input_object`` (name of a TaskObject), ``cluster`` (another TaskCluster that this
            task's one lists in ``spec.peers``), ``image``, ``env`` (instead of this task's),
            ``working_dir``, ``timeout_s``, ``start_deadline_s``, ``slots``, ``cpu``, ``memory``,
            ``resources`` (as in the Task's spec), ``priority``,
            ``group``, ``retry`` (a number of retries, or as in the Task's spec), ``ttl``,
            ``run_after`` (children or names), ``when``, ``suspend``,
            ``read_only_workspace``. What is not given is inherited.

    Raises:
        TypeError: an option that does not exist.
    """
    _options.check_names(options)
    return ChildSpec(target, args, key, name, options)


def spawn_operation(
    specs: Iterable[ChildSpec[Any] | Target], kind: type[ChildT]
) -> Operation[list[ChildT]]:
    """Create children; see :func:`taskctl.sdk.spawn_many`."""
    attached = yield {"op": "attach"}
    made: list[ChildT] = []
    wanted = [_as_spec(spec) for spec in specs]
    messages = [_message(spec, attached) for spec in wanted]
    _add_default_keys(messages)
    if attached.get("small_limit"):
        for spec, message in zip(wanted, messages):
            # Whatever there is room for in the Task needs no object of its own. It is not part of
            # what a key is made from.
            if _function_of(spec.target) is not None and "value" in message:
                message["inline"] = True
    # Of a tree with limits.spawnRate: as many as may be spawned at once.
    for batch in _batches(messages, min(MAX_BATCH, attached.get("spawn_burst") or MAX_BATCH)):
        answer = yield {"op": "spawn", "tasks": batch}
        for message, found in zip(batch, answer["tasks"]):
            function = _function_of(wanted[len(made)].target)
            created = bool(found["created"])
            made.append(kind(found["name"], found["uid"], created, message["key"], function))
    return made


def _function_of(target: Target) -> TaskFunction[..., Any] | None:
    if isinstance(target, Call):
        return target.function
    return target if isinstance(target, TaskFunction) else None


def continuation(
    children: Any,
    then: Any,
    arguments: dict[str, Any],
    return_exceptions: bool,
    min_success: int | None,
) -> ChildSpec[Any]:
    """Return the child that runs when others have ended, and has their results as its input.

    Args:
        children: a list of them, or a group.

    Raises:
        Unsendable: ``then`` is not a function made by ``@task``.
        ValueError: ``min_success`` and errors as results cannot both be had.
    """
    from taskctl.sdk._sources import Group

    options: dict[str, Any] = {}
    if return_exceptions:
        options["when"] = "Always"
    if min_success is not None:
        is_group = isinstance(children, Group)
        if return_exceptions or min_success < 0 or not (is_group or min_success <= len(children)):
            of = repr(children) if is_group else f"{len(children)} children"
            raise ValueError(
                f"min_success is {min_success}, of {of}; with then= it cannot "
                "be more than that, nor go together with return_exceptions"
            )
        named = (
            {"group": children.name} if is_group else {"tasks": [item.name for item in children]}
        )
        options["run_after"] = {**named, "minSuccess": min_success}
    if not isinstance(then, TaskFunction):
        raise Unsendable(f"then takes a function made by @task, not {type(then).__name__}")
    return ChildSpec(Call(then, (children,), arguments), (), None, None, options)


def output_operation(value: Any, *, returned: bool = False) -> Operation[str]:
    """Set the output; returns the name of the TaskObject.

    Args:
        value: the output.
        returned: it is what a function returned: if it is small, it needs no TaskObject, and
            the name is empty.
    """
    attached = yield {"op": "attach"}
    plain = _stored.to_plain(value, "the output")
    message = {"op": "output", **_stored.content(plain, attached, "the output")}
    if returned and attached.get("small_limit") and "value" in message:
        message["inline"] = True
    answer = yield message
    return str(answer.get("object", ""))


def progress_operation(done: int, total: int, message: str) -> Operation[None]:
    """Report progress."""
    yield {"op": "progress", "done": done, "total": total, "message": message}


def info_operation() -> Operation[Info]:
    """Ask what the agent knows now."""
    answer = yield {"op": "info"}
    deadline_us = answer.get("deadline_us") or 0
    return Info(answer.get("cancel") or "", deadline_us / 1e6 if deadline_us else None)


def input_operation(streamed: Container[str] = ()) -> Operation[Any]:
    """Read the input.

    Args:
        streamed: JSON pointers of places whose results are to be read later, one by one: a
            :class:`taskctl.sdk._stream.Stream` stands there.
    """
    attached = yield {"op": "attach"}
    answer = yield {"op": "input", "format": "value"}
    workspace = attached.get("workspace") or ""
    whole = _stored.load(answer, workspace)
    for index, source in enumerate(answer.get("sources") or ()):
        whole = yield from _add_source(whole, index, source, workspace, streamed)
    return whole


def _add_source(
    whole: Any, index: int, source: Message, workspace: str, streamed: Container[str]
) -> Operation[Any]:
    """Put the results of one entry of ``spec.inputFrom`` into the input."""
    from taskctl.sdk._sources import put

    path, wanted = source["path"], source["count"]
    where = f"the result in the input at {path or 'its top'}"
    found: Any = []
    if wanted is not None and path in streamed:
        from taskctl.sdk._stream import Stream

        found = Stream(index, wanted, workspace, where)
    else:
        while len(found) < (1 if wanted is None else wanted):
            answer = yield {"op": "sources", "source": index, "start": len(found)}
            found += [_stored.load(item, workspace, where) for item in answer["values"]]
    try:
        return put(whole, path, found[0] if wanted is None else found)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputInvalid(f"inputFrom: the input has no place {path} for a result") from error


def _plain_input(value: Any, _hint: Any, path: str) -> Any:
    return _stored.to_plain(value, f"input{path}")


def _as_spec(spec: ChildSpec[Any] | Target) -> ChildSpec[Any]:
    return spec if isinstance(spec, ChildSpec) else child(spec)


def _message(spec: ChildSpec[Any], attached: Message) -> Message:
    """Return a spawn spec of docs/protocol.md; ``key`` may still be missing."""
    target, options = spec.target, dict(spec.options)
    if isinstance(target, TaskFunction):
        target = Call(target, spec.args, {})
    elif callable(target):
        raise Unsendable(f"{target!r} is not made by @task; decorate it, or spawn a command")
    elif spec.args:
        raise Unsendable("only a function takes arguments; put those of a command into its list")
    overrides: Message = {}
    sources: list[dict[str, Any]] = []
    if isinstance(target, Call):
        if "input" in options or "input_object" in options:
            raise Unsendable("input: a function's arguments are its input; leave this out")
        options = {**target.function.options, **options}
        # Another image may have its Python elsewhere.
        python = "python3" if "image" in options else sys.executable or "python3"
        overrides["command"], options["input"] = _program(target, python, spec.key, sources)
        overrides["args"] = []
    elif target is not None:
        overrides["command"] = _options.command(target)
        overrides["args"] = []
    message: Message = {} if spec.key is None else {"key": _options.check_key(spec.key)}
    if spec.name is not None:
        message["name"] = _options.check_text(spec.name, "name")
    named_input = options.pop("input_object", None)
    if named_input is not None:
        message["input_object"] = _options.check_text(named_input, "input_object")
    if "input" in options:
        from taskctl.sdk._sources import split

        plain = split(options.pop("input"), None, _plain_input, sources)
        message.update(_stored.content(plain, attached, "input"))
    overrides.update(
        {
            _options.FIELDS[name]: _options.field(name, value)
            for name, value in _options.merged(options).items()
        }
    )
    if sources:
        from taskctl.sdk._sources import join

        join(sources, overrides)
    if overrides:
        message["overrides"] = overrides
    return message


def _program(
    call: Call[..., Any], python: str, key: str | None, sources: list[dict[str, Any]]
) -> tuple[list[str], Any]:
    """Return the command that runs a call, and its input; see encode_arguments for sources."""
    arguments = encode_arguments(call, sources)
    try:
        return command_of(call.function, python), arguments
    except Unsendable:
        byvalue = sys.modules.get("taskctl.sdk._byvalue")
        if byvalue is None or not byvalue.is_by_value():
            raise
        packed = byvalue.pack_again(call.function.function, key)
    if sources:
        raise Unsendable(
            f"{call.function.__qualname__}() goes by value and cannot take a child as argument; "
            "pass its result, or put the function into a module"
        )
    command = [python, "-m", "taskctl.sdk.run", "--pickled", call.function.__qualname__]
    return command, {byvalue.FUNCTION: packed, byvalue.ARGUMENTS: arguments}


def _add_default_keys(messages: list[Message]) -> None:
    unnamed = [message for message in messages if "key" not in message]
    if unnamed:
        from taskctl.sdk._keys import default_keys

        contents = [_canonical(message) for message in unnamed]
        for message, key in zip(unnamed, default_keys(contents)):
            message["key"] = key


def _canonical(message: Message) -> bytes:
    from taskctl.wire import encode

    return encode(message)


def _batches(messages: list[Message], most: int) -> Iterator[list[Message]]:
    """Cut a list so that each part fits a request, and has so many items at most."""
    batch: list[Message] = []
    size = 0
    for message in messages:
        message_size = len(_canonical(message))
        if batch and (len(batch) == most or size + message_size > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += message_size
    if batch:
        yield batch

"""Functions as tasks: by reference, with arguments and result as JSON."""

from __future__ import annotations

import sys

from taskctl.sdk._options import check_names
from taskctl.sdk._places import check_function
from taskctl.sdk._types import OfCall, P, R, R_co, overload
from taskctl.sdk.errors import InputInvalid, Unsendable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Unpack

    from taskctl.sdk._parameters import Parameter
    from taskctl.sdk._specs import Options


class Call(OfCall[P, R_co]):
    """A function with its arguments, to be spawned; made by :meth:`TaskFunction.call`."""

    def __init__(
        self, function: TaskFunction[P, R_co], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs


class TaskFunction(OfCall[P, R_co]):
    """A function that can be spawned as a task; calling it runs it here.

    Attributes:
        function: the function itself.
        options: of the tasks spawned from it, unless spawn() says otherwise.
    """

    def __init__(self, function: Callable[P, R_co], options: dict[str, Any]) -> None:
        check_names(options, of_function=True)
        self.function: Callable[P, R_co] = check_function(function)
        self.options = options
        self.__wrapped__ = function = self.function
        self.__name__ = function.__name__
        self.__qualname__ = function.__qualname__
        self.__module__ = function.__module__
        self.__doc__ = function.__doc__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<task {self.__module__}:{self.__qualname__}>"

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call[P, R_co]:
        """Return the function with arguments, for spawn() and spawn_many()."""
        return Call(self, args, kwargs)

    def with_options(self, **options: Unpack[Options]) -> TaskFunction[P, R_co]:
        """Return the same function with other options for its tasks."""
        return TaskFunction(self.function, {**self.options, **options})


if TYPE_CHECKING:

    @overload
    def task(function: Callable[P, R], /) -> TaskFunction[P, R]: ...
    @overload
    def task(**options: Unpack[Options]) -> Callable[[Callable[P, R]], TaskFunction[P, R]]: ...
    def task(function: Callable[P, R] | None = None, /, **options: Unpack[Options]) -> Any: ...

else:

    def task(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Make a function spawnable: ``@task``, or ``@task(timeout_s=60, retry=3)``.

        Arguments must have a JSON form that the annotations lead back from; what the function
        returns becomes the task's output (None: no output).

        Args:
            function: at the top level of a module or script; ``async`` or not.
            options: of its tasks, see :func:`taskctl.sdk.child`.

        Raises:
            Unsendable: it is not a function that another process could find.
            TypeError: an option that does not exist.
        """
        if function is not None:
            return _task(function, options)
        check_names(options, of_function=True)
        return lambda decorated: _task(decorated, options)


def _task(function: Any, options: dict[str, Any]) -> TaskFunction[Any, Any]:
    if isinstance(function, TaskFunction):
        return function.with_options(**options)
    return TaskFunction(function, options)


# --- arguments -------------------------------------------------------------------------


def encode_arguments(
    call: Call[Any, Any], sources: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Return the input for a call: a map of parameter to JSON value.

    Children among the arguments are left out and added to ``sources``; without it there are none.

    Raises:
        Unsendable: the arguments do not fit the function, or one has no JSON form.
    """
    from taskctl.sdk import _values
    from taskctl.sdk._parameters import bound
    from taskctl.sdk._sources import split

    function, name = call.function.function, call.function.__qualname__
    parameters, hints = _signature(function)
    try:
        given = bound(function, call.args, call.kwargs)
    except TypeError as error:
        raise Unsendable(f"{name}(): {error}") from error

    def encode(part: Any, hint: Any, path: str) -> Any:
        _, key, *below = path.split("/")
        place = "".join(f"[{item}]" for item in below)
        return _values.encode(part, hint, f"{name}(): {key}{place}", 1 + len(below))

    made = {}
    for key, value in given.items():
        hint = _whole_hint(parameters[key], hints)

        found: list[dict[str, Any]] = []
        if sources is None:
            plain = _values.encode(value, hint, f"{name}(): {key}", 1)
        else:
            plain = split(value, hint, encode, found, f"/{key}")
        if sources is not None:
            sources += found
        if plain is not None or not found:
            made[key] = plain
    return made


def decode_arguments(function: Callable[..., Any], given: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments that an input stands for.

    Args:
        function: what to call.
        given: a map of parameter to JSON value; for one parameter also the value itself;
            None for no arguments.

    Raises:
        InputInvalid: they do not fit.
    """
    name = function.__qualname__
    parameters, hints = _signature(function)
    values = _by_name(name, parameters, given)
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for key, parameter in parameters.items():
        if key in values:
            hint = _whole_hint(parameter, hints)
            value = _decoded(values[key], hint, f"{name}(): {key}")
        elif parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        elif parameter.default is parameter.empty:
            raise InputInvalid(f"{name}(): the input lacks {key!r}")
        else:
            value = parameter.default
        if parameter.kind == parameter.VAR_POSITIONAL:
            args.extend(value)
        elif parameter.kind == parameter.VAR_KEYWORD:
            kwargs.update(value)
        elif parameter.kind == parameter.KEYWORD_ONLY:
            kwargs[key] = value
        else:
            args.append(value)
    return args, kwargs


def _decoded(plain: Any, hint: Any, where: str) -> Any:
    """Return an argument; results that are read one by one stay so."""
    from collections.abc import AsyncIterable

    from taskctl.sdk._decode import decode
    from taskctl.sdk._hints import bare, split

    origin, args = split(bare(hint))
    stream = sys.modules.get("taskctl.sdk._stream")
    if stream is not None and isinstance(plain, stream.Stream):
        if not args:
            return plain
        return plain.decoded(lambda item, place: decode(item, args[0], place), where)
    value = decode(plain, hint, where)
    if origin is AsyncIterable:
        from taskctl.sdk._stream import Once

        return Once(value)
    return value


def streamed(function: Callable[..., Any]) -> set[str]:
    """Return the places in the input, as JSON pointers, whose results are read one by one.

    They are those of parameters that are annotated with Iterable or AsyncIterable.
    """
    from collections.abc import AsyncIterable, Iterable

    from taskctl.sdk._hints import bare, split

    parameters, hints = _signature(function)
    found = set()
    for key, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if split(bare(hints.get(key)))[0] in (Iterable, AsyncIterable):
            found.add("/" + key.replace("~", "~0").replace("/", "~1"))
            if len(parameters) == 1:
                found.add("")
    return found


def decode_argument(function: Callable[..., Any], key: str, forms: tuple[Any, ...]) -> Any:
    """Return one argument by name, from the first of one or two values that its annotation takes.

    Raises:
        InputInvalid: there is no such parameter, or none of the values fits.
    """
    from typing import Any

    from taskctl.sdk._decode import decode

    parameters, hints = _signature(function)
    parameter = parameters.get(key)
    if parameter is None or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        known = ", ".join(parameters) or "none"
        raise InputInvalid(f"{function.__qualname__}() has no parameter {key!r}; it has: {known}")
    hint = _whole_hint(parameter, hints)
    if hint is Any:
        return forms[-1]
    try:
        return decode(forms[0], hint, key)
    except InputInvalid:
        if len(forms) == 1:
            raise
    return decode(forms[1], hint, key)


def _by_name(name: str, parameters: dict[str, Parameter], given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        if len(parameters) == 1:
            return {next(iter(parameters)): given}
        given_kind = type(given).__name__
        raise InputInvalid(
            f"{name}(): the input is a {given_kind}; it must be a map of {', '.join(parameters)}"
        )
    unknown = sorted(set(given) - set(parameters))
    if unknown:
        known = ", ".join(parameters) or "none"
        raise InputInvalid(f"{name}() has no parameter {unknown[0]!r}; it has: {known}")
    return given


def encode_result(function: Callable[..., Any], result: Any) -> Any:
    """Return a function's result as a JSON value.

    Raises:
        Unsendable: it has no JSON form, or is not what the annotation says.
    """
    from taskctl.sdk import _stored, _values

    where = f"{function.__qualname__}(): the result"
    hint = _result_hint(function)
    if hint is None:
        return _stored.to_plain(result, where)
    return _values.encode_result(result, hint, where)


def decode_result(function: Callable[..., Any], plain: Any, where: str) -> Any:
    """Return the result that a JSON value stands for, led by the function's annotation.

    Raises:
        InputInvalid: it does not fit.
    """
    from taskctl.sdk._decode import decode

    hint = _result_hint(function)
    return plain if hint is None else decode(plain, hint, where)


def _result_hint(function: Callable[..., Any]) -> Any:
    """Return the annotation of what is stored; None if it says nothing of it."""
    import collections.abc
    from typing import Any, get_args, get_origin

    hint = _signature(function)[1].get("return", Any)
    while get_origin(hint) in (collections.abc.Awaitable, collections.abc.Coroutine):
        hint = get_args(hint)[-1]
    return None if hint in (Any, None, type(None)) else hint


def _signature(function: Callable[..., Any]) -> tuple[dict[str, Parameter], dict[str, Any]]:
    from taskctl.sdk._hints import UnreadableHint, evaluated
    from taskctl.sdk._parameters import parameters_of

    try:
        hints = evaluated(function)
    except UnreadableHint as error:
        raise Unsendable(f"{function.__qualname__}(): {error}") from error
    return parameters_of(function), hints


def _whole_hint(parameter: Parameter, hints: dict[str, Any]) -> Any:
    """Return the annotation of all that a parameter holds: for ``*x: int`` a list of them."""
    from typing import Any, Dict, List  # noqa: UP035  (3.8 cannot index the builtin ones)

    hint = hints.get(parameter.name, Any)
    if parameter.kind == parameter.VAR_POSITIONAL:
        return List[hint]  # type: ignore[valid-type]  # noqa: UP006
    if parameter.kind == parameter.VAR_KEYWORD:
        return Dict[str, hint]  # type: ignore[valid-type]  # noqa: UP006
    return hint

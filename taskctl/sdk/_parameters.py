"""Parameters of functions, and what a call gives them: ``inspect.signature`` for most functions.

Loading ``inspect`` takes as long as the start of Python itself, so functions that are just
functions are read here. For all others, and for what a call gets wrong, ``inspect`` has the word.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

_PLAIN: Final = type(lambda: None)
_VAR_POSITIONAL: Final = 0x04  # flags of a code object: it has *args, **kwargs
_VAR_KEYWORD: Final = 0x08
# What makes `inspect.signature` look elsewhere than at the code, or at more than that.
_TELLS_OTHERWISE: Final = ("__wrapped__", "__signature__", "__text_signature__")


class Parameter:
    """One parameter, named as in ``inspect.Parameter``.

    Attributes:
        name: of the parameter.
        kind: one of the constants.
        default: ``empty`` if there is none.
    """

    POSITIONAL_ONLY: Final = 0
    POSITIONAL_OR_KEYWORD: Final = 1
    VAR_POSITIONAL: Final = 2
    KEYWORD_ONLY: Final = 3
    VAR_KEYWORD: Final = 4
    empty: Final = object()

    __slots__ = ("default", "kind", "name")

    def __init__(self, name: str, kind: int, default: Any = empty) -> None:
        self.name, self.kind, self.default = name, kind, default


def parameters_of(function: Callable[..., Any]) -> dict[str, Parameter]:
    """Return the parameters of a callable, by name in order.

    Raises:
        TypeError, ValueError: it has no signature.
    """
    if not _is_plain(function):
        return _by_inspect(function)
    code = function.__code__
    names, count, named = code.co_varnames, code.co_argcount, code.co_kwonlyargcount
    first_default = count - len(function.__defaults__ or ())
    found = []
    for index, name in enumerate(names[:count]):
        only = index < code.co_posonlyargcount
        kind = Parameter.POSITIONAL_ONLY if only else Parameter.POSITIONAL_OR_KEYWORD
        default = Parameter.empty
        if function.__defaults__ is not None and index >= first_default:
            default = function.__defaults__[index - first_default]
        found.append(Parameter(name, kind, default))
    rest = count + named
    if code.co_flags & _VAR_POSITIONAL:
        found.append(Parameter(names[rest], Parameter.VAR_POSITIONAL))
        rest += 1
    for name in names[count : count + named]:
        default = (function.__kwdefaults__ or {}).get(name, Parameter.empty)
        found.append(Parameter(name, Parameter.KEYWORD_ONLY, default))
    if code.co_flags & _VAR_KEYWORD:
        found.append(Parameter(names[rest], Parameter.VAR_KEYWORD))
    return {parameter.name: parameter for parameter in found}


def bound(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Return what a call gives to each parameter, in their order; what it leaves out is missing.

    What goes to ``*args`` is a list, what goes to ``**kwargs`` a dict.

    Raises:
        TypeError: the function cannot be called like that.
    """
    if _is_plain(function):
        found = _bound_simply(parameters_of(function), args, kwargs)
        if found is not None:
            return found
    from inspect import signature

    result = signature(function).bind(*args, **kwargs)
    for parameter in result.signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL and parameter.name in result.arguments:
            result.arguments[parameter.name] = list(result.arguments[parameter.name])
    return dict(result.arguments)


def _bound_simply(
    parameters: dict[str, Parameter], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any] | None:
    """Return what `bound` does; None: that is not so simple, or the call is wrong."""
    by_position = [
        name for name, one in parameters.items() if one.kind == Parameter.POSITIONAL_OR_KEYWORD
    ]
    by_name = [name for name, one in parameters.items() if one.kind == Parameter.KEYWORD_ONLY]
    if len(by_position) + len(by_name) < len(parameters) or len(args) > len(by_position):
        return None
    given = dict(zip(by_position, args))
    if any(name in given or name not in parameters for name in kwargs):
        return None
    given.update(kwargs)
    missing = [n for n, p in parameters.items() if n not in given and p.default is p.empty]
    return None if missing else {name: given[name] for name in parameters if name in given}


def _is_plain(function: Callable[..., Any]) -> bool:
    return type(function) is _PLAIN and not any(
        name in function.__dict__ for name in _TELLS_OTHERWISE
    )


def _by_inspect(function: Callable[..., Any]) -> dict[str, Parameter]:
    from inspect import signature

    found = {}
    for name, one in signature(function).parameters.items():
        default = Parameter.empty if one.default is one.empty else one.default
        found[name] = Parameter(name, int(one.kind), default)
    return found

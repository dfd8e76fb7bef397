"""What type checkers need to follow a function's types through spawn() and gather().

At run time the generic classes are plain ones and ``overload`` does nothing: ``typing`` takes
longer to load than the rest of the SDK.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import (
        Any,
        Concatenate,
        Generic,
        ParamSpec,
        TypeAlias,
        TypeVar,
        TypeVarTuple,
        Union,
        overload,
    )

    from taskctl.sdk._child import SpawnedChild
    from taskctl.sdk._functions import Call

    P = ParamSpec("P")
    R = TypeVar("R")
    R_co = TypeVar("R_co", covariant=True)
    A = TypeVar("A")
    B = TypeVar("B")
    Ts = TypeVarTuple("Ts")

    class OfCall(Generic[P, R_co]):
        """A function's parameters and what calling it returns."""

    class OfResult(Generic[R_co]):
        """What a task returns."""

    Awaited: TypeAlias = Coroutine[Any, Any, R]
    # A child may stand for its result as an argument, alone or in a list. A union of both would
    # do, but mypy finds no solution where the child is a command's, whose result is Any.
    Future: TypeAlias = SpawnedChild[A]
    Futures: TypeAlias = Sequence[SpawnedChild[A]]
    F1: TypeAlias = Callable[[A], R]
    F2: TypeAlias = Callable[[A, B], R]
    FMore: TypeAlias = Callable[Concatenate[A, ...], R]
    FList: TypeAlias = Callable[Concatenate[list[A], ...], R]
    # What has no types of its own: a command, or None for what this task runs.
    Command: TypeAlias = Union[Sequence[str], None]
    AnyCall: TypeAlias = Call[..., R]
else:
    P = R = R_co = None

    class Subscriptable:
        """Can be subscripted, to no effect."""

        __slots__ = ()

        def __class_getitem__(cls, parameters: object) -> type:
            """Return the class itself."""
            del parameters
            return cls

    OfCall = OfResult = Subscriptable

    def overload(function):  # noqa: ANN001, ANN202 - for type checkers only
        """Return the function itself."""
        return function


__all__ = ["OfCall", "OfResult", "P", "R", "R_co", "overload"]

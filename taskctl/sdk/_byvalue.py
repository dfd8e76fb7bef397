"""Functions by value: for those that no other process could import, by cloudpickle.

cloudpickle is not loaded, and need not be there, for anything else.
"""

from __future__ import annotations

import sys

from taskctl.sdk.errors import InputInvalid, Unsendable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Final

# What the input of such a task has beside its arguments.
FUNCTION: Final = "function"
ARGUMENTS: Final = "arguments"
MAX_PICKLE_BYTES: Final = 512 * 1024


def pack(function: Callable[..., Any], name: str) -> dict[str, Any]:
    """Return what :func:`unpack` makes the function from, as JSON.

    Raises:
        Unsendable: cloudpickle is not installed, refuses, or the function drags too much along.
    """
    import base64
    import zlib

    try:
        import cloudpickle
    except ImportError as error:
        raise Unsendable(
            f"{name} cannot be imported by another process, and to send it by value takes "
            "cloudpickle: pip install 'taskctl[client]'; or put it into a module"
        ) from error
    try:
        pickled: bytes = cloudpickle.dumps(function)
    except Exception as error:
        raise Unsendable(
            f"{name} cannot be sent by value: {type(error).__name__}: {error}; it must not hold "
            "open files, locks, connections and the like"
        ) from error
    packed = base64.b64encode(zlib.compress(pickled)).decode()
    if len(packed) > MAX_PICKLE_BYTES:
        raise Unsendable(
            f"{name} has {len(packed)} bytes with all that it refers to, at most "
            f"{MAX_PICKLE_BYTES} can be sent: pass large values as arguments, or upload the "
            "folder with code="
        )
    return {"name": name, "python": _version(), "pickle": packed}


# What this task was sent: sent on as it is, so that a task that runs again asks for the same.
_received: list[tuple[Callable[..., Any], dict[str, Any]]] = []


def pack_again(function: Callable[..., Any], key: str | None) -> dict[str, Any]:
    """Return a function that a task spawns which was sent by value itself.

    Raises:
        Unsendable: it cannot be sent, or the child has no key: what is pickled once more is not
            the same bytes, so no key can be made from them.
    """
    for own, packed in _received:
        if own is function:
            return packed
    name = f"{function.__module__}.{function.__qualname__}"
    if key is None:
        raise Unsendable(
            f"{name} goes by value, and so its child needs a key of your own: spawn(…, key=…); or "
            "put it into a module"
        )
    return pack(function, name)


def unpack(packed: Mapping[str, Any]) -> Callable[..., Any]:
    """Return the function that :func:`pack` was given.

    Raises:
        InputInvalid: it was made by another version of Python, or cannot be made here.
    """
    import base64
    import zlib

    name = str(packed.get("name", "the function"))
    theirs = str(packed.get("python", ""))
    if theirs != _version():
        raise InputInvalid(
            f"{name} was sent by value from Python {theirs}, and this is Python {_version()}: "
            "use an image with the same version, or put the function into a module of the image"
        )
    try:
        import cloudpickle
    except ImportError:
        import taskctl

        sys.path.append(f"{taskctl.__file__.rpartition('/')[0]}/_vendor")  # the worker's
        try:
            import cloudpickle  # noqa: F401
        except ImportError as error:
            raise InputInvalid(
                f"{name} was sent by value, which takes cloudpickle, and neither this image nor "
                "the worker has it: install it in either"
            ) from error
    import pickle

    try:
        function: Callable[..., Any] = pickle.loads(
            zlib.decompress(base64.b64decode(packed["pickle"]))
        )
    except ImportError as error:
        raise InputInvalid(
            f"{name} needs a module that this image lacks: {error}; install it there, or upload "
            "your folder with code="
        ) from error
    except Exception as error:
        raise InputInvalid(
            f"{name} cannot be made here: {type(error).__name__}: {error}"
        ) from error
    return function


def receive(packed: Mapping[str, Any]) -> Callable[..., Any]:
    """Return the function that this task was sent, and keep it for :func:`pack_again`.

    Raises:
        InputInvalid: see :func:`unpack`.
    """
    function = unpack(packed)
    _received.append((function, dict(packed)))
    return function


def is_by_value() -> bool:
    """Return whether this task's function was sent by value."""
    return bool(_received)


def _version() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"

"""Plain JSON values on their way to the agent and back, through the workspace if large."""

from __future__ import annotations

import os

from taskctl.errors import WireError
from taskctl.sdk import _env
from taskctl.sdk.errors import InputCorrupt, InputMissing, Unsendable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from taskctl.wire import Message

MAX_NESTING: Final = 200  # the agent refuses more
# JSON of a value is at most this many times longer than its msgpack form ("\u0000" for a byte).
_JSON_FACTOR = 8
# What fits a frame of 16 MiB with room for the rest of the request.
_MAX_SENT_BYTES: Final = 15 * 1024 * 1024
# Other users' tasks share the directories and must be able to read the files.
_DIRECTORY_MODE, _FILE_MODE = 0o1777, 0o644


def to_plain(value: Any, where: str) -> Any:
    """Return a value of any kind that the SDK knows as plain JSON.

    Raises:
        Unsendable: it has no JSON form.
    """
    if is_plain(value, where):
        return value
    from taskctl.sdk import _values

    return _values.encode_free(value, where)


def is_plain(value: Any, where: str, depth: int = 0) -> bool:
    """Return whether a value is JSON already: no tuples, no text-like keys, no NaN.

    Args:
        value: the value.
        where: what it is, for errors.
        depth: how many arrays and objects it will be in.


    Raises:
        Unsendable: it is nested too deeply.
    """
    if depth >= MAX_NESTING:
        raise Unsendable(
            f"{where}: is nested more than {MAX_NESTING} levels deep, or contains itself"
        )
    kind = type(value)
    if value is None or kind is bool:
        return True
    if kind is str:
        return value.isascii() or is_unicode(value)
    if kind is int:
        return bool(-(2**63) <= value < 2**63)
    if kind is float:
        return bool(value - value == 0)  # neither infinite nor NaN
    if kind is list:
        return all(is_plain(item, where, depth + 1) for item in value)
    if kind is dict:
        return all(
            type(key) is str
            and (key.isascii() or is_unicode(key))
            and is_plain(item, where, depth + 1)
            for key, item in value.items()
        )
    return False


def is_unicode(text: str) -> bool:
    """Whether a text has no lone surrogate, which UTF-8 cannot say."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def content(plain: Any, attached: Message, where: str) -> Message:
    """Return the fields of a request that carry a plain value: ``value``, or ``ref``.

    Raises:
        Unsendable: the value is too large for a message, and cannot be written to the workspace.
    """
    limit, workspace = attached.get("inline_limit") or 0, attached.get("workspace")
    if not workspace or not limit:
        return {"value": plain}
    packed_size = _packed_size(plain, where)
    if packed_size * _JSON_FACTOR <= limit:
        return {"value": plain}
    from json import dumps

    encoded = dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()
    if len(encoded) <= limit:
        return {"value": plain}
    try:
        return {"ref": _spill(encoded, workspace)}
    except OSError as error:
        # The workspace is mounted read-only, or belongs to another user: the agent can write it.
        if packed_size <= _MAX_SENT_BYTES:
            return {"value": plain}
        raise Unsendable(
            f"{where}: has {len(encoded)} bytes and cannot be written to the workspace ({error}), "
            f"and a message to the agent holds {_MAX_SENT_BYTES} bytes: make it smaller, or let "
            "this task write to the workspace (readOnlyWorkspace: false)"
        ) from error


def _packed_size(plain: Any, where: str) -> int:
    from taskctl.wire import pack_value

    try:
        return len(pack_value(plain))
    except WireError as error:  # a lone surrogate
        raise Unsendable(f"{where}: {error}") from error


def _spill(encoded: bytes, workspace: str) -> Message:
    """Write a value under its hash, once; returns the reference to it."""
    from hashlib import sha256

    digest = sha256(encoded).hexdigest()
    relative = f"{_env.OBJECTS_DIR}/{digest[:2]}/{digest}"
    path = f"{workspace}/{relative}"
    reference = {"path": relative, "sha256": digest, "size": len(encoded), "codec": "json"}
    if _has_size(path, len(encoded)):
        return reference
    make_shared_directory(os.path.dirname(path))
    temporary = f"{path}.{os.getpid()}-{os.urandom(4).hex()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
    try:
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(encoded)
            os.fchmod(fd, _FILE_MODE)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return reference


def _has_size(path: str, size: int) -> bool:
    try:
        if os.stat(path).st_size != size:
            return False
        # Else the clean-up could take it for one that is not used any more. Of another user's the
        # agent takes care.
        try:  # noqa: SIM105  (contextlib takes its time to load)
            os.utime(path)
        except OSError:
            pass
        return os.stat(path).st_size == size
    except OSError:
        return False


def make_shared_directory(path: str) -> None:
    """Make a directory and those above it, open to tasks of other users.

    Raises:
        OSError: it cannot be made.
    """
    if os.path.isdir(path):
        return
    make_shared_directory(os.path.dirname(path))
    try:
        os.mkdir(path)
        os.chmod(path, _DIRECTORY_MODE)  # mkdir's own mode is cut by the umask
    except FileExistsError:
        pass


def load(answer: Message, workspace: str, what: str = "the input") -> Any:
    """Return the value that an answer of the agent carries; None if there is none.

    Raises:
        InputMissing: its file is gone.
        InputCorrupt: its file is not what was written.
    """
    reference = answer.get("ref")
    if reference is None:
        return answer.get("value")
    path = os.path.join(workspace, reference["path"])
    try:
        with open(path, "rb") as file:
            encoded = file.read()
    except OSError as error:
        raise InputMissing(
            f"{what} was stored in {path}, which cannot be read ({error}); "
            "run the task that made it again"
        ) from error
    from hashlib import sha256

    if len(encoded) != reference["size"] or sha256(encoded).hexdigest() != reference["sha256"]:
        raise InputCorrupt(
            f"{what} in {path} was changed after it was written; "
            "delete the file and run the task that made it again"
        )
    return _decode(encoded, reference["codec"], f"{what} in {path}")


def _decode(encoded: bytes, codec: str, where: str) -> Any:
    try:
        if codec == "json":
            from json import loads

            return loads(encoded)
        if codec == "msgpack":
            from taskctl.wire import unpack_value

            return unpack_value(encoded)
    except (ValueError, WireError) as error:
        raise InputCorrupt(f"{where} is not valid {codec}: {error}") from error
    raise InputCorrupt(f"{where} has the codec {codec!r}, which this SDK lacks")

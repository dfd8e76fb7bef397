"""A folder of code in the workspace, kept under its hash.

It arrives in parts, each the input of a small task (``python -m taskctl.sdk.upload``), and is one
zip file then. A task that needs it checks its hash and unpacks it for itself: other tasks can
write in the workspace, so what lies there is never run unchecked.
"""

from __future__ import annotations

import os

from taskctl.sdk import _stored
from taskctl.sdk.errors import InputCorrupt, InputInvalid, InputMissing, NoWorkspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

CODE_DIR: Final = ".taskctl/code"
WORKSPACE: Final = "TASKCTL_WORKSPACE"
MAX_UNPACKED_BYTES: Final = 256 * 1024 * 1024
_SHA256_CHARS: Final = 64


def store(part: Mapping[str, Any]) -> None:
    """Write one part; with the last one, put all together.

    Args:
        part: ``sha256`` of the whole, ``number`` from 0, ``parts``, ``content`` (base64).

    Raises:
        InputInvalid: it is malformed, or the parts do not make up the whole.
        NoWorkspace: this TaskCluster has none.
        OSError: the workspace cannot be written.
    """
    import base64

    sha256, number, parts = _checked(part["sha256"]), int(part["number"]), int(part["parts"])
    path = _path(sha256)
    if os.path.exists(path):
        return
    _stored.make_shared_directory(os.path.dirname(path))
    content = base64.b64decode(part["content"])
    if number < parts - 1:
        _write(f"{path}.{number}", content)
        return
    pieces = []
    for earlier in range(number):
        with open(f"{path}.{earlier}", "rb") as file:
            pieces.append(file.read())
    whole = b"".join([*pieces, content])
    if _digest(whole) != sha256:
        raise InputInvalid("the parts of the uploaded code do not make up what was sent")
    _write(path, whole)
    for earlier in range(number):
        os.unlink(f"{path}.{earlier}")


def unpack(sha256: str) -> str:
    """Unpack code that was uploaded; returns the directory, which goes when the process ends.

    Raises:
        InputMissing: it is not in the workspace.
        InputCorrupt: it was changed, or is not an archive that :func:`store` would be sent.
        NoWorkspace: this TaskCluster has none.
    """
    import atexit
    import io
    import shutil
    import tempfile
    import zipfile

    path = _path(_checked(sha256))
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise InputMissing(
            f"the uploaded code {path} cannot be read ({error.strerror}); delete the Tasks "
            f"code-{sha256[:10]}-* and submit again"
        ) from error
    if _digest(content) != sha256:
        raise InputCorrupt(
            f"the uploaded code {path} was changed after it was written; delete it and the Tasks "
            f"code-{sha256[:10]}-*, and submit again"
        )
    root = os.path.realpath(tempfile.mkdtemp(prefix="taskctl-code-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > MAX_UNPACKED_BYTES:
            raise InputCorrupt(f"{path} unpacks to more than {MAX_UNPACKED_BYTES} bytes")
        archive.extractall(root)  # which keeps names inside
        for entry in archive.infolist():
            mode = entry.external_attr >> 16 & 0o777
            if mode:
                os.chmod(os.path.join(root, entry.filename), mode)
    return root


def _path(sha256: str) -> str:
    workspace = os.environ.get(WORKSPACE)
    if not workspace:
        raise NoWorkspace(
            "code is uploaded into the workspace, and this TaskCluster has none: set "
            "spec.workspace, or send the function by value"
        )
    return f"{workspace}/{CODE_DIR}/{sha256}.zip"


def _checked(sha256: Any) -> str:
    text = str(sha256)
    if len(text) != _SHA256_CHARS or not set(text) <= set("0123456789abcdef"):
        raise InputInvalid(f"{text!r} is not a SHA-256")
    return text


def _digest(content: bytes) -> str:
    from hashlib import sha256

    return sha256(content).hexdigest()


def _write(path: str, content: bytes) -> None:
    temporary = f"{path}.{os.getpid()}-{os.urandom(4).hex()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        with open(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise

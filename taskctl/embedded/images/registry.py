"""Pulling from registries by skopeo, which keeps to credentials and settings as Docker has them.

skopeo reads ``~/.docker/config.json`` with its credential helpers, ``auth.json`` and
``/etc/containers``. It talks plain HTTP to registries on this machine alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import resource
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from taskctl.embedded.images.bounds import check_room
from taskctl.embedded.images.model import LIMITS, ImageError
from taskctl.embedded.images.reference import Reference

_INSPECT_TIMEOUT_S: Final = 60.0
_PULL_TIMEOUT_S: Final = 1800.0
_LOOK_EVERY_S: Final = 1.0
_ERROR_TAIL: Final = 800


async def remote_digest(reference: Reference, auth_file: Path | None = None) -> str:
    """Return the digest that a registry has for a reference now.

    Raises:
        ImageError: there is none, or the registry cannot be asked.
    """
    manifest = await _skopeo(
        ["inspect", "--raw", *_options(reference, auth_file, "")],
        [f"docker://{reference}"],
        _INSPECT_TIMEOUT_S,
    )
    _check_size(manifest)
    return f"sha256:{hashlib.sha256(manifest).hexdigest()}"


async def download(reference: Reference, layout: Path, auth_file: Path | None = None) -> None:
    """Fetch an image for this machine into a new OCI layout.

    Raises:
        ImageError: it is not there, too large, or the registry cannot be asked.
    """
    check_room(layout.parent, LIMITS)
    await _skopeo(
        ["copy", "--quiet", *_options(reference, auth_file, "src-")],
        [f"docker://{reference}", f"oci:{layout}:1"],
        _PULL_TIMEOUT_S,
        watched=layout.parent,
    )


def auth_document(secrets: Sequence[bytes]) -> dict[str, Any]:
    """Return what several pull secrets (``.dockerconfigjson``) say together.

    Raises:
        ImageError: one of them is not JSON.
    """
    auths: dict[str, Any] = {}
    for secret in secrets:
        try:
            found = json.loads(secret).get("auths")
        except (ValueError, AttributeError, RecursionError) as error:
            raise ImageError("imagePullSecrets: .dockerconfigjson is not a JSON object") from error
        if isinstance(found, dict):
            auths.update(found)
    return {"auths": auths}


def _options(reference: Reference, auth_file: Path | None, side: str) -> list[str]:
    options = [f"--{side}tls-verify=false"] if reference.is_loopback else []
    if auth_file is not None:
        options.append(f"--{side}authfile={auth_file}" if side else f"--authfile={auth_file}")
    return options


def _check_size(manifest: bytes) -> None:
    try:
        layers = json.loads(manifest).get("layers") or ()
        size = sum(int(layer["size"]) for layer in layers)
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ImageError("the registry's manifest is malformed") from error
    if size > LIMITS.bytes:
        raise ImageError(f"the image's layers have {size:,} bytes, more than {LIMITS.bytes:,}")


async def _skopeo(
    arguments: Sequence[str], operands: Sequence[str], timeout_s: float, watched: Path | None = None
) -> bytes:
    program = shutil.which("skopeo")
    if program is None:
        raise ImageError(
            "images are pulled by skopeo, which is not installed; install it (apt install skopeo), "
            "or save the image to a file and run `taskctl image add NAME=FILE`"
        )
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        *operands,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (LIMITS.bytes, LIMITS.bytes))
    watch = asyncio.create_task(_watch(watched), name="room for a pull") if watched else None
    talk = asyncio.create_task(process.communicate(), name="skopeo")
    try:
        waiting = {talk, watch} if watch is not None else {talk}
        done, _ = await asyncio.wait(
            waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        if watch is not None and watch in done:
            watch.result()  # there is no room any more
        if talk not in done:
            raise ImageError(f"{operands[0]} did not arrive within {timeout_s:.0f} s")
        out, err = talk.result()
    finally:
        for task in (watch, talk):
            if task is not None:
                task.cancel()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        raise ImageError(f"{operands[0]}: {_reason(err)}")
    return out


async def _watch(directory: Path) -> None:
    while True:
        await asyncio.sleep(_LOOK_EVERY_S)
        await asyncio.to_thread(check_room, directory, LIMITS)


def _reason(err: bytes) -> str:
    """skopeo writes a log line; what counts is in its ``msg``."""
    text = err.decode(errors="replace").strip()
    line = text.splitlines()[-1] if text else "skopeo failed without a word"
    _, separator, message = line.partition('msg="')
    return (message.rstrip('"').replace('\\"', '"') if separator else line)[-_ERROR_TAIL:]


def write_auth_file(path: Path, document: dict[str, Any]) -> None:
    """Write credentials for their owner alone."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump(document, file)

"""Which isolation the kernel allows, found out by trying."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from taskctl.embedded.node import records, removal
from taskctl.embedded.node.mounts import Bind
from taskctl.embedded.node.shimspec import Isolation, ShimSpec

log = logging.getLogger(__name__)

_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What the node can do.

    Attributes:
        isolation: the best kind that works here.
        message: one sentence for people on what is missing, empty when nothing is.
    """

    isolation: Isolation
    message: str = ""


def candidates(*, is_root: bool) -> Iterator[Isolation]:
    """Yield the kinds of isolation worth trying, the best first."""
    for kind in Isolation:
        if is_root or "u" in kind.value or not kind.mounts:
            yield kind


def describe(isolation: Isolation, reason: str) -> str:
    """Say in one sentence what a lesser isolation means, empty for the best."""
    if isolation is Isolation.NONE:
        return (
            f"the kernel allows no mount namespaces ({reason}): containers see the host's files, "
            "volumes are not at their mount paths, arguments and variables that name such a path "
            "are rewritten to the host's"
        )
    if "p" not in isolation.value:
        return f"the kernel allows no PID namespaces ({reason}): containers see all processes"
    if "f" not in isolation.value:
        return f"/proc cannot be mounted again ({reason}): containers see all processes in /proc"
    return ""


async def find_isolation(shim: Path, scratch: Path) -> Finding:
    """Run a program that does nothing under each kind of isolation until one works.

    Args:
        shim: the shim's binary, which is also the program.
        scratch: an existing directory to work in.
    """
    reason = ""
    for kind in candidates(is_root=os.geteuid() == 0):
        failure = await _attempt(kind, shim, scratch)
        if failure is None:
            return Finding(kind, describe(kind, reason))
        log.debug("isolation %s: %s", kind.value, failure)
        reason = reason or failure
    raise OSError(f"the shim {shim} cannot run a program at all: {reason}")


async def _attempt(kind: Isolation, shim: Path, scratch: Path) -> str | None:
    """Return None when it works, else why it does not."""
    directory = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=".probe-", dir=scratch))
    try:
        # Through a bind: the shim may lie below /tmp or in a hidden directory.
        spec = _probe_spec(kind, shim)
        await asyncio.to_thread(records.write_private, directory / records.SPEC_FILE, spec)
        process = await asyncio.create_subprocess_exec(
            str(shim), str(directory), stdin=asyncio.subprocess.DEVNULL, env={}
        )
        try:
            status = await asyncio.wait_for(process.wait(), _TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()
            return f"no answer within {_TIMEOUT_S:g} s"
        record = await asyncio.to_thread(records.read_exit, directory)
        if record is None:
            return f"the shim ended with status {status} and without a record"
        return None if record.code == 0 else record.message or f"exit code {record.code}"
    finally:
        await asyncio.to_thread(removal.remove_tree, directory)


def _probe_spec(kind: Isolation, shim: Path) -> bytes:
    if not kind.mounts:
        return ShimSpec([str(shim), "--noop"], {}, "", kind).encode()
    target = PurePosixPath("/probe/shim")
    mounts = [Bind(shim, target, read_only=True)]
    return ShimSpec([str(target), "--noop"], {}, "", kind, mounts).encode()

"""The kubectl binaries at hand, and how a case runs one."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.conformance.target import WAIT_S, Api

VARIABLE = "TASKCTL_KUBECTLS"


@dataclass(frozen=True)
class Program:
    """A kubectl binary.

    Attributes:
        path: where it is.
        version: what it says, for example ``v1.32.4``.
    """

    path: str
    version: str

    @property
    def minor(self) -> int:
        """The second number of its version."""
        return int(self.version.split(".")[1])


@cache
def programs() -> tuple[Program, ...]:
    """Return the binaries to try: those of TASKCTL_KUBECTLS, else the one on PATH.

    Of several with the same version the first one counts.

    Raises:
        RuntimeError: one that was named is not there or does not work.
    """
    named = [path for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]
    found = named or [path for path in [shutil.which("kubectl")] if path]
    by_version: dict[str, Program] = {}
    for path in found:
        version = _version(path)
        by_version.setdefault(version, Program(path, version))
    return tuple(by_version.values())


def _version(path: str) -> str:
    command = [path, "version", "--client", "--output=json"]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        raise RuntimeError(f"{VARIABLE}: {path} does not say its version: {error}") from error
    version: str = json.loads(done.stdout)["clientVersion"]["gitVersion"]
    return version


@dataclass(frozen=True)
class Output:
    """What a program printed."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Kubectl:
    """Runs one kubectl against the target, in the case's namespace.

    Attributes:
        program: which.
        api: the target.
        home: its home directory, with a discovery cache of its own.
    """

    program: Program
    api: Api
    home: Path

    def needs(self, minor: int, why: str) -> None:
        """Skip the case with a kubectl that is older, on whichever server."""
        if self.program.minor < minor:
            pytest.skip(f"kubectl {self.program.version}: {why} (since 1.{minor})")

    async def __call__(self, *arguments: str, stdin: str | None = None, code: int = 0) -> Output:
        """Run it; it must end with ``code``."""
        process = await asyncio.create_subprocess_exec(
            self.program.path,
            f"--namespace={self.api.namespace}",
            *arguments,
            stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.home),
                "KUBECONFIG": str(self.api.kubeconfig),
            },
        )
        try:
            async with asyncio.timeout(2 * WAIT_S):
                out, err = await process.communicate(stdin.encode() if stdin is not None else None)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        result = Output(process.returncode or 0, out.decode(), err.decode())
        assert result.code == code, f"kubectl {' '.join(arguments)}: {result}"
        return result

"""The target: an embedded server in this process, or what an environment variable names."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conformance.target import (
    GROUP,
    WAIT_S,
    Api,
    configured_kubeconfig,
    embedded_target,
    real_target,
    widget_crd,
)


async def install(api: Api, crd: dict[str, object], path: str) -> None:
    """Create a definition unless it is there, and wait until its kind is served."""
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    reply = await api.create(crds, crd)
    if reply.status != 409:
        reply.ok()
    await api.until(path, lambda body: True)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """A server with the Widget kind, and a namespace of the case's own."""
    kubeconfig = configured_kubeconfig()
    target = real_target(kubeconfig) if kubeconfig else embedded_target(tmp_path)
    async with target as found:
        found.namespace = f"case-{secrets.token_hex(4)}"
        (await found.create("/api/v1/namespaces", {"metadata": {"name": found.namespace}})).ok()
        await install(found, widget_crd(), f"/apis/{GROUP}/v1/widgets")
        await found.until(found.core("serviceaccounts", "default"), lambda body: True)
        yield found
        await found.delete(f"/api/v1/namespaces/{found.namespace}")


@dataclass(frozen=True)
class Output:
    """What a program printed."""

    code: int
    out: str
    err: str


Kubectl = Callable[..., Coroutine[None, None, Output]]


@pytest.fixture
def kubectl(api: Api, tmp_path: Path) -> Kubectl:
    """Run kubectl against the target, in the case's namespace; it must succeed."""
    program = shutil.which("kubectl")
    if program is None:
        if os.environ.get("TASKCTL_REQUIRE_KUBECTL") == "1":
            pytest.fail("TASKCTL_REQUIRE_KUBECTL=1, but there is no kubectl on PATH")
        pytest.skip("there is no kubectl on PATH")

    async def run(*arguments: str, stdin: str | None = None, code: int = 0) -> Output:
        process = await asyncio.create_subprocess_exec(
            program,
            f"--namespace={api.namespace}",
            *arguments,
            stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),  # its own discovery cache
                "KUBECONFIG": str(api.kubeconfig),
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

    return run

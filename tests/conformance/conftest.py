"""The targets: an embedded server behind a socket, the same without one, or a real server.

An environment variable names the real server; it is then the only target.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.programs import Kubectl, Program, programs
from tests.conformance.target import (
    APPLY,
    ETCD_VARIABLE,
    GROUP,
    Api,
    Json,
    compact,
    configured_kubeconfig,
    embedded_target,
    in_process_target,
    real_target,
    widget_crd,
)


class Target(StrEnum):
    """What a case is put to."""

    EMBEDDED = "embedded"
    IN_PROCESS = "in-process"
    REAL = "real"


async def install(api: Api, crd: Json, path: str) -> None:
    """Make a definition what it is to be, and wait until its kind is served."""
    name = crd["metadata"]["name"]
    definition = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
    (await api.patch(definition, crd, APPLY, fieldManager="conformance", force="true")).ok()
    await api.until(path, lambda body: True)


async def leave(api: Api) -> None:
    """Delete the case's namespace, and let go of what a case that failed holds back."""
    await api.delete(f"/api/v1/namespaces/{api.namespace}")
    for path in (api.core("pods"), api.core("configmaps"), api.widgets()):
        reply = await api.get(path)
        for item in reply.json["items"] if reply.status == 200 else ():
            if item["metadata"].get("finalizers"):
                name = item["metadata"]["name"]
                await api.patch(f"{path}/{name}", {"metadata": {"finalizers": None}})


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Put each case to every target that it can be put to."""
    if "api" not in metafunc.fixturenames:
        return
    targets = list(Target)
    alone = metafunc.definition.get_closest_marker("needs_connection")
    if configured_kubeconfig():
        targets = [Target.REAL]
    else:
        targets.remove(Target.REAL)
        if alone or "kubectl" in metafunc.fixturenames:
            targets.remove(Target.IN_PROCESS)
    metafunc.parametrize("api", targets, ids=str, indirect=True)


@pytest.fixture
async def api(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Api]:
    """A server with the Widget kind, and a namespace of the case's own."""
    kubeconfig = configured_kubeconfig()
    if kubeconfig:
        target = real_target(kubeconfig)
    elif request.param is Target.IN_PROCESS:
        target = in_process_target()
    else:
        target = embedded_target(tmp_path)
    async with target as found:
        found.namespace = f"case-{secrets.token_hex(4)}"
        (await found.create("/api/v1/namespaces", {"metadata": {"name": found.namespace}})).ok()
        await install(found, widget_crd(), f"/apis/{GROUP}/v1/widgets")
        await found.until(found.core("serviceaccounts", "default"), lambda body: True)
        yield found
        await leave(found)


@pytest.fixture
async def forgotten(api: Api) -> None:
    """See to it that the server has forgotten its first states.

    A real one does so five minutes after it began; with its etcd at hand it need not be waited
    for. (The embedded server keeps no old states at all.)
    """
    etcd = os.environ.get(ETCD_VARIABLE)
    if etcd:
        await compact(etcd)
        return
    first = await api.get(api.widgets(), resourceVersion="1", resourceVersionMatch="Exact")
    if first.status == 200:
        pytest.skip(f"the server is younger than its history; {ETCD_VARIABLE} would help")


def _parameters() -> list[Any]:
    found: list[Program | None] = list(programs()) or [None]
    return [pytest.param(one, id=one.version if one else "no-kubectl") for one in found]


@pytest.fixture(params=_parameters())
def kubectl(api: Api, tmp_path: Path, request: pytest.FixtureRequest) -> Kubectl:
    """Run kubectl against the target, in the case's namespace; it must succeed."""
    if request.param is None:
        if os.environ.get("TASKCTL_REQUIRE_KUBECTL") == "1":
            pytest.fail("TASKCTL_REQUIRE_KUBECTL=1, but there is no kubectl on PATH")
        pytest.skip("there is no kubectl on PATH")
    return Kubectl(request.param, api, tmp_path)

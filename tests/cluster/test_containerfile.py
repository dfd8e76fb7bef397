"""The image that users build from the Containerfile, in a pod of the strictest standard.

What it stands on may be a stand-in (:mod:`tests.realnode.image_buildah`).
"""

from __future__ import annotations

import json

import pytest

from taskctl import __version__
from taskctl.kube.resources import PODS
from tests.cluster.world import ClusterWorld
from tests.embedded.world import Object, eventually
from tests.realnode.image_taskctl import IMPORT_ALL

pytestmark = pytest.mark.timeout(900)

SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
COMPILERS = ("cc", "gcc", "clang", "tcc", "zig", "c99")
PROBE = f"""
import importlib.metadata, importlib.util, json, os, pathlib, shutil, subprocess
def refused(path):
    try:
        pathlib.Path(path).touch()
    except OSError as error:
        return os.strerror(error.errno)
def run(*words):
    done = subprocess.run(words, capture_output=True, text=True)
    return [done.returncode, done.stdout + done.stderr]
files = importlib.metadata.files("taskctl")
[bill] = [file for file in files if file.name == "taskctl.cdx.json"]
import taskctl
print(json.dumps({{
    "user": os.getuid(),  # the kubelet leaves out the group of an image's user
    "refused": [refused("/x"), refused("/opt/taskctl/x")],
    "controller": run("taskctl", "controller", "--help"),
    "program": run(taskctl.__path__[0] + "/init/bin/taskctl-init", "version"),
    "compilers": [name for name in {COMPILERS!r} if shutil.which(name)],
    "imported": run("python3", "-c", {IMPORT_ALL!r}),
    "ziglang": importlib.util.find_spec("ziglang") is not None,
    "bill": json.loads(bill.read_text()),
    "compiled": pathlib.Path(taskctl.__cached__).exists(),
}}))
"""


async def test_the_image_of_the_containerfile(world: ClusterWorld, shipped: str) -> None:
    containers: list[Object] = [
        {"name": "entrypoint", "args": ["--version"]},
        {"name": "probe", "command": ["python3", "-c", PROBE]},
    ]
    for container in containers:
        container |= {"image": shipped, "imagePullPolicy": "Never", "securityContext": SECURITY}
    spec = {"restartPolicy": "Never", "automountServiceAccountToken": False}
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "shipped"},
        "spec": spec | {"containers": containers},
    }
    await world.kubectl("create", "-f", "-", body=body)

    async def phase() -> str:
        return str((await world.get(PODS, "shipped"))["status"].get("phase"))

    try:
        await eventually(phase, lambda now: now in ("Succeeded", "Failed"), timeout_s=120)
    finally:
        print(await world.kubectl("get", "pod", "shipped", "-o", "json"))
    said = await world.kubectl("logs", "shipped", "-c", "entrypoint")
    assert said == f"taskctl {__version__}\n"
    found = json.loads(await world.kubectl("logs", "shipped", "-c", "probe"))
    assert found["user"] == 65532
    assert found["refused"] == ["Read-only file system"] * 2
    code, text = found["controller"]
    assert (code, "Usage: taskctl controller" in text) == (0, True), text
    code, text = found["program"]
    assert (code, text.split()[:2]) == (0, ["taskctl-init", __version__]), text
    assert found["imported"] == [0, ""], "a package was built for another Python"
    assert found["compilers"] == []
    assert not found["ziglang"]
    assert found["bill"]["metadata"]["component"]["version"] == __version__
    assert found["compiled"], "a read-only root cannot keep what a start compiles"

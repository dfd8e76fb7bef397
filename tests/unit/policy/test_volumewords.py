"""A mount that hangs makes no Event: what the worker waits for is said all the same."""

from __future__ import annotations

from typing import Any

import pytest

from taskctl.policy.volumewords import awaited_volumes

NFS = {"name": "workspace", "nfs": {"server": "10.0.0.9", "path": "/data"}}
CLAIM = {"name": "more", "persistentVolumeClaim": {"claimName": "c"}}


def pod(*volumes: dict[str, Any], mounted: str = "False", node: str = "n") -> dict[str, Any]:
    conditions = [{"type": "PodReadyToStartContainers", "status": mounted}]
    spec = {"nodeName": node, "volumes": [{"name": "own", "emptyDir": {}}, *volumes]}
    return {"spec": spec, "status": {"conditions": conditions}}


def test_each_volume_that_somebody_else_serves_is_named() -> None:
    words = awaited_volumes(pod(NFS, CLAIM, {"name": "x", "csi": {"driver": "d"}}))
    assert "workspace (NFS server 10.0.0.9, path /data)" in words
    assert "more (PersistentVolumeClaim c)" in words
    assert "x (CSI driver d)" in words
    assert "own" not in words.split(":", 1)[0].split("volumes")[1]


@pytest.mark.parametrize(
    "other",
    [pod(NFS, mounted="True"), pod(NFS, node=""), pod(), {"spec": {"nodeName": "n"}}],
    ids=["they are mounted", "it has no node", "none could hang", "none at all"],
)
def test_nothing_is_guessed_where_something_is_known(other: dict[str, Any]) -> None:
    assert awaited_volumes(other) == ""

"""Schemas of the built-in kinds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taskctl.embedded.server.kinds.builtin import BUILTINS
from taskctl.embedded.server.kinds.builtin_schema import schema_for

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "labels": {"a": "b"}, "creationTimestamp": None},
    "spec": {
        "containers": [
            {
                "name": "a",
                "image": "i",
                "ports": [{"containerPort": 80}],
                "resources": {"requests": {"cpu": 1, "memory": "1Gi"}},
                "livenessProbe": {"httpGet": {"port": "web"}},
            }
        ],
        "volumes": [{"name": "v", "hostPath": {"path": "/x"}}],
    },
    "status": {"containerStatuses": [{"name": "a"}]},
}


@pytest.mark.parametrize("maker", ["gen_builtin_schemas.py", "gen_protobuf_tables.py"])
def test_the_data_files_are_up_to_date(maker: str) -> None:
    """Of protobuf where Go's modules are; elsewhere there is nothing to compare with."""
    script = Path(__file__).parents[5] / "scripts" / maker
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "kind", [one for one in BUILTINS if not one.read_only], ids=lambda kind: kind.kind
)
def test_every_built_in_kind_has_a_schema(kind: Any) -> None:
    schema = kind.schema
    obj = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "x"}, "bogus": 1}
    assert schema.prune(obj) == ['unknown field "bogus"']
    schema.apply_defaults(obj)
    assert schema.prune(obj) == []


def test_a_pod_is_pruned_defaulted_and_valid() -> None:
    schema = schema_for("", "v1", "Pod")
    assert schema is not None
    pod = {**POD, "spec": {**POD["spec"], "restartPolcy": "Never"}}
    assert schema.prune(pod) == ['unknown field "spec.restartPolcy"']
    schema.apply_defaults(pod)
    assert schema.settle(pod) is None
    container = pod["spec"]["containers"][0]
    assert pod["spec"]["restartPolicy"] == "Always"
    assert container["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert container["resources"]["requests"] == {"cpu": "1", "memory": "1Gi"}
    assert container["livenessProbe"]["periodSeconds"] == 10
    assert "creationTimestamp" not in pod["metadata"]
    assert schema.validate(pod, None) == []


def test_a_bad_pod_is_refused() -> None:
    schema = schema_for("", "v1", "Pod")
    assert schema is not None
    pod = {"metadata": {}, "spec": {"containers": [{"image": 1}], "restartPolicy": "Sometimes"}}
    assert {error.path for error in schema.validate(pod, None)} == {
        "spec.containers[0].name", "spec.containers[0].image", "spec.restartPolicy"
    }  # fmt: skip


def test_unknown_kinds_have_none() -> None:
    assert schema_for("apps", "v1", "Deployment") is None

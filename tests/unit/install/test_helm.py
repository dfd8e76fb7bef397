"""The Helm chart, rendered by Helm itself: the same as `taskctl install` prints."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest
import yaml

from scripts.gen_helm import CHART, render
from taskctl.install.manifests import build
from taskctl.install.options import InstallOptions, Scope
from tests.realnode.helm import find_helm

# Helm is one process for each test, and may have to wait for a processor.
pytestmark = pytest.mark.timeout(120)

Json = dict[str, Any]
DIGEST = "sha256:" + "0a" * 32
KEEP = "helm.sh/resource-policy"


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    found = find_helm()
    if found is None:
        message = "there is no Helm; build one with: python3 -m tests.realnode.helm"
        if os.environ.get("TASKCTL_REQUIRE_HELM"):
            pytest.fail(message)
        pytest.skip(message)
    command = [found, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def template(*options: str, namespace: str = "taskctl-system") -> list[Json]:
    done = helm(
        *("template", "taskctl", str(CHART), "--namespace", namespace),
        *("--kube-version", "1.34.0", *options),
    )
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one is not None]


def by_key(objects: list[Json]) -> dict[tuple[str, str], Json]:
    """Return objects by kind and name, without what only one of the two ways has."""
    found = {(one["kind"], one["metadata"]["name"]): one for one in objects}
    assert len(found) == len(objects)
    return {key: one for key, one in found.items() if key[0] != "Namespace"}


def without_policy(objects: list[Json]) -> list[Json]:
    """Return the objects without Helm's policy, which each CRD must have."""
    for one in objects:
        if one["kind"] == "CustomResourceDefinition":
            assert one["metadata"]["annotations"].pop(KEEP) == "keep"
            if not one["metadata"]["annotations"]:
                del one["metadata"]["annotations"]
    return objects


def pod_spec(objects: list[Json]) -> Json:
    found: Json = by_key(objects)["Deployment", "taskctl-controller"]["spec"]["template"]["spec"]
    return found


def test_chart_is_up_to_date() -> None:
    there = {str(path.relative_to(CHART)) for path in CHART.rglob("*") if path.is_file()}
    assert there == set(render())
    for name, text in render().items():
        assert (CHART / name).read_text() == text, f"run scripts/gen_helm.py: {name}"


def test_helm_finds_nothing_to_say() -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], InstallOptions()),
        (["--set=monitoring=true"], InstallOptions(monitoring=True)),
        (["--set=crds=false"], InstallOptions(crds=False)),
        (
            ["--set=page.enabled=true,page.origins={https://tasks.example}"],
            InstallOptions(page=True, page_origins=("https://tasks.example",)),
        ),
        (
            ["--set=scope=namespace,page.enabled=true"],
            InstallOptions(scope=Scope.NAMESPACE, namespace="team", page=True),
        ),
        (
            [
                "--set=history.enabled=true,history.storage=20Gi,history.storageClass=fast",
                "--set=history.megabytes=9000,history.age=48h,page.enabled=true",
            ],
            InstallOptions(
                history=True,
                history_storage="20Gi",
                history_storage_class="fast",
                history_mb=9000,
                history_age="48h",
                page=True,
            ),
        ),
        (
            ["--set=scope=namespace,history.enabled=true"],
            InstallOptions(scope=Scope.NAMESPACE, namespace="team", history=True),
        ),
        (
            ["--set=scope=namespace"],
            InstallOptions(scope=Scope.NAMESPACE, namespace="team"),
        ),
        (
            ["--set=scope=namespace,crds=false,monitoring=true"],
            InstallOptions(scope=Scope.NAMESPACE, namespace="team", crds=False, monitoring=True),
        ),
        (
            ["--set=image.repository=reg:5000/a/taskctl,image.tag=0.2.0,replicas=3"],
            InstallOptions(image="reg:5000/a/taskctl:0.2.0", replicas=3),
        ),
        (
            [f"--set=image.digest={DIGEST}"],
            InstallOptions(image=f"taskctl@{DIGEST}"),
        ),
        (
            [
                '--set-json=notify.allowedHosts=["hooks.example.com","http://*.team.svc:*","[::1]:8443"]'
            ],
            InstallOptions(notify_allow=("hooks.example.com", "http://*.team.svc:*", "[::1]:8443")),
        ),
        # A name that YAML takes for a number where it is not quoted.
        ([], InstallOptions(namespace="123")),
    ],
    ids=[
        "default",
        "monitoring",
        "no-crds",
        "page",
        "page-of-one",
        "history",
        "history-of-one",
        "namespace",
        "tenant",
        "image",
        "digest",
        "hosts",
        "number",
    ],
)
def test_chart_renders_what_install_prints(arguments: list[str], options: InstallOptions) -> None:
    rendered = template(*arguments, namespace=options.namespace)
    assert by_key(without_policy(rendered)) == by_key(build(options))


def test_fields_of_the_pod_reach_it() -> None:
    spec = pod_spec(
        template(
            "--set=resources.requests.memory=1Gi,resources.limits.cpu=2",
            "--set=imagePullSecrets[0].name=registry,image.pullPolicy=Always",
            "--set=nodeSelector.pool=system,priorityClassName=high",
            "--set=tolerations[0].key=spot,tolerations[0].operator=Exists",
            '--set-json=affinity.podAffinity={"preferredDuringSchedulingIgnoredDuringExecution":[]}',
        )
    )
    (container,) = spec["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "100m", "memory": "1Gi"},
        "limits": {"cpu": 2},
    }
    assert container["imagePullPolicy"] == "Always"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["nodeSelector"] == {"pool": "system"}
    assert spec["priorityClassName"] == "high"
    assert spec["tolerations"] == [{"key": "spot", "operator": "Exists"}]
    assert "podAffinity" in spec["affinity"]


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ("scope=all", "scope"),
        ("replicas=0", "replicas"),
        ("image.tag=a b", "tag"),
        ("image.digest=sha256:1", "digest"),
        ("monitoring=yes", "monitoring"),
        ("replica=3", "replica"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("resources.request.cpu=1", "request"),
    ],
)
def test_wrong_values_are_refused_by_name(value: str, field: str) -> None:
    done = helm("template", str(CHART), "--kube-version", "1.34.0", "--set", value)
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr
    assert field in done.stderr

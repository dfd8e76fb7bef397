"""What is installed, looked at as an administrator would."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.gen_config import ADDITIONS, FOLDERS, render
from taskctl.constants import DEFAULT_IMAGE, LABEL_MANAGED_BY
from taskctl.controllers.main import ControllerSettings
from taskctl.errors import ConfigError
from taskctl.install.manifests import build
from taskctl.install.options import InstallOptions, Scope
from taskctl.kube.lease import LeaseSettings
from taskctl.kube.manager import ManagerOptions
from taskctl.policy.runclusterrule import RunClusters
from taskctl.policy.workeraccess import WorkerAccess
from taskctl.ui.guard import Guard
from tests.unit.cli.conftest import Run, app, run

Json = dict[str, Any]
# libyaml reads the CRDs ten times as fast.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
ROOT = Path(__file__).resolve().parents[3]
CLUSTER, NAMESPACE = InstallOptions(), InstallOptions(namespace="team", scope=Scope.NAMESPACE)
BOTH = pytest.mark.parametrize("options", [CLUSTER, NAMESPACE], ids=["cluster", "namespace"])
__all__ = ["app", "run"]  # fixtures


def by_kind(objects: list[Json], kind: str) -> dict[str, Json]:
    return {one["metadata"]["name"]: one for one in objects if one["kind"] == kind}


def key(obj: Json) -> tuple[str, str]:
    return obj["kind"], obj["metadata"]["name"]


def pod_of(options: InstallOptions) -> Json:
    (deployment,) = by_kind(build(options), "Deployment").values()
    template: Json = deployment["spec"]["template"]
    return template


def container_of(options: InstallOptions) -> Json:
    (container,) = pod_of(options)["spec"]["containers"]
    found: Json = container
    return found


def rules_of(objects: list[Json]) -> Iterator[tuple[str, Json]]:
    for obj in objects:
        for rule in obj.get("rules") or ():
            yield obj["metadata"]["name"], rule


# --- the ways to get them --------------------------------------------------------------


@pytest.mark.slow
def test_config_is_up_to_date() -> None:
    folder = ROOT / "config"
    files = [
        path
        for name in (*FOLDERS, *ADDITIONS)
        for path in (folder / name).rglob("*")
        if path.is_file()
    ]
    there = {str(path.relative_to(folder)) for path in files}
    assert there == set(render())
    for name, text in render().items():
        assert (folder / name).read_text() == text, f"run scripts/gen_config.py: {name}"


@pytest.mark.slow
@pytest.mark.kubectl
@pytest.mark.parametrize("folder", FOLDERS)
def test_kustomize_builds_what_install_prints(run: Run, folder: str) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("there is no kubectl on PATH")
    command = [kubectl, "kustomize", str(ROOT / "config" / folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    built = list(yaml.load_all(done.stdout, LOADER))
    printed = list(yaml.load_all(run("install", "--scope", FOLDERS[folder]).stdout, LOADER))
    # kustomize has an order of its own.
    assert sorted(built, key=key) == sorted(printed, key=key)


@pytest.mark.slow
def test_yaml_json_and_names_agree(run: Run) -> None:
    args = ("install", "--image", "reg/taskctl:9", "--replicas", "3", "-n", "batch")
    wanted = build(InstallOptions(namespace="batch", image="reg/taskctl:9", replicas=3))
    assert list(yaml.load_all(run(*args).stdout, LOADER)) == wanted
    listed = json.loads(run(*args, "-o", "json").stdout)
    assert (listed["kind"], listed["items"]) == ("List", wanted)
    names = run(*args, "-o", "name").stdout.splitlines()
    assert "deployment.apps/taskctl-controller" in names
    assert len(names) == len(wanted)


@pytest.mark.slow
def test_hosts_of_notifications_reach_the_controller(run: Run) -> None:
    printed = yaml.safe_load_all(
        run("install", "--notify-allow", "a.example.com", "--notify-allow", "http://b:1").stdout
    )
    (deployment,) = (one for one in printed if one["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    wanted = ["--notify-allow=a.example.com", "--notify-allow=http://b:1"]
    assert [one for one in container["args"] if "notify" in one] == wanted


def test_wrong_choices_are_said(run: Run) -> None:
    assert "Not_A_Name" in run("install", "-n", "Not_A_Name").stderr
    assert run("install", "--image", "").exit_code == 2
    assert run("install", "--replicas", "0").exit_code == 2
    assert "'a/b' names no host" in run("install", "--notify-allow", "a/b").stderr
    with pytest.raises(ConfigError):
        InstallOptions(replicas=0)


def test_skip_crds() -> None:
    cluster = build(InstallOptions(crds=False))
    assert "CustomResourceDefinition" not in {one["kind"] for one in cluster}
    assert len(cluster) == len(build(CLUSTER)) - 3
    tenant = build(InstallOptions(namespace="team", scope=Scope.NAMESPACE, crds=False))
    assert {one["metadata"]["namespace"] for one in tenant} == {"team"}


@BOTH
def test_order_lets_each_be_applied_after_what_it_needs(options: InstallOptions) -> None:
    objects = build(options)
    kinds = [one["kind"] for one in objects]
    assert kinds[:3] == ["CustomResourceDefinition"] * 3
    names = [key(one) for one in objects]
    assert len(set(names)) == len(names)
    for obj in objects:
        if "roleRef" in obj:
            role = (obj["roleRef"]["kind"], obj["roleRef"]["name"])
            assert names.index(role) < names.index(key(obj))
            for subject in obj["subjects"]:
                assert ("ServiceAccount", subject["name"]) in names


def test_namespaces() -> None:
    (system,) = by_kind(build(CLUSTER), "Namespace").values()
    assert system["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert by_kind(build(NAMESPACE), "Namespace") == {}, "somebody's own has labels of its own"


# --- the controller --------------------------------------------------------------------


@pytest.mark.slow
@BOTH
def test_pod_is_restricted(options: InstallOptions) -> None:
    """The rules of the restricted Pod Security Standard that a pod without volumes can break."""
    spec, container = pod_of(options)["spec"], container_of(options)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 65532
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "volumes"} & set(spec)
    assert "limits" not in container["resources"]


@pytest.mark.slow
@BOTH
def test_token_is_asked_for_by_the_pod_alone(options: InstallOptions) -> None:
    accounts = by_kind(build(options), "ServiceAccount")
    assert not any(one["automountServiceAccountToken"] for one in accounts.values())
    spec = pod_of(options)["spec"]
    assert spec["automountServiceAccountToken"] is True
    assert spec["serviceAccountName"] in accounts


@pytest.mark.slow
@BOTH
def test_labels_find_the_controller_and_nobody_takes_it_for_a_worker(
    options: InstallOptions,
) -> None:
    objects, labels = build(options), pod_of(options)["metadata"]["labels"]
    assert LABEL_MANAGED_BY not in labels
    selectors = [by_kind(objects, kind)["taskctl-controller"]["spec"]["selector"] for kind in
                 ("Deployment", "PodDisruptionBudget")]  # fmt: skip
    for selector in selectors:
        assert selector["matchLabels"].items() <= labels.items()
    service = by_kind(objects, "Service")["taskctl-controller"]["spec"]
    assert service["selector"].items() <= labels.items()
    ports = {port["name"]: port["containerPort"] for port in container_of(options)["ports"]}
    assert ports[service["ports"][0]["targetPort"]] == service["ports"][0]["port"]


def test_time_to_stop() -> None:
    """Reconciles under way, then the last Events, then the Lease."""
    longest_s = 2 * ManagerOptions().stop_grace_s + LeaseSettings("ns", "n", "i").retry_s
    assert ControllerSettings().stop_grace_s == ManagerOptions().stop_grace_s
    assert pod_of(CLUSTER)["spec"]["terminationGracePeriodSeconds"] > longest_s


def test_a_drain_is_never_held_up() -> None:
    (budget,) = by_kind(build(InstallOptions(replicas=1)), "PodDisruptionBudget").values()
    assert budget["spec"]["maxUnavailable"] == 1
    assert "minAvailable" not in budget["spec"], "with one replica nothing could ever be moved"


@BOTH
def test_probes(options: InstallOptions) -> None:
    container = container_of(options)
    live, ready = container["livenessProbe"], container["readinessProbe"]
    assert live["httpGet"]["path"] == "/healthz"
    assert live["periodSeconds"] * live["failureThreshold"] >= 60
    assert ready["httpGet"]["path"] == "/readyz"
    named = {port["name"] for port in container["ports"]}
    assert {live["httpGet"]["port"], ready["httpGet"]["port"]} <= named


@BOTH
def test_the_command_is_understood(
    run: Run, monkeypatch: pytest.MonkeyPatch, options: InstallOptions
) -> None:
    seen: list[ControllerSettings] = []

    async def note(settings: ControllerSettings) -> None:
        seen.append(settings)

    monkeypatch.setattr("taskctl.cli.components.set_up_logging", lambda *_: None)
    monkeypatch.setattr("taskctl.controllers.main.run_controller", note)
    container = container_of(options)
    assert container["command"][0] == "taskctl"
    values = {"$(POD_IP)": "10.0.0.9", "$(POD_NAMESPACE)": options.namespace}
    assert {f"$({item['name']})" for item in container["env"]} == set(values)
    arguments = [*container["command"][1:], *container["args"]]
    for reference, value in values.items():
        arguments = [text.replace(reference, value) for text in arguments]
    assert run(*arguments).exit_code == 0
    (settings,) = seen
    assert (settings.health_host, settings.health_port) == ("10.0.0.9", 8080)
    assert settings.lease_namespace == options.namespace
    assert settings.worker_settings.image == container["image"] == DEFAULT_IMAGE
    one = options.scope is Scope.NAMESPACE
    assert settings.namespace == (options.namespace if one else None)
    assert settings.access is (WorkerAccess.NONE if one else WorkerAccess.MANAGE)


# --- rights ----------------------------------------------------------------------------


@BOTH
def test_no_right_is_a_wildcard_or_touches_secrets(options: InstallOptions) -> None:
    for role, rule in rules_of(build(options)):
        assert "*" not in rule["apiGroups"] + rule["resources"] + rule["verbs"], role
        assert "secrets" not in rule["resources"], role
        assert "escalate" not in rule["verbs"], role
        assert "impersonate" not in rule["verbs"], role


@pytest.mark.parametrize("scope", Scope)
def test_who_sends_notifications_reads_secrets_of_one_name(scope: Scope) -> None:
    options = InstallOptions(scope=scope, notify_allow=("hooks.example.com",))
    found = [
        (role, rule["verbs"], rule["resourceNames"])
        for role, rule in rules_of(build(options))
        if "secrets" in rule["resources"]
    ]
    assert found == [("taskctl-notify", ["get"], ["taskctl-notify"])]


def test_only_the_role_of_workers_can_be_bound() -> None:
    objects = build(CLUSTER)
    binds = [(role, rule) for role, rule in rules_of(objects) if "bind" in rule["verbs"]]
    (role, rule), *rest = binds
    assert (role, rule["resourceNames"], rest) == ("taskctl-controller", ["taskctl-worker"], [])
    assert "taskctl-worker" in by_kind(objects, "ClusterRole")


def test_one_namespace_needs_no_cluster_wide_right() -> None:
    objects = build(NAMESPACE)
    assert by_kind(objects, "ClusterRoleBinding") == {}
    assert set(by_kind(objects, "ClusterRole")) == {"taskctl-view", "taskctl-edit"}
    assert set(by_kind(objects, "Role")) == {"taskctl-controller", "taskctl-worker"}
    for role in by_kind(objects, "Role").values():
        resources = {name for rule in role["rules"] for name in rule["resources"]}
        assert not resources & {"serviceaccounts", "rolebindings", "clusterroles"}


def test_people_get_theirs_through_the_roles_that_kubernetes_has() -> None:
    roles = by_kind(build(CLUSTER), "ClusterRole")
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    assert roles["taskctl-view"]["metadata"]["labels"][f"{prefix}view"] == "true"
    assert roles["taskctl-edit"]["metadata"]["labels"][f"{prefix}edit"] == "true"
    assert {verb for rule in roles["taskctl-view"]["rules"] for verb in rule["verbs"]} == {
        "get",
        "list",
        "watch",
    }


@pytest.mark.slow
def test_who_has_taskclusters_made_for_runs_must_be_allowed_to_make_them() -> None:
    """By an admission policy where all namespaces are served; else only plain ones are made."""
    kinds = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    policy, binding = (by_kind(build(CLUSTER), kind)["taskctl-run-clusters"] for kind in kinds)
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
    assert binding["spec"]["validationActions"] == ["Deny"]
    assert policy["spec"]["failurePolicy"] == "Fail"
    (rule,) = policy["spec"]["matchConstraints"]["resourceRules"]
    assert rule["operations"] == ["CREATE", "UPDATE"]
    assert "--run-clusters=any" in container_of(CLUSTER)["args"]
    assert not [one for kind in kinds for one in by_kind(build(NAMESPACE), kind)]
    assert "--run-clusters=plain" in container_of(NAMESPACE)["args"]
    none = InstallOptions(run_clusters=RunClusters.NONE)
    assert "--run-clusters=none" in container_of(none)["args"]


# --- the page ----------------------------------------------------------------------------------


def page_options(scope: Scope) -> InstallOptions:
    return InstallOptions(
        namespace="team", scope=scope, page=True, page_origins=("https://tasks.example",)
    )


@pytest.mark.slow
@pytest.mark.parametrize("scope", list(Scope))
def test_the_page_is_off_until_it_is_asked_for(scope: Scope) -> None:
    plain = build(InstallOptions(namespace="team", scope=scope))
    more = build(page_options(scope))
    assert [one for one in more if one in plain] == plain
    added = [one for one in more if one not in plain]
    everywhere = scope is Scope.CLUSTER
    assert {one["metadata"]["name"] for one in added} == {"taskctl-page"}
    assert {one["kind"] for one in added} == {
        "ServiceAccount",
        "ClusterRole" if everywhere else "Role",
        "ClusterRoleBinding" if everywhere else "RoleBinding",
        "Deployment",
        "Service",
    }


@pytest.mark.parametrize("scope", list(Scope))
def test_the_page_only_reads(scope: Scope) -> None:
    objects = build(page_options(scope))
    kind = "ClusterRole" if scope is Scope.CLUSTER else "Role"
    role = by_kind(objects, kind)["taskctl-page"]
    verbs = {verb for rule in role["rules"] for verb in rule["verbs"]}
    assert verbs <= {"get", "list", "watch"}
    resources = {name for rule in role["rules"] for name in rule["resources"]}
    assert resources == {"tasks", "taskclusters", "pods/log"}
    binding = by_kind(objects, f"{kind}Binding")["taskctl-page"]
    assert [one["name"] for one in binding["subjects"]] == ["taskctl-page"]


@pytest.mark.parametrize("scope", list(Scope))
def test_the_page_starts_as_its_pod_says(
    scope: Scope, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[Any] = []

    async def serve(
        access: Any, listeners: Any, guard: Any, *, everywhere: bool, ready: Any
    ) -> None:
        seen.append((access, [one.getsockname() for one in listeners], guard, everywhere))

    monkeypatch.setattr("taskctl.cli.page.serve", serve)
    objects = build(page_options(scope))
    spec = by_kind(objects, "Deployment")["taskctl-page"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    (mount,), (volume,) = container["volumeMounts"], spec["volumes"]
    assert volume["secret"]["secretName"] == "taskctl-page"
    (tmp_path / volume["secret"]["items"][0]["path"]).write_text("0" * 64)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    values = {"$(POD_IP)": "127.0.0.2", "$(POD_NAMESPACE)": "team", "--port=8080": f"--port={port}"}
    arguments = [*container["command"][1:], *container["args"]]
    for reference, value in {**values, mount["mountPath"]: str(tmp_path)}.items():
        arguments = [text.replace(reference, value) for text in arguments]
    assert run(*arguments).exit_code == 0
    ((access, names, guard, everywhere),) = seen
    assert [name[0] for name in names] == ["127.0.0.2", "127.0.0.1"]
    assert everywhere is (scope is Scope.CLUSTER)
    assert access.namespace == (None if everywhere else "team")
    assert guard.origins == ("https://tasks.example",)
    assert not guard.write
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        (header,) = container[probe]["httpGet"]["httpHeaders"]
        assert Guard("t", 8080).host_allowed(header["value"])
    service = by_kind(objects, "Service")["taskctl-page"]["spec"]
    labels = by_kind(objects, "Deployment")["taskctl-page"]["spec"]["template"]["metadata"][
        "labels"
    ]
    assert service["selector"].items() <= labels.items()
    assert LABEL_MANAGED_BY not in labels


def test_a_wrong_origin_of_the_page_is_said(run: Run) -> None:
    done = run("install", "--page-origin", "tasks.example")
    assert done.exit_code == 2
    assert "https://tasks.example" in done.stderr

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskctl.kube.interface import EventType, WatchEvent
from taskctl.testing.builders import task, taskcluster, taskobject
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake import FakeClient

MANIFEST = """
apiVersion: taskctl.dev/v1alpha1
kind: Task
metadata: {name: task-0}
spec: {clusterName: c, image: "counter:latest", command: [/app/counter], inputObject: input}
---
apiVersion: taskctl.dev/v1alpha1
kind: TaskObject
metadata: {name: input}
data: {count: "0", limit: "50"}
"""


def succeeded(name: str) -> dict[str, Any]:
    conditions = [
        {"type": kind, "status": "True", "reason": "Completed", "lastTransitionTime": "x"}
        for kind in ("Complete", "Succeeded")
    ]
    built = task(name).status(state="Succeeded", conditions=conditions).build()
    built["metadata"]["resourceVersion"] = "101"
    return built


def test_all_options_reach_the_spec(run: Run, client: FakeClient) -> None:
    result = run(
        "submit", "--name", "t", "--cluster", "c", "--image", "busybox", "--data", "a=1",
        "--data", "b=x=y", "-e", "A=1", "--workdir", "/w", "--timeout", "5", "--retries", "2",
        "--priority", "7", "--slots", "2", "--cpu", "500m", "--memory", "1Gi",
        "--after", "x", "--after", "y", "--when", "Always",
        "--group", "g", "--suspend", "--notify", "https://a/", "--notify", "http://b:80/x",
        "--", "sh", "-c", "exit 3",
    )  # fmt: skip
    assert (result.exit_code, result.stdout) == (0, "t\n")
    assert client.objects["Task", "t"]["spec"] == {
        "clusterName": "c",
        "image": "busybox",
        "command": ["sh", "-c", "exit 3"],
        "env": [{"name": "A", "value": "1"}],
        "workingDir": "/w",
        "timeoutSeconds": 5,
        "retry": {"limit": 2},
        "priority": 7,
        "slots": 2,
        "notify": [{"url": "https://a/"}, {"url": "http://b:80/x"}],
        "resources": {
            "requests": {"cpu": "500m", "memory": "1Gi"},
            "limits": {"memory": "1Gi"},
        },
        "runAfter": {"tasks": ["x", "y"]},
        "when": "Always",
        "group": "g",
        "suspend": True,
        "input": {"a": "1", "b": "x=y"},
    }


@pytest.mark.parametrize(
    ("text", "value"), [("3", 3), ("null", None), ("0", 0), ('{"a": []}', {"a": []})]
)
def test_input_may_be_any_json(run: Run, client: FakeClient, text: str, value: Any) -> None:
    result = run("submit", "--name", "t", "--cluster", "c", "--image", "i", "--input", text, "true")
    assert result.exit_code == 0, result.stderr
    assert client.objects["Task", "t"]["spec"]["input"] == value


def test_input_from_a_file_and_from_stdin(run: Run, client: FakeClient, tmp_path: Path) -> None:
    path = tmp_path / "in.json"
    path.write_text("[1]")
    base = ("submit", "--cluster", "c", "--image", "i")
    assert run(*base, "--name", "a", "--input", f"@{path}", "true").exit_code == 0
    assert run(*base, "--name", "b", "--input", "-", "true", stdin="[2]").exit_code == 0
    assert client.objects["Task", "a"]["spec"]["input"] == [1]
    assert client.objects["Task", "b"]["spec"]["input"] == [2]


def test_name_is_made_from_the_command(run: Run, client: FakeClient) -> None:
    client.put(taskcluster("only").build())
    result = run("submit", "--image", "i", "--", "/usr/bin/My_Tool.py")
    name = result.stdout.strip()
    assert name.startswith("my-tool-py-")
    assert client.objects["Task", name]["spec"]["clusterName"] == "only"


@pytest.mark.parametrize(
    ("args", "words", "code"),
    [
        (("--image", "i"), "name the command after `--`", 2),
        (("--cluster", "c", "--", "x"), "--image is missing", 2),
        (("--image", "i", "--cluster", "c", "--data", "a", "x"), "KEY=VALUE", 2),
        (("--image", "i", "--cluster", "c", "--data", "a=1", "--data", "a=2", "x"), "twice", 2),
        (("--image", "i", "--cluster", "c", "--input", "{", "x"), "--input is not JSON", 2),
        (
            ("--image", "i", "--cluster", "c", "--input", "1", "--data", "a=1", "x"),
            "exclude each other",
            2,
        ),
        (("--image", "i", "--cluster", "c", "--when", "Always", "x"), "--when needs --after", 2),
        (("--image", "i", "x"), "there is no TaskCluster", 3),
        (("-f", "x", "--image", "i"), "put it into the manifest", 1),
        (("--image", "i", "--cluster", "c", "--timeout", "0", "x"), "--timeout '0'", 2),
        (("--image", "i", "--cluster", "c", "-e", "TASKCTL_X=1", "x"), "taskctl's own", 1),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    run: Run, client: FakeClient, tmp_path: Path, args: tuple[str, ...], words: str, code: int
) -> None:
    if args[:2] == ("-f", "x"):
        path = tmp_path / "x"
        path.write_text(MANIFEST)
        args, code = ("-f", str(path), *args[2:]), 2
    result = run("submit", *args)
    assert words in result.stderr
    assert result.stderr.startswith("taskctl: ")
    assert result.stderr.count("\n") == 1
    assert result.exit_code == code
    assert not client.kind("Task")


def test_two_clusters_must_be_told_apart(run: Run, client: FakeClient) -> None:
    client.put(taskcluster("a").build(), taskcluster("b").build())
    result = run("submit", "--image", "i", "x")
    assert result.exit_code == 2
    assert "--cluster: a, b" in result.stderr


def test_where_no_cluster_is_named_it_is_default(run: Run, client: FakeClient) -> None:
    client.put(taskcluster("a").build(), taskcluster("default").build())
    name = run("submit", "--image", "i", "x").stdout.strip()
    assert client.objects["Task", name]["spec"]["clusterName"] == "default"


def test_without_any_cluster_the_error_has_a_command_that_makes_one(
    run: Run, client: FakeClient
) -> None:
    result = run("submit", "--image", "i", "x")
    assert result.exit_code == 3
    manifest = result.stderr.partition("echo '")[2].partition("' |")[0]
    assert run("submit", "-f", "-", stdin=manifest).exit_code == 0
    assert run("submit", "--image", "i", "x").exit_code == 0


def test_manifests_from_stdin(run: Run, client: FakeClient) -> None:
    result = run("submit", "-f", "-", stdin=MANIFEST)
    assert result.stdout == (
        "task.taskctl.dev/task-0 created\ntaskobject.taskctl.dev/input created\n"
    )
    assert client.objects["TaskObject", "input"]["metadata"]["namespace"] == "default"


def test_a_task_that_exists_is_refused_and_a_cluster_is_updated(
    run: Run, client: FakeClient, tmp_path: Path
) -> None:
    client.put(task("task-0").build(), taskcluster("c").build())
    path = tmp_path / "c.yaml"
    path.write_text(
        "apiVersion: taskctl.dev/v1alpha1\nkind: TaskCluster\n"
        "metadata: {name: c}\nspec: {replicas: 3}\n"
    )
    refused = run("submit", "-f", "-", stdin=MANIFEST)
    assert refused.exit_code == 1
    assert "kubectl delete task.taskctl.dev/task-0" in refused.stderr
    updated = run("submit", "-f", str(path))
    assert updated.stdout == "taskcluster.taskctl.dev/c configured\n"
    assert client.objects["TaskCluster", "c"]["spec"]["replicas"] == 3


def test_a_taskobject_that_exists_with_the_same_content_is_fine(
    run: Run, client: FakeClient
) -> None:
    client.put(taskobject("input").data(count="0", limit="50").build())
    result = run("submit", "-f", "-", stdin=MANIFEST)
    assert "taskobject.taskctl.dev/input unchanged" in result.stdout
    client.put(taskobject("input").data(count="1", limit="50").build())
    again = run("submit", "-f", "-", stdin=MANIFEST.replace("task-0", "task-x"))
    assert again.exit_code == 1
    assert "kubectl delete taskobject.taskctl.dev/input" in again.stderr


def test_other_kinds_are_found_by_discovery(run: Run, client: FakeClient) -> None:
    client.responses["/api/v1"] = {
        "resources": [
            {"name": "serviceaccounts", "kind": "ServiceAccount", "namespaced": True},
            {"name": "serviceaccounts/token", "kind": "TokenRequest", "namespaced": True},
        ]
    }
    account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: sa}\n"
    assert run("submit", "-f", "-", stdin=account).stdout == "serviceaccount/sa created\n"
    unknown = run("submit", "-f", "-", stdin=account.replace("ServiceAccount", "Thing"))
    assert (unknown.exit_code, "no kind Thing in v1" in unknown.stderr) == (3, True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: b", "not a Kubernetes object"),
        ("- 1", "not a Kubernetes object"),
        ("", "no objects in there"),
        ("a: [", "while parsing"),
        ("apiVersion: v1\nkind: X\nmetadata: {}\n", "without metadata.name"),
        (MANIFEST.replace("taskctl.dev/", "taskcontroller.k8s.io/"), "change it to taskctl.dev"),
        (MANIFEST.replace("command: [/app/counter], ", "command: [], "), "ENTRYPOINT"),
        (
            MANIFEST.replace("inputObject", "inputobject"),
            "spec.inputobject: unknown field; did you mean inputObject?",
        ),
        (
            MANIFEST.replace("inputObject: input", "timeout_seconds: 1"),
            "spec.timeout_seconds: unknown field; did you mean timeoutSeconds?",
        ),
        (
            MANIFEST.replace("inputObject: input", "retry: {limit: 1, backoff_seconds: 60}"),
            "spec.retry.backoff_seconds: unknown field; did you mean backoffSeconds?",
        ),
        (
            MANIFEST.replace("inputObject: input", "env: [{name: A, valueFrom: {fieldref: {}}}]"),
            "spec.env[0].valueFrom.fieldref: unknown field; did you mean fieldRef?",
        ),
        (
            MANIFEST.replace("inputObject: input", "env: [{name: TASKCTL_UID, value: x}]"),
            "spec.env[0]: names that begin with TASKCTL_ are taskctl's own; choose another",
        ),
        (
            MANIFEST.replace("inputObject: input", "nothing_like_it_at_all: 1"),
            "spec.nothing_like_it_at_all: unknown field; see `kubectl explain`",
        ),
        (MANIFEST.replace("{name: task-0}", "{name: a, label: {b: c}}"), "did you mean labels?"),
        (MANIFEST.replace("kind: Task\n", "kind: Task\nSpec: {}\n"), "Spec: unknown field"),
        (MANIFEST.replace("inputObject: input", "input: .nan"), "spec.input: JSON has no number"),
        (MANIFEST.replace("inputObject: input", "when: Always, when: Always"), "given twice"),
    ],
)
def test_bad_manifests(run: Run, client: FakeClient, text: str, words: str) -> None:
    result = run("submit", "-f", "-", stdin=text)
    assert result.exit_code == 1
    assert words in result.stderr
    assert not client.objects


def test_namespaces_must_agree(run: Run, client: FakeClient) -> None:
    text = MANIFEST.replace("{name: task-0}", "{name: task-0, namespace: a}")
    assert run("-n", "b", "submit", "-f", "-", stdin=text).exit_code == 2
    assert run("submit", "-n", "a", "-f", "-", stdin=text).exit_code == 0
    assert client.objects["Task", "task-0"]["metadata"]["namespace"] == "a"


def test_dry_run_creates_nothing_and_shows_the_object(run: Run, client: FakeClient) -> None:
    result = run("submit", "--dry-run", "--name", "t", "--cluster", "c", "--image", "i", "x")
    assert not client.objects
    assert yaml.safe_load(result.stdout)["spec"]["command"] == ["x"]


def test_output_formats(run: Run, client: FakeClient) -> None:
    base = ("submit", "--cluster", "c", "--image", "i")
    name = run(*base, "--name", "a", "-o", "name", "x")
    assert name.stdout == "task.taskctl.dev/a\n"
    as_json = run(*base, "--name", "b", "-o", "json", "x")
    assert json.loads(as_json.stdout)["metadata"]["uid"] == "uid-b"


def test_wait_tells_the_outcome(run: Run, client: FakeClient) -> None:
    client.events = [WatchEvent(EventType.MODIFIED, succeeded("t"))]
    result = run("submit", "--wait", "--name", "t", "--cluster", "c", "--image", "i", "x")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "t\n", "t succeeded\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("NaN", "NaN"),
        ('{"a": -Infinity}', "-Infinity"),
        ("1e999", "1e999"),
        ('{"n": [9223372036854775808]}', "9223372036854775808 has more than 64 bits"),
        ('["\\ud800"]', "half of a surrogate pair"),
        ("[" * 100_000, "nested deeper"),
        ("[" * 900 + "]" * 900, "nested deeper"),
        ("9" * 5000, "out of range"),
        ("plain", "text needs quotes"),
        ("{'a': 1}", "is not JSON"),
    ],
)
def test_inputs_that_are_no_json(run: Run, client: FakeClient, text: str, words: str) -> None:
    result = run("submit", "--cluster", "c", "--image", "i", "--input", text, "x")
    assert (result.exit_code, words in result.stderr) == (2, True)
    assert not client.objects


@pytest.mark.parametrize("text", ["9223372036854775807", "-9223372036854775808", "1e308", "-0.0"])
def test_numbers_at_the_limit(run: Run, client: FakeClient, text: str) -> None:
    run("submit", "--name", "t", "--cluster", "c", "--image", "i", "--input", text, "x")
    assert repr(client.objects["Task", "t"]["spec"]["input"]) == repr(json.loads(text))


def test_a_key_that_comes_twice_in_an_input_is_pointed_out(run: Run, client: FakeClient) -> None:
    base = ("submit", "--name", "t", "--cluster", "c", "--image", "i", "--input")
    result = run(*base, '{"a": 1, "a": 2}', "x")
    assert client.objects["Task", "t"]["spec"]["input"] == {"a": 2}
    assert "names the key 'a' twice" in result.stderr


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--timeout", "nan"),
        ("--timeout", "-1"),
        ("--timeout", "1.5"),
        ("--timeout", "1e9"),
        ("--timeout", "99999999999"),
        ("--retries", "-1"),
        ("--retries", "1001"),
        ("--retries", "x"),
        ("--retries", "1.5"),
        ("--priority", "2147483648"),
        ("--slots", "0"),
        ("--after", "pod/x"),
        ("--name", ""),
        ("--cluster", "task/c"),
    ],
)
def test_values_of_options(run: Run, client: FakeClient, option: str, value: str) -> None:
    cluster = () if option == "--cluster" else ("--cluster", "c")
    result = run("submit", *cluster, "--image", "i", option, value, "x")
    assert result.exit_code == 2
    assert option in result.stderr
    assert not client.kind("Task")


def test_durations_and_names_with_their_kind(run: Run, client: FakeClient) -> None:
    run(
        "submit", "--name", "t", "--cluster", "tc/c", "--image", "i", "--timeout", "1m30s",
        "--after", "task.taskctl.dev/x", "x",
    )  # fmt: skip
    spec = client.objects["Task", "t"]["spec"]
    assert (spec["timeoutSeconds"], spec["clusterName"]) == (90, "c")
    assert spec["runAfter"] == {"tasks": ["x"]}


def test_yaml_means_what_it_means_to_kubectl(run: Run, client: FakeClient) -> None:
    text = MANIFEST.replace("inputObject: input", "input: {y: 1e3, n: 12:30:00, at: 2024-01-01}")
    run("submit", "-f", "-", stdin=text)
    assert client.objects["Task", "task-0"]["spec"]["input"] == {
        "true": 1000,
        "false": "12:30:00",
        "at": "2024-01-01",
    }


def test_what_get_prints_can_be_created_again(run: Run, client: FakeClient) -> None:
    base = ("submit", "--name", "t", "--cluster", "c", "--image", "i", "--when", "always")
    run(*base, "--after", "x", "--input", '{"y": "1e3", "at": "12:30:00"}', "--", "sh", "no")
    first = client.objects["Task", "t"]
    first["metadata"]["annotations"]["taskctl.dev/created"] = "2020-01-01T00:00:00.000000Z"
    text = run("get", "t", "-o", "yaml").stdout
    client.objects.clear()
    assert run("submit", "-f", "-", stdin=text).exit_code == 0
    again = client.objects["Task", "t"]
    assert again["spec"] == first["spec"]
    assert again["spec"]["when"] == "Always"
    # It is created now, not when the other one was.
    assert not again["metadata"]["annotations"]["taskctl.dev/created"].startswith("2020")


@pytest.mark.parametrize("output", ["table", "wide"])
def test_a_table_of_what_is_submitted_is_its_name(
    run: Run, client: FakeClient, output: str
) -> None:
    base = ("submit", "--cluster", "c", "--image", "i", "--name", "t")
    assert run(*base, "-o", output, "x").stdout == "t\n"


def test_outcomes_are_named_in_any_case(run: Run, client: FakeClient) -> None:
    result = run("submit", "--cluster", "c", "--image", "i", "--after", "a", "--when", "no", "x")
    assert result.exit_code == 2
    assert "--when: there is no outcome 'no'; choose one of Success, " in result.stderr


GRAPH = """
apiVersion: taskctl.dev/v1alpha1
kind: Task
metadata: {name: g}
spec:
  clusterName: c
  image: i
  params: [{name: version}, {name: other, default: "1"}]
  tasks:
    - {name: a, command: [sh, -c, "echo {{params.version}}"]}
    - {name: b, command: ["true"], runAfter: [a]}
"""


def test_parameters_are_set(run: Run, client: FakeClient, tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(GRAPH)
    assert run("submit", "-f", str(path), "-p", "version=2=x").exit_code == 0
    assert client.objects["Task", "g"]["spec"]["params"] == [
        {"name": "version", "value": "2=x"},
        {"name": "other", "default": "1"},
    ]


@pytest.mark.parametrize(
    ("change", "arguments", "words"),
    [
        (("", ""), [], "version has no value; set value (taskctl submit -p version=VALUE)"),
        (("", ""), ["-p", "versio=1"], "no Task has a parameter of that name; known: other, ver"),
        (("", ""), ["-p", "version"], "must be KEY=VALUE"),
        (("params.version", "params.x"), ["-p", "version=1"], "{{params.x}} names no parameter"),
        (("[a]", "[x]"), ["-p", "version=1"], "tasks[1].runAfter: x names no task"),
        (("[a]", "[b]"), ["-p", "version=1"], "circle: b → b"),
        (("name: b", "name: a"), ["-p", "version=1"], "a is the name of tasks[0]"),
    ],
)
def test_a_graph_that_cannot_run_is_not_sent(
    run: Run,
    client: FakeClient,
    tmp_path: Path,
    change: tuple[str, str],
    arguments: list[str],
    words: str,
) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(GRAPH.replace(*change) if change[0] else GRAPH)
    result = run("submit", "-f", str(path), *arguments)
    assert result.exit_code != 0
    assert words in result.stderr
    assert ("Task", "g") not in client.objects


def test_parameters_need_a_manifest(run: Run, client: FakeClient) -> None:
    result = run("submit", "-p", "a=1", "--image", "i", "--", "true")
    assert result.exit_code == 2
    assert "--param needs -f" in result.stderr
    assert not client.objects

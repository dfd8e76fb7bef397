"""Operations as objects and as YAML; where they are run: tests/embedded/test_operations.py."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from taskctl import operations as ops
from taskctl.errors import ConfigError
from taskctl.outside.operations.directories import DirectoryMode
from taskctl.outside.operations.documents import manifests_of
from taskctl.sdk import task
from taskctl.sdk.errors import Unsendable
from tests.unit.outside.functions import plain


def command(name: str, **settings: Any) -> ops.CommandBasedTask:
    return ops.CommandBasedTask(name, ["true"], **settings)


def spec(operation: ops.Operation, **settings: Any) -> dict[str, Any]:
    made = operation.manifests(cluster="main", image="alpine", **settings)
    return dict(made.task["spec"])


def after(operation: ops.Operation) -> dict[str, list[str]]:
    return {item["name"]: item.get("runAfter", []) for item in spec(operation)["tasks"]}


A, B, C, D = (command(name) for name in "abcd")


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (ops.SingleTaskOperation("x-", A), {"a": []}),
        (ops.ParallelOperation("x-", (A, B)), {"a": [], "b": []}),
        (ops.PipelineOperation("x-", [A, B, C]), {"a": [], "b": ["a"], "c": ["b"]}),
        (
            ops.SimpleDagOperation("x-", A, [B, C], D),
            {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]},
        ),
    ],
)
def test_shapes(operation: ops.Operation, expected: dict[str, list[str]]) -> None:
    assert after(operation) == expected


def test_one_root_with_a_name_that_is_made_up() -> None:
    made = ops.SingleTaskOperation("x-", A).manifests(cluster="main", image="alpine")
    assert made.task["metadata"] == {"generateName": "x-"}
    assert made.cluster is None
    named = ops.SingleTaskOperation("x", A, cluster="c", image="i").manifests()
    assert named.task["metadata"] == {"name": "x"}
    assert (named.task["spec"]["clusterName"], named.task["spec"]["image"]) == ("c", "i")


def test_all_kinds_of_tasks() -> None:
    found = spec(
        ops.ParallelOperation(
            "x-",
            [
                ops.PythonTask("python", plain, [2], retry=3),
                ops.PythonTask("named", plain, {"number": 4}),
                ops.BashTask("bash", "echo $n", n=1),
                ops.CustomTask("custom", "busybox", ["ls", "-la"], env_variable="my variable"),
                ops.CommandBasedTask("command", ["make"], timeout_s=60, slots=2),
                ops.BashTask("large", "true", resources={"limits": {"memory": "1Gi"}}),
            ],
        )
    )
    by_name = {item.pop("name"): item for item in found["tasks"]}
    for name in ("python", "named"):
        command = by_name[name].pop("command")
        assert command[:5] == ["python3", "-m", "taskctl.sdk.run", "--part", name]
        assert command[-1].endswith("functions:plain")
    assert by_name == {
        "python": {"retry": {"limit": 3}},
        "named": {},
        "bash": {"command": ["bash", "-c", "echo $n"], "env": [{"name": "n", "value": "1"}]},
        "custom": {
            "image": "busybox",
            "command": ["ls", "-la"],
            "env": [{"name": "env_variable", "value": "my variable"}],
        },
        "command": {"command": ["make"], "timeoutSeconds": 60, "slots": 2},
        "large": {
            "command": ["bash", "-c", "true"],
            "resources": {"limits": {"memory": "1Gi"}},
        },
    }
    assert found["input"] == {"python": {"number": 2}, "named": {"number": 4}}


def test_options_of_the_function_are_those_of_its_task() -> None:
    fetch = task(retry=2, cpu=2)(plain)
    [item] = spec(ops.SingleTaskOperation("x-", ops.PythonTask("a", fetch.call(1))))["tasks"]
    assert item["retry"] == {"limit": 2}
    assert item["resources"] == {"requests": {"cpu": 2}}


@pytest.mark.parametrize(
    ("value", "text"), [("a b", "a b"), (1, "1"), (1.5, "1.5"), (True, "true"), (False, "false")]
)
def test_variables(value: Any, text: str) -> None:
    assert command("a", x=value).variables == {"x": text}


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (None, None),
        ({"secondsAfterSuccess": 5}, {"success": 5}),
        ({"secondsAfterCompletion": 9}, {"success": 9, "failure": 9}),
        ({"secondsAfterCompletion": 9, "secondsAfterFailure": 0}, {"success": 9, "failure": 0}),
    ],
)
def test_ttl(strategy: Any, expected: Any) -> None:
    found = spec(ops.SingleTaskOperation("x-", A, ttl_strategy=strategy))
    assert found.get("ttlSecondsAfterFinished") == expected


def test_ttl_by_default() -> None:
    found = spec(ops.SingleTaskOperation("x-", A))
    assert found["ttlSecondsAfterFinished"] == {"success": 1200, "failure": 7200}


@pytest.mark.parametrize(
    ("text", "claim", "path", "mode"),
    [
        ("/opt/shared", "", "/opt/shared", "rwo"),
        ("/opt/shared:ro", "", "/opt/shared", "ro"),
        ("myclaim:/opt/shared", "myclaim", "/opt/shared", "rwo"),
        ("myclaim:/opt/shared:ro", "myclaim", "/opt/shared", "ro"),
        ("myclaim:/opt/shared:rwx", "myclaim", "/opt/shared", "rwx"),
    ],
)
def test_shared_directory(text: str, claim: str, path: str, mode: str) -> None:
    assert ops.SharedDirectory.parse(text) == ops.SharedDirectory(path, claim, DirectoryMode(mode))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "the path ''"),
        ("claim", "the path 'claim'"),
        ("claim:", "the mode ''"),
        ("a:b:c", "the mode 'c'"),
        ("a:b:ro", "the path 'b'"),
        ("a:/x:rw", "the mode 'rw' is not one of ro, rwo, rwx"),
        ("a:/x:RO", "the mode 'RO'"),
        ("a:/x:ro:ro", "the path '/x:ro'"),
        (":/x", "the claim ''"),
        ("A:/x", "the claim 'A'"),
        ("a/b:/x", "the claim 'a/b'"),
        ("data-${USER}:/x", "the claim 'data-${USER}'"),
        ("a:/x/../y", "the path '/x/../y'"),
        ("a:/", "the path '/'"),
        ("a:/taskctl/x", "the path '/taskctl/x'"),
    ],
)
def test_shared_directory_refused(text: str, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ops.SharedDirectory.parse(text)
    assert f"shared_directory {text!r}: {part}" in str(caught.value)
    assert "write [CLAIM:]PATH[:MODE]" in str(caught.value)


def workers(existing: tuple[str, ...] = (), **settings: Any) -> dict[str, Any]:
    operation = ops.SingleTaskOperation("x", A, image="alpine", **settings)
    made = manifests_of(operation, existing_claims=existing)
    assert made.cluster is not None
    assert made.cluster["metadata"]["name"] == made.task["spec"]["clusterName"] == "x"
    return dict(made.cluster["spec"])


def test_a_new_claim_and_one_that_exists() -> None:
    assert workers(shared_directory="data:/opt") == {
        "replicas": 1,
        "workspace": {"mountPath": "/opt", "pvc": {}},
    }
    assert workers(shared_directory="/opt:rwx")["workspace"]["pvc"] == {
        "accessModes": ["ReadWriteMany"]
    }
    assert workers(("data",), shared_directory="data:/opt")["workspace"] == {
        "mountPath": "/opt",
        "claimName": "data",
    }


def test_several_directories() -> None:
    found = workers(("more",), shared_directory=["data:/a", "more:/b:ro"])
    assert found["volumes"] == [
        {"name": "shared-1", "persistentVolumeClaim": {"claimName": "more"}}
    ]
    assert found["volumeMounts"] == [{"name": "shared-1", "mountPath": "/b", "readOnly": True}]


def test_a_read_only_directory() -> None:
    operation = ops.SingleTaskOperation("x", A, image="alpine", shared_directory="data:/a:ro")
    assert manifests_of(operation).task["spec"]["readOnlyWorkspace"] is True


def test_contexts_and_resources() -> None:
    contexts = (
        ops.PodExecutionContext("a", "b"),
        ops.PodExecutionContext(key="c", value="d", required=True),
    )
    found = workers(pod_context=contexts, worker_resources={"requests": {"cpu": "2"}}, workers=3)
    assert found["replicas"] == 3
    assert found["template"]["resources"] == {"requests": {"cpu": "2"}}
    terms = found["template"]["affinity"]["podAffinity"]
    [must] = terms["requiredDuringSchedulingIgnoredDuringExecution"]
    assert must["labelSelector"] == {"matchLabels": {"c": "d"}}
    [may] = terms["preferredDuringSchedulingIgnoredDuringExecution"]
    assert may["podAffinityTerm"]["labelSelector"] == {"matchLabels": {"a": "b"}}
    alone = workers(pod_context=ops.PodExecutionContext("a", "b"))
    assert set(alone["template"]["affinity"]["podAffinity"]) == {
        "preferredDuringSchedulingIgnoredDuringExecution"
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: command("a", resources={"limits": {"nvidia.com/gpu": 1}}),
            "resources.limits.nvidia.com/gpu: unknown field; known are cpu, memory",
        ),
        (lambda: command("a", resources={"limits": {"cpu": 0}}), "resources.limits.cpu: is 0"),
        (lambda: ops.CustomTask("a", "busybox"), "command: is missing"),
        (lambda: command("a", x=[1]), "x: an environment variable holds"),
        (lambda: ops.PythonTask("a", task(plain).call(1), [1]), "args: give"),
        (lambda: ops.ParallelOperation("x-", []), "tasks: there is none"),
        (lambda: ops.ParallelOperation("x-", [A, A]), "called a"),
        (lambda: ops.SingleTaskOperation("x", A, cluster="c", workers=2), "leave out cluster"),
        (lambda: ops.SingleTaskOperation("x", A, ttl_strategy={"success": 1}), "ttl_strategy.succ"),
        (lambda: ops.SingleTaskOperation("x", A, shared_directory=["/a", "/a"]), "named twice"),
        (lambda: ops.SingleTaskOperation("x-", A).manifests(), "cluster: is missing"),
        (lambda: ops.SingleTaskOperation("x-", A, workers=1).manifests(), "name: is missing"),
        (lambda: spec(ops.SingleTaskOperation("x", command("A B"))), "name"),
        (lambda: workers(shared_directory=["/a", "/b"]), "only the first directory"),
    ],
)
def test_what_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_an_unknown_setting() -> None:
    with pytest.raises(TypeError, match="unknown setting 'imgae'"):
        ops.SingleTaskOperation("x", A, imgae="y")  # type: ignore[call-arg]


@pytest.mark.parametrize("settings", [{}, {"shared_directory": "/opt", "workers": 2}])
def test_yaml_there_and_back(settings: Any) -> None:
    operation = ops.SimpleDagOperation("x", A, [B, ops.PythonTask("p", plain, [1])], **settings)
    cluster = None if settings else "main"
    made = operation.manifests(cluster=cluster, image="alpine")
    text = made.to_yaml()
    assert ops.read_yaml(text) == made
    assert len(list(yaml.safe_load_all(text))) == (2 if settings else 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no document is a Task"),
        ("{", "not YAML"),
        ("[1]", "kind"),
        ("kind: Pod", "kind"),
        ("kind: Task\n---\nkind: Task", "kind"),
        ("apiVersion: taskctl.dev/v1alpha1\nkind: Task\nmetadata: {name: x}\nspec: {}", "spec"),
    ],
)
def test_yaml_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ops.read_yaml(text)


def test_a_message_at_the_end() -> None:
    notice = {"queue": "my_queue", "payload": json.dumps({"insert": 1})}
    operation = ops.ParallelOperation("x-", [A, B], on_exit_notify=notice)
    found = spec(operation, notify_url="https://queues.example.com/")
    assert found["notify"] == [
        {"url": "https://queues.example.com/", "queue": "my_queue", "payload": '{"insert": 1}'}
    ]
    own = ops.SingleTaskOperation("x-", A, on_exit_notify={"queue": "q", "url": "http://a/"})
    assert spec(own, notify_url="https://b/")["notify"] == [{"url": "http://a/", "queue": "q"}]
    made = own.manifests(cluster="main", image="alpine")
    assert ops.read_yaml(made.to_yaml()) == made


@pytest.mark.parametrize(
    ("notice", "message"),
    [
        ({"queue": "q"}, "on_exit_notify.url: is missing"),
        ({"payload": "x", "url": "https://a/"}, "on_exit_notify.queue: is missing"),
        ({"queue": "q", "payload": {"a": 1}}, "on_exit_notify.payload: must be a text, not dict"),
        ({"queue": "q", "image": "i"}, "on_exit_notify.image: unknown field"),
        ({"queue": "q", "url": "a b"}, "spec.notify[0].url"),
    ],
)
def test_a_message_that_cannot_be(notice: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        spec(ops.SingleTaskOperation("x-", A, on_exit_notify=notice))
    assert message in str(caught.value)


def test_a_task_at_the_end() -> None:
    clean = ops.CustomTask("clean", "busybox", ["rm", "-r"], retry=2, timeout_s=9, what="all")
    found = spec(ops.PipelineOperation("x-", [A, B], on_exit=clean))
    assert found["onExit"] == {
        "image": "busybox",
        "command": ["rm", "-r"],
        "retry": {"limit": 2},
        "timeoutSeconds": 9,
        "env": [{"name": "what", "value": "all"}],
    }
    assert [task["name"] for task in found["tasks"]] == ["a", "b"]
    found = spec(ops.SingleTaskOperation("x-", A, on_exit=ops.PythonTask("tell", plain)))
    command = found["onExit"]["command"]
    assert command[:3] == ["python3", "-m", "taskctl.sdk.run"]
    assert command[-1].endswith("functions:plain")
    assert "input" not in found


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ops.PythonTask("tell", plain, [1]), "on_exit: tell: args: leave them out"),
        (lambda: command("tell", resources={"requests": {"cpu": 1}}), "onExit.resources"),
        (lambda: command("tell", when="Always"), "onExit.when"),
    ],
)
def test_a_task_at_the_end_that_cannot_be(make: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        spec(ops.SingleTaskOperation("x-", A, on_exit=make()))
    assert message in str(caught.value)


def test_a_function_by_value_cannot_run_at_the_end() -> None:
    def local() -> None: ...

    with pytest.raises((ConfigError, Unsendable)) as caught:
        spec(ops.SingleTaskOperation("x-", A, on_exit=ops.PythonTask("tell", local)))
    assert "by value" in str(caught.value)

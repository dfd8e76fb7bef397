"""crds/ matches the models, is structural, and each of its CEL rules accepts and refuses."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cel
import pytest
import yaml
from pydantic import ValidationError

from scripts.gen_crds import render
from taskctl.api.crds import KINDS, load_all
from taskctl.api.meta import describe_errors
from tests.crd_check import check, iter_rules

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent
CRDS = {crd["spec"]["names"]["kind"]: crd for crd in load_all()}
MODELS = {info.kind: info.model for info in KINDS}


def _object(kind: str, content: Json, name: str = "x") -> Json:
    return {
        "apiVersion": "taskctl.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        **content,
    }


def task(name: str = "x", /, **spec: Any) -> Json:
    base = {"clusterName": "c", "image": "busybox", "command": ["true"]}
    return _object("Task", {"spec": {k: v for k, v in (base | spec).items() if v is not ...}}, name)


def ended(state: str, **spec: Any) -> Json:
    return {**task(**spec), "status": {"state": state}}


def cluster(name: str = "x", /, **spec: Any) -> Json:
    return _object("TaskCluster", {"spec": spec}, name)


def taskobject(**content: Any) -> Json:
    return _object("TaskObject", content)


REF = {"path": ".taskctl/objects/ab/abc", "sha256": "a" * 64, "size": 3, "codec": "json"}
MOUNT = {"name": "data", "mountPath": "/data"}
DATA_VOLUME = {"name": "data", "hostPath": {"path": "/srv"}}

STEP: Json = {"name": "a", "image": "i", "command": ["true"]}


def graph(name: str = "t", **spec: Any) -> Json:
    """A root with tasks; what is given replaces or adds fields of its spec."""
    return task(name, **{"image": ..., "command": ..., "tasks": [STEP]} | spec)


LINEAGE = {
    "task": "x",
    "root": "r",
    "rootUID": "uid-r",
    "parent": "r",
    "parentUID": "uid-r",
    "depth": 1,
    "key": "k",
}
GOOD: dict[str, Json] = {
    "smallest task": task(),
    "task that leaves it to its cluster": task(image=..., command=...),
    "task that stays": task(ttlSecondsAfterFinished=None),
    "task that stays after success": task(ttlSecondsAfterFinished={"success": None}),
    "prototype task": task(inputObject="task-0-input", command=["python", "/app/main.py"]),
    "child": task(lineage=LINEAGE),
    "its own cluster": task(clusterName=..., cluster={"replicas": 1, "workspace": {}}),
    "task with inline input": task(input={"a": [1, None, "x"]}),
    "task with scalar input": task(input=3),
    "task with null input": task(input=None),
    "task with everything": task(
        args=["-v"],
        env=[
            {"name": "A", "value": "1"},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "s", "key": "k"}}},
            {"name": "D", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
        workingDir="/tmp",
        runAfter={"tasks": ["a", "b"], "group": "g"},
        inputFrom=[{"path": "/a~1b/0", "tasks": ["a", "a"]}, {"task": "b"}, {"group": "g"}],
        when="Always",
        group="g1",
        retry={"limit": 3, "backoffSeconds": 0.5, "jitter": 0, "onExitCodes": [1, 75]},
        timeoutSeconds=5,
        treeTimeoutSeconds=50,
        startDeadlineSeconds=60,
        ttlSecondsAfterFinished={"success": 0, "failure": 3600},
        priority=-5,
        slots=2,
        suspend=True,
        cancel=False,
        readOnlyWorkspace=True,
        notify=[
            {
                "url": "https://[::1]:8443/a?b=c",
                "events": ["Started", "Failed"],
                "secretKeyRef": {"name": "s", "key": "k"},
                "queue": "q",
                "payload": "{}",
                "timeoutSeconds": 30,
                "retryLimit": 0,
            },
            {"url": "http://receiver.team.svc"},
        ],
        limits={"depth": 0, "descendants": 0, "liveTasks": 1},
    ),
    "graph": graph(),
    "graph with everything": graph(
        image="img",
        command=["sh"],
        params=[{"name": "a", "default": "1"}, {"name": "B_2", "value": ""}],
        tasks=[
            STEP,
            {
                "name": "b",
                "image": "i",
                "args": ["{{params.a}}"],
                "env": [{"name": "A", "value": "{{ params.B_2 }}"}],
                "workingDir": "/x",
                "inputObject": "o",
                "runAfter": ["a"],
                "subtree": True,
                "minSuccess": 1,
                "when": "Failure",
                "group": "g",
                "retry": {"limit": 2},
                "timeoutSeconds": 5,
                "startDeadlineSeconds": 5,
                "ttlSecondsAfterFinished": {"success": 5},
                "priority": 3,
                "slots": 2,
                "resources": {"requests": {"cpu": 1, "memory": "1.5Gi"}},
                "readOnlyWorkspace": True,
            },
            {
                "name": "c",
                "image": "i",
                "input": {"n": [1, None]},
                "inputFrom": [
                    {"path": "/b", "task": "b"},
                    {"path": "/all", "tasks": ["a", "b"]},
                    {"path": "/parts", "group": "g"},
                ],
                "runAfterGroup": "g",
                "count": 3,
                "minSuccess": 200,
            },
        ],
    ),
    "run after a group": task(runAfter={"group": "g"}),
    "run after all of it": task(
        runAfter={"tasks": ["a"], "group": "g", "count": 9, "minSuccess": 5, "subtree": True}
    ),
    "few successes, or else": task(runAfter={"tasks": ["a"], "minSuccess": 1}, when="Failure"),
    "task with the longest arguments": task(
        args=["x" * 131_071, "é" * 65_535], env=[{"name": "ä", "value": "é" * 65_534}]
    ),
    "task with the longest name": task("x" * 240),
    "smallest cluster": cluster(),
    "prototype cluster": cluster(
        deploymentName="task-workers", replicas=3, serviceAccountName="task-runner"
    ),
    "cluster with default workspace": cluster(workspace={"enable": True}),
    "cluster with claim": cluster(
        workspace={
            "pvc": {
                "accessModes": ["ReadWriteMany"],
                "resources": {"requests": {"storage": "1.5Gi"}},
                "storageClassName": "standard",
                "volumeMode": "Filesystem",
                "selector": {"matchLabels": {"a": "b"}},
            },
            "mountPath": "/work",
            "reclaim": "Retain",
        }
    ),
    "cluster with numeric storage": cluster(
        workspace={"pvc": {"resources": {"requests": {"storage": 1000000}}}}
    ),
    "cluster with your claim": cluster(workspace={"claimName": "mine"}),
    "cluster with host path": cluster(
        workspace={"hostPath": {"path": "/srv", "type": "Directory"}}
    ),
    "cluster with nfs": cluster(workspace={"nfs": {"server": "h", "path": "/e", "readOnly": True}}),
    "cluster with memory": cluster(workspace={"emptyDir": {"medium": "Memory", "sizeLimit": 5}}),
    "cluster with volumes": cluster(
        volumes=[DATA_VOLUME],
        volumeMounts=[{**MOUNT, "readOnly": True, "mountPropagation": "HostToContainer"}],
        template={
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "resources": {"requests": {"cpu": "100m"}},
            "securityContext": {"runAsUser": 1000},
            "imagePullSecrets": [{"name": "pull"}],
            "labels": {"team": "a", "kueue.x-k8s.io/queue-name": "q"},
            "annotations": {"example.com/note": "any text: at all"},
            "priorityClassName": "high",
            "runtimeClassName": "gvisor",
            "imagePullPolicy": "Always",
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
            ],
        },
        rotation={"maxTasks": 10, "maxAgeSeconds": 60},
        workerImage="registry.example/taskctl:1",
        images=["i:1", "i:2"],
        allowedImages=["i:*"],
    ),
    "cluster with defaults for tasks": cluster(
        taskDefaults={
            "image": "i",
            "command": ["python"],
            "args": ["-v"],
            "env": [{"name": "A", "value": "1"}],
            "workingDir": "/x",
            "retry": {"limit": 1},
            "timeoutSeconds": 5,
            "startDeadlineSeconds": 6,
            "ttlSecondsAfterFinished": {"success": 1200, "failure": 7200},
            "limits": {"depth": 3},
        }
    ),
    "object with data": taskobject(data={"count": "0", "limit": "5"}),
    "object with empty data": taskobject(data={}),
    "object with value": taskobject(value=[1, {"a": None}]),
    "object with null": taskobject(value=None),
    "object with ref": taskobject(ref=REF),
}

# name: (object, words that both the API server's and the model's complaint contain)
BAD: dict[str, tuple[Json, str]] = {
    "empty command": (task(command=[]), "ENTRYPOINT"),
    "input from a task and tasks": (
        task(inputFrom=[{"task": "a", "tasks": ["b"]}]),
        "set either task (one result)",
    ),
    "input from a task and a group": (
        task(inputFrom=[{"task": "a", "group": "g"}], runAfter={"group": "g"}),
        "set either task (one result)",
    ),
    "input from a group that is not waited for": (
        task(inputFrom=[{"group": "g"}]),
        "set runAfter.group to the same",
    ),
    "input from another group": (
        task(inputFrom=[{"group": "g"}], runAfter={"group": "h"}),
        "set runAfter.group to the same",
    ),
    "input from nothing": (task(inputFrom=[{"path": "/a"}]), "set either task (one result)"),
    "input at no pointer": (task(inputFrom=[{"path": "a", "task": "t"}]), "path"),
    "no tasks": (graph(tasks=[]), "tasks"),
    "bad task name": (graph(tasks=[{**STEP, "name": "A"}]), "name"),
    "long task names": (graph("x" * 200, tasks=[{**STEP, "name": "y" * 40}]), "too long"),
    "runs after a stranger": (
        graph(tasks=[STEP, {"name": "b", "runAfter": ["c"]}]),
        "names no task",
    ),
    "empty command of a task": (graph(tasks=[{**STEP, "command": []}]), "command"),
    "misspelt default": (graph(params=[{"name": "a"}]), "has no value"),
    "bad parameter": (graph(params=[{"name": "a-b", "value": "x"}]), "name"),
    "parameter of ours": (graph(params=[{"name": "TASKCTL_X", "value": ""}]), "taskctl's own"),
    "parameters of nothing": (task(params=[{"name": "a", "value": ""}]), "add tasks"),
    "task of a root with two inputs": (
        graph(tasks=[STEP | {"input": 1, "inputObject": "o"}]),
        "input",
    ),
    "task of a root with input from nothing": (
        graph(tasks=[STEP | {"inputFrom": [{"path": "/a"}]}]),
        "set either task (one result)",
    ),
    "tasks of a child": (graph("t", lineage=LINEAGE), "belong to a root"),
    "run after itself": (task(runAfter={"tasks": ["a", "x"]}), "names the task itself"),
    "task of a graph after itself": (
        graph(tasks=[STEP, {"name": "b", "runAfter": ["a", "b"]}]),
        "",  # the model says which circle it is
    ),
    "run after a count of nothing": (task(runAfter={"tasks": ["a"], "count": 1}), "set group too"),
    "run after a bad group": (task(runAfter={"group": "a b"}), "group"),
    "more successes than tasks": (
        task(runAfter={"tasks": ["a"], "minSuccess": 2}),
        "can never be reached",
    ),
    "successes of no tasks": (task(runAfter={"minSuccess": 1}), "can never be reached"),
    "successes that do not matter": (
        task(runAfter={"tasks": ["a"], "minSuccess": 1}, when="Always"),
        "no meaning with when: Always",
    ),
    "tree timeout of a child": (
        task(treeTimeoutSeconds=5, lineage=LINEAGE),
        "treeTimeoutSeconds goes for a whole tree",
    ),
    "exit task of a child": (
        task(onExit={"command": ["x"]}, lineage=LINEAGE),
        "onExit is a task for the end of a whole tree",
    ),
    "notifications of a child": (
        task(notify=[{"url": "https://a/"}], lineage=LINEAGE),
        "notify tells of a whole tree",
    ),
    "a receiver without a URL": (task(notify=[{"queue": "q"}]), "url"),
    "a receiver by another protocol": (task(notify=[{"url": "ftp://a/"}]), "url"),
    "a receiver with a password": (task(notify=[{"url": "https://u:p@a/"}]), "url"),
    "a receiver with a fragment": (task(notify=[{"url": "https://a/#b"}]), "url"),
    "a receiver with a line break": (task(notify=[{"url": "https://a/\r\nb: c"}]), "url"),
    "a receiver of another event": (
        task(notify=[{"url": "https://a/", "events": ["Ended"]}]),
        "events",
    ),
    "a receiver of no event": (task(notify=[{"url": "https://a/", "events": []}]), "events"),
    "no receiver": (task(notify=[]), "notify"),
    "too many receivers": (task(notify=[{"url": "https://a/"}] * 6), "notify"),
    "a receiver that may take long": (
        task(notify=[{"url": "https://a/", "timeoutSeconds": 31}]),
        "timeoutSeconds",
    ),
    "exit task without a command": (task(onExit={"image": "x"}), "command"),
    "exit task with no command": (task(onExit={"command": []}), "command"),
    "exit task with a variable of ours": (
        task(onExit={"command": ["x"], "env": [{"name": "TASKCTL_A", "value": ""}]}),
        "taskctl's own",
    ),
    "tree timeout of nothing": (task(treeTimeoutSeconds=0), "treeTimeoutSeconds"),
    "descendant limit below the tasks": (
        graph(limits={"descendants": 0}),
        "less than the number of tasks",
    ),
    "descendant limit": (task(limits={"descendants": -1}), "descendants"),
    "live task limit": (task(limits={"liveTasks": 0}), "liveTasks"),
    "spawn rate of nothing": (task(limits={"spawnRate": {"tasks": 0}}), "tasks"),
    "spawn rate without a number": (task(limits={"spawnRate": {"perSeconds": 1}}), "tasks"),
    "both exit code lists": (
        task(retry={"onExitCodes": [1], "exceptExitCodes": [2]}),
        "either onExitCodes or exceptExitCodes",
    ),
    "two values": (
        task(env=[{"name": "A", "value": "", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]),
        "either value or valueFrom",
    ),
    "two sources": (
        task(
            env=[
                {
                    "name": "A",
                    "valueFrom": {
                        "fieldRef": {"fieldPath": "x"},
                        "secretKeyRef": {"name": "s", "key": "k"},
                    },
                }
            ]
        ),
        "exactly one of secretKeyRef",
    ),
    "no source": (task(env=[{"name": "A", "valueFrom": {}}]), "exactly one of secretKeyRef"),
    "our own variable": (task(env=[{"name": "TASKCTL_TOKEN", "value": "x"}]), "taskctl's own"),
    "argument of too many bytes": (task(args=["é" * 65_536]), "Linux starts no process"),
    "late argument of too many bytes": (
        task(command=[*["x"] * 255, "é" * 65_536]),
        "Linux starts no process",
    ),
    "variable of too many bytes": (
        task(env=[{"name": "ä", "value": "é" * 65_535}]),
        "Linux starts no process",
    ),
    "late variable of too many bytes": (
        task(env=[*({"name": f"A{n}"} for n in range(200)), {"name": "B", "value": "é" * 65_536}]),
        "Linux starts no process",
    ),
    "long task name": (task("x" * 241), "at most 240 characters"),
    "a variable that is unknown": (
        cluster(workspace={"hostPath": {"path": "/${HOME}"}}),
        "the variables here are",
    ),
    "a path that goes back": (
        cluster(workspace={"nfs": {"server": "h", "path": "/a/../b"}}),
        "must not contain '..' as a part",
    ),
    "a user that is needed": (cluster(workspace={"claimName": "a-${USER}"}), "is needed, because"),
    "a limit of logs that is too small": (
        cluster(workspace={"logLimitBytes": 1000}),
        "must be 0, for no limit, or at least 65536",
    ),
    "a user with dots": (cluster(user="a..b"), "it becomes part of paths"),
    "long cluster name": (cluster("x" * 53), "at most 52 characters"),
    "min replicas alone": (cluster(minReplicas=1), "minReplicas needs maxReplicas"),
    "more at least than at most": (
        cluster(minReplicas=3, maxReplicas=2),
        "minReplicas must not be larger",
    ),
    "no replicas at most": (cluster(maxReplicas=0), "maxReplicas"),
    "default arguments without a command": (
        cluster(taskDefaults={"args": ["x"]}),
        "args belong to a command",
    ),
    "default variable of ours": (
        cluster(taskDefaults={"env": [{"name": "TASKCTL_X", "value": ""}]}),
        "taskctl's own",
    ),
    "label of ours": (
        cluster(template={"labels": {"taskctl.dev/cluster": "x"}}),
        "taskctl's own; choose others",
    ),
    "annotation of ours": (
        cluster(template={"annotations": {"app.kubernetes.io/managed-by": "x"}}),
        "taskctl's own; choose others",
    ),
    "label with a bad value": (cluster(template={"labels": {"a": "b c"}}), "labels"),
    "unknown pull policy": (cluster(template={"imagePullPolicy": "Often"}), "imagePullPolicy"),
    "empty image": (cluster(images=[""]), "images"),
    "too many images": (cluster(images=[f"i:{n}" for n in range(21)]), "images"),
    "no image allowed twice": (cluster(allowedImages=[""]), "allowedImages"),
    "spread of no kind": (
        cluster(template={"topologySpreadConstraints": [{"maxSkew": 1}]}),
        "topologySpreadConstraints",
    ),
    "standby with a floor above its ceiling": (
        cluster(standby={"minPerWorker": 5, "maxPerWorker": 4}),
        "minPerWorker is more than maxPerWorker",
    ),
    "idle seconds alone": (
        cluster(idleSecondsBeforeScaleDown=1),
        "idleSecondsBeforeScaleDown needs maxReplicas",
    ),
    "two workspaces": (cluster(workspace={"pvc": {}, "claimName": "x"}), "at most one of pvc"),
    "workspace over ours": (cluster(workspace={"mountPath": "/taskctl"}), "belong to taskctl"),
    "workspace inside ours": (cluster(workspace={"mountPath": "/taskctl/x"}), "belong to taskctl"),
    "our volume name": (
        cluster(volumes=[{"name": "workspace", "emptyDir": {}}]),
        "taskctl's own",
    ),
    "volume without a source": (cluster(volumes=[{"name": "a"}]), "exactly one source"),
    "volume with two sources": (
        cluster(volumes=[{**DATA_VOLUME, "emptyDir": {}}]),
        "exactly one source",
    ),
    "mount over ours": (
        cluster(volumes=[DATA_VOLUME], volumeMounts=[{**MOUNT, "mountPath": "/taskctl-state"}]),
        "belong to taskctl",
    ),
    "sub path": (
        cluster(volumes=[DATA_VOLUME], volumeMounts=[{**MOUNT, "subPath": "a"}]),
        "ephemeral containers",
    ),
    "mount of nothing": (cluster(volumeMounts=[MOUNT]), "must name one of volumes"),
    "data and ref": (taskobject(data={}, ref=REF), ""),
    "data and value": (taskobject(data={}, value=1), ""),
    "nothing": (taskobject(), ""),
    "path upwards": (taskobject(ref={**REF, "path": "a/../../b"}), "must not contain `..`"),
    "absolute path": (taskobject(ref={**REF, "path": "/etc/passwd"}), "path"),
    "short hash": (taskobject(ref={**REF, "sha256": "ab"}), "sha256"),
    "input twice": (task(input=1, inputObject="x"), ""),
    "input null and object": (task(input=None, inputObject="x"), ""),
    "negative retries": (task(retry={"limit": -1}), "limit"),
    "no back-off": (task(retry={"backoffSeconds": 0}), "backoffSeconds"),
    "memory in thousandths": (
        task(resources={"limits": {"memory": "100m"}}),
        "memory",
    ),
    "negative memory": (task(resources={"requests": {"memory": "-1Gi"}}), "memory"),
    "memory in words": (task(resources={"requests": {"memory": "much"}}), "memory"),
    "negative cpu": (task(resources={"requests": {"cpu": -1}}), "cpu"),
    "request above the limit": (
        task(resources={"requests": {"memory": "1Gi"}, "limits": {"memory": "512Mi"}}),
        "requests must not exceed limits",
    ),
    "cpu above the limit": (
        cluster(taskDefaults={"resources": {"requests": {"cpu": 2}, "limits": {"cpu": "500m"}}}),
        "requests must not exceed limits",
    ),
    "zero slots": (task(slots=0), "slots"),
    "wide priority": (task(priority=2**31), "priority"),
    "lineage of another": (task(lineage=LINEAGE | {"task": "other"}), "written by taskctl"),
    "bad cancel scope": (task(cancelScope="All"), "cancelScope"),
    "bad when": (task(when="Sometimes"), "when"),
    "bad group": (task(group="a b"), "group"),
    "no cluster": (task(clusterName=...), "clusterName"),
    "two clusters": (task(cluster={"replicas": 1}), "exactly one of clusterName"),
    "a child with a cluster": (
        task(clusterName=..., cluster={}, lineage=LINEAGE),
        "only a root can have a TaskCluster of its own",
    ),
    "a misspelt field of the run's cluster": (
        task(clusterName=..., cluster={"replicas": -1}),
        "cluster.replicas",
    ),
    "too many replicas": (cluster(replicas=1001), "replicas"),
    "bad prefix": (cluster(deploymentName="Big"), "deploymentName"),
}

# name: (before, after, words of the complaint or "" for none)
CHANGES: dict[str, tuple[Json, Json, str]] = {
    "a graph's task": (graph(), graph(tasks=[{**STEP, "args": ["x"]}]), "spec cannot be changed"),
    "a graph's parameter": (
        graph(params=[{"name": "a", "value": "1"}]),
        graph(params=[{"name": "a", "value": "2"}]),
        "spec cannot be changed",
    ),
    "replicas of a cluster that scales itself": (
        cluster(maxReplicas=5),
        cluster(maxReplicas=5, replicas=3),
        "replicas is not used with maxReplicas",
    ),
    "replicas with the end of scaling": (cluster(maxReplicas=5), cluster(replicas=3), ""),
    "replicas with the begin of scaling": (cluster(), cluster(maxReplicas=5, replicas=3), ""),
    "bounds of a cluster that scales itself": (
        cluster(maxReplicas=5),
        cluster(maxReplicas=9, minReplicas=2, idleSecondsBeforeScaleDown=0),
        "",
    ),
    "a graph's priority": (graph(), graph(priority=3), ""),
    "nothing": (task(), task(), ""),
    "cancel": (task(), task(cancel=True), ""),
    "cancel from false": (task(cancel=False), task(cancel=True), ""),
    "cancel again": (task(cancel=True), task(cancel=True), ""),
    "take cancel back": (task(cancel=True), task(cancel=False), "cannot be taken back"),
    "remove cancel": (task(cancel=True), task(), "cannot be taken back"),
    "take cancel back while it runs": (
        ended("Running", cancel=True),
        ended("Running"),
        "cannot be taken back",
    ),
    "take cancel back after the end": (ended("Cancelled", cancel=True), ended("Cancelled"), ""),
    "take cancel back after another end": (
        ended("Failed", cancel=True, cancelScope="Tree"),
        ended("Failed", cancelScope="Task"),
        "",
    ),
    "suspend": (task(), task(suspend=True), ""),
    "resume": (task(suspend=True), task(), ""),
    "priority": (task(), task(priority=9), ""),
    "ttl": (task(), task(ttlSecondsAfterFinished={"success": 1}), ""),
    "image": (task(), task(image="other"), "spec cannot be changed"),
    "command": (task(), task(command=["false"]), "spec cannot be changed"),
    "args added": (task(), task(args=["a"]), "spec cannot be changed"),
    "args removed": (task(args=["a"]), task(), "spec cannot be changed"),
    "env value": (
        task(env=[{"name": "A", "value": "1"}]),
        task(env=[{"name": "A", "value": "2"}]),
        "spec cannot be changed",
    ),
    "retry": (task(retry={"limit": 1}), task(retry={"limit": 2}), "spec cannot be changed"),
    "input": (task(input={"a": 1}), task(input={"a": 2}), "spec cannot be changed"),
    "input deep": (
        task(input={"a": [{"b": [1, 2]}]}),
        task(input={"a": [{"b": [1, 3]}]}),
        "spec cannot be changed",
    ),
    "input, another type": (task(input=1), task(input=[1]), "spec cannot be changed"),
    "input from null": (task(input=None), task(input=0), "spec cannot be changed"),
    "input to null": (task(input=0), task(input=None), "spec cannot be changed"),
    "input null removed": (task(input=None), task(), "spec cannot be changed"),
    "input added": (task(), task(input=1), "spec cannot be changed"),
    "input removed": (task(input=1), task(), "spec cannot be changed"),
    "input beside what may be changed": (
        task(input={"a": 1}),
        task(input={"a": 2}, priority=1, suspend=True),
        "spec cannot be changed",
    ),
    "priority beside an input": (task(input={"a": 1}), task(input={"a": 1}, priority=1), ""),
    "another cluster": (
        task(clusterName=..., cluster={"replicas": 1}),
        task(clusterName=..., cluster={"replicas": 2}),
        "spec cannot be changed",
    ),
    "lineage added": (task(), task(lineage=LINEAGE), "spec cannot be changed"),
    "lineage removed": (task(lineage=LINEAGE), task(), "spec cannot be changed"),
    "cancel one alone": (task(), task(cancel=True, cancelScope="Task"), ""),
    "cancel the rest too": (
        task(cancel=True, cancelScope="Task"),
        task(cancel=True, cancelScope="Tree"),
        "",
    ),
    "cancel the rest after all not": (
        task(cancel=True),
        task(cancel=True, cancelScope="Task"),
        "cannot be narrowed",
    ),
    "value": (taskobject(value={"a": 1}), taskobject(value={"a": 2}), "cannot be changed"),
    "value deep": (taskobject(value=[[{}]]), taskobject(value=[[{"a": 1}]]), "cannot be changed"),
    "value to data": (taskobject(value=1), taskobject(data={"a": "1"}), "cannot be changed"),
    "value from null": (taskobject(value=None), taskobject(value=1), "cannot be changed"),
    "data": (taskobject(data={"a": "1"}), taskobject(data={"a": "2"}), "cannot be changed"),
    "data to value": (taskobject(data={"a": "1"}), taskobject(value=1), "cannot be changed"),
    "ref": (taskobject(ref=REF), taskobject(ref={**REF, "size": 4}), "cannot be changed"),
    "labels of an object": (taskobject(data={"a": "1"}), taskobject(data={"a": "1"}), ""),
}


def test_files_match_the_models() -> None:
    for name, text in render().items():
        path = ROOT / "crds" / name
        assert path.read_text(encoding="utf-8") == text, "run python scripts/gen_crds.py"
    assert sorted(path.name for path in (ROOT / "crds").iterdir()) == sorted(render())


def test_files_are_yaml_that_says_the_same() -> None:
    for crd in load_all():
        name = f"taskctl.dev_{crd['spec']['names']['plural']}.yaml"
        assert yaml.safe_load((ROOT / "crds" / name).read_text(encoding="utf-8")) == crd


def _nodes(schema: Json, path: str) -> Iterator[tuple[str, Json]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from _nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from _nodes(schema[key], f"{path}[]")


@pytest.mark.parametrize("kind", CRDS)
def test_schema_is_structural_and_described(kind: str) -> None:
    schema = CRDS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for path, node in _nodes(schema, kind):
        opaque = node.get("x-kubernetes-preserve-unknown-fields")
        assert "$ref" not in node, path
        assert "title" not in node, path
        assert "type" in node or opaque or node.get("x-kubernetes-int-or-string"), path
        assert ("anyOf" in node) == bool(node.get("x-kubernetes-int-or-string")), path
        assert not (node.get("properties") and node.get("additionalProperties")), path
        if node.get("x-kubernetes-list-type") == "map":
            item = node["items"]
            assert set(node["x-kubernetes-list-map-keys"]) <= set(item["required"]), path
        if node.get("type") == "array":
            assert "x-kubernetes-list-type" in node, path
    for path, node in _nodes(schema, kind):
        for name, child in node.get("properties", {}).items():
            assert child.get("description") or f"{path}.{name}" == f"{kind}.metadata", name


@pytest.mark.parametrize("kind", CRDS)
def test_what_rules_look_at_is_bounded(kind: str) -> None:
    """Without bounds the API server's cost estimate for a CEL rule is over its limit."""
    schema = CRDS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    spec = schema["properties"].get("spec", {"properties": {}})
    for path, node in _nodes(spec, f"{kind}.spec"):
        if node.get("type") == "array":
            assert "maxItems" in node, path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path


@pytest.mark.parametrize("kind", CRDS)
def test_rules_compile_and_name_a_remedy(kind: str) -> None:
    schema = CRDS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for path, entry in iter_rules(schema):
        cel.compile(entry["rule"])
        assert 10 < len(entry["message"]) <= 2048, path
        assert "\n" not in entry["message"], path


@pytest.mark.parametrize("name", GOOD)
def test_good_objects_pass(name: str) -> None:
    obj = GOOD[name]
    assert check(CRDS[obj["kind"]], obj) == []
    parsed = MODELS[obj["kind"]].model_validate(obj)
    assert parsed.model_dump(mode="json", by_alias=True, exclude_unset=True) == obj


@pytest.mark.parametrize("name", BAD)
def test_bad_objects_are_refused_alike_by_server_and_model(name: str) -> None:
    obj, words = BAD[name]
    complaints = check(CRDS[obj["kind"]], obj)
    assert complaints
    assert words in " ".join(complaints)
    with pytest.raises(ValidationError) as caught:
        MODELS[obj["kind"]].model_validate(obj)
    assert words in " ".join(describe_errors(caught.value))


@pytest.mark.parametrize("name", CHANGES)
def test_changes(name: str) -> None:
    before, after, words = CHANGES[name]
    complaints = check(CRDS[after["kind"]], after, before)
    assert (words in " ".join(complaints)) if words else complaints == []
    assert bool(complaints) == bool(words)


def test_every_rule_is_seen_to_refuse() -> None:
    """A rule that no case above breaks is not tested."""
    complaints = [
        line
        for obj, old in [
            *((obj, None) for obj, _ in BAD.values()),
            *((after, before) for before, after, _ in CHANGES.values()),
        ]
        for line in check(CRDS[obj["kind"]], copy.deepcopy(obj), old)
    ]
    for crd in CRDS.values():
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for _, entry in iter_rules(schema):
            assert any(entry["message"] in line for line in complaints), entry["message"]


def test_status_default_and_names() -> None:
    schema = CRDS["Task"]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert schema["properties"]["status"]["default"] == {"state": "Pending"}
    assert schema["properties"]["spec"]["properties"]["when"]["default"] == "Success"
    status = schema["properties"]["status"]["properties"]
    assert {"podName", "podUID", "infraFailures", "nextAttemptTime"} <= set(status)
    assert "subresources" not in CRDS["TaskObject"]["spec"]["versions"][0]
    assert {crd["spec"]["names"]["shortNames"][0] for crd in CRDS.values()} == {"tk", "tobj", "tc"}


@pytest.mark.parametrize("kind", CRDS)
def test_paths_of_the_scale_subresource_are_in_the_schema(kind: str) -> None:
    version = CRDS[kind]["spec"]["versions"][0]
    scale = version.get("subresources", {}).get("scale", {})
    assert bool(scale) == (kind == "TaskCluster")
    for name, path in scale.items():
        node = version["schema"]["openAPIV3Schema"]
        for step in path.removeprefix(".").split("."):
            node = node["properties"][step]
        assert node["type"] == ("string" if name == "labelSelectorPath" else "integer")

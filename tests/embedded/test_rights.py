"""Controller and agents do their work with the rights that are installed, and need them all.

The embedded server stores RBAC objects but lets every token do everything, so the test puts
an authorizer before it. It reads the objects that `taskctl install` prints and those that the
controller makes, as Kubernetes would.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from taskctl.api.resources import TASKCLUSTERS, TASKS
from taskctl.embedded.server import engine
from taskctl.embedded.server.access.auth import Authenticator
from taskctl.embedded.server.api.router import Api
from taskctl.embedded.server.core import Core
from taskctl.embedded.server.main import EmbeddedServer, ServerOptions, kubeconfig
from taskctl.embedded.server.refusals.errors import Resource
from taskctl.embedded.server.requests.paths import Target, parse_path
from taskctl.errors import NotFound
from taskctl.install.manifests import build
from taskctl.install.options import InstallOptions, Scope
from taskctl.install.rights import CONTROLLER
from taskctl.kube.client import KubeClient
from taskctl.kube.config import ClientSettings
from taskctl.kube.resources import CRDS, NAMESPACES, PVCS, SERVICEACCOUNTS
from tests.embedded.test_growth import DEMO, apply, chain
from tests.embedded.world import World, eventually

Json = dict[str, Any]
RBAC = "rbac.authorization.k8s.io"
ACCOUNT = "system:serviceaccount:"
WORKERS = "taskctl-worker"
HOSTS = ("http://127.0.0.1:9",)
WRITES = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}

# What this run does not come to, by why not.
SELDOM = {
    ("taskctl-controller", "update", "taskctl.dev", "taskclusters/finalizers"): "asked for by an "
    "admission plugin, not by a request",
    ("taskctl-controller", "bind", RBAC, "clusterroles"): "likewise, when a binding is created",
    ("taskctl-controller", "get", "", "pods"): "a worker's name is taken, or a batch was refused",
    ("taskctl-controller", "get", "taskctl.dev", "tasks"): "a worker goes and the watch is late",
    ("taskctl-controller", "get", "", "persistentvolumeclaims"): "a claim of the user's own",
    ("taskctl-controller", "patch", "", "events"): "the same event again",
    ("taskctl-controller", "list", "", "events"): "a worker does not come up",
    ("taskctl-worker", "patch", "taskctl.dev", "tasks"): "a task cancels a descendant",
}
Used = tuple[str, str, str, str]  # account's name, verb, group, resource/subresource


@dataclass(frozen=True)
class Attributes:
    """What is asked for, in RBAC's words."""

    verb: str
    group: str
    resource: str
    name: str
    namespace: str

    @classmethod
    def of(cls, request: web.BaseRequest, target: Target) -> Attributes:
        verb = WRITES.get(request.method, "")
        if not verb:
            watches = request.query.get("watch") in ("1", "true")
            verb = "get" if target.name else "watch" if watches else "list"
        elif verb == "delete" and not target.name:
            verb = "deletecollection"
        resource = "/".join(filter(None, (target.plural, target.subresource)))
        return cls(verb, target.group, resource, target.name or "", target.namespace or "")

    def allowed_by(self, rule: Json) -> bool:
        return (
            self.verb in rule["verbs"]
            and self.group in rule["apiGroups"]
            and self.resource in rule["resources"]
            and self.name in rule.get("resourceNames", [self.name])
        )


@dataclass
class Authorizer:
    """RBAC, as far as the rules use it."""

    used: set[Used] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)

    def may(self, core: Core, user: str, asked: Attributes) -> bool:
        """Decide on a request; service accounts are the only ones that have limits."""
        if not user.startswith(ACCOUNT):
            return True
        rules = list(_rules_of(core, user, asked.namespace))
        allowed = any(asked.allowed_by(rule) for rule in rules)
        if allowed:
            name = user.rpartition(":")[2]
            self.used.add((name, asked.verb, asked.group, asked.resource))
        else:
            self.refused.append(f"{user}: {asked}")
        return allowed


def _objects(core: Core, plural: str, namespace: str | None = None) -> list[Json]:
    records = core.store.records(Resource(RBAC, plural), namespace)
    return [orjson.loads(record.raw) for record in records]


def _rules_of(core: Core, user: str, namespace: str) -> Iterator[Json]:
    """Yield the rules that hold for a user in a namespace; "" is everywhere."""
    bindings = _objects(core, "clusterrolebindings")
    if namespace:
        bindings += _objects(core, "rolebindings", namespace)
    roles = {("ClusterRole", role["metadata"]["name"]): role
             for role in _objects(core, "clusterroles")}  # fmt: skip
    if namespace:
        roles |= {("Role", role["metadata"]["name"]): role
                  for role in _objects(core, "roles", namespace)}  # fmt: skip
    for binding in bindings:
        subjects = [f"{ACCOUNT}{one['namespace']}:{one['name']}" for one in binding["subjects"]]
        role = roles.get((binding["roleRef"]["kind"], binding["roleRef"]["name"]))
        if user in subjects and role is not None:
            yield from role["rules"]


@pytest.fixture
def authorizer(monkeypatch: pytest.MonkeyPatch) -> Authorizer:
    """Put an authorizer before the embedded server."""
    found = Authorizer()

    class Guarded(Api):
        def __init__(self, core: Core, authenticator: Authenticator, *others: Any) -> None:
            super().__init__(core, authenticator, *others)
            self.judge = (core, authenticator)

        async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
            core, authenticator = self.judge
            target = parse_path(request.path)
            if target is not None:
                user = authenticator.authenticate(request.headers.get("Authorization"))
                if not found.may(core, user.name, Attributes.of(request, target)):
                    return web.json_response({"kind": "Status", "message": "no", "code": 403},
                                             status=403)  # fmt: skip
            return await super().handle(request)

    monkeypatch.setattr(engine, "Api", Guarded)
    return found


async def install(client: KubeClient, options: InstallOptions) -> list[str]:
    """Create what is printed, as far as the embedded server has it; return the arguments."""
    arguments: list[str] = []
    kinds = ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    places = dict.fromkeys(kinds, f"apis/{RBAC}/v1") | {"ServiceAccount": "api/v1"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": options.namespace}}
    await client.create(NAMESPACES, namespace)
    for obj in build(options):
        if obj["kind"] == "CustomResourceDefinition":
            await client.create(CRDS, obj)
        elif obj["kind"] == "Deployment":
            container = obj["spec"]["template"]["spec"]["containers"][0]
            arguments = [*container["command"][1:], *container["args"]]
        elif obj["kind"] in places:
            where = obj["metadata"].get("namespace")
            path = f"/{places[obj['kind']]}" + (f"/namespaces/{where}" if where else "")
            path += f"/{obj['kind'].lower()}s"
            await client.request("POST", path, body=orjson.dumps(obj))
    return [
        text.replace("$(POD_IP)", "127.0.0.1").replace("$(POD_NAMESPACE)", options.namespace)
        for text in arguments
        if not text.startswith("--health-port")
    ]


async def controller_kubeconfig(
    client: KubeClient, server: EmbeddedServer, namespace: str, path: Path
) -> None:
    """Write a kubeconfig with a token of the controller's own account."""
    account = SERVICEACCOUNTS.path(namespace, CONTROLLER, "token")
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer = orjson.loads(await client.request("POST", account, body=orjson.dumps(request)))
    authority = server.certificates.authority_pem
    path.write_text(kubeconfig(server.url, answer["status"]["token"], authority))


@asynccontextmanager
async def running(log: Path, *arguments: str) -> AsyncIterator[None]:
    """Run a component for as long as the block lasts."""
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "taskctl", *arguments,
            stdin=asyncio.subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        async with asyncio.timeout(30):
            await process.wait()


@asynccontextmanager
async def installed(directory: Path, options: InstallOptions, served: str) -> AsyncIterator[World]:
    """Run everything, the controller with its own account; yields a namespace to work in."""
    data = directory / "data"
    async with EmbeddedServer(ServerOptions(data_dir=data)) as server:
        settings = ClientSettings(kubeconfig=data / "kubeconfig")
        async with await KubeClient.connect(settings) as client:
            arguments = await install(client, options)
            if served != options.namespace:
                body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": served}}
                await client.create(NAMESPACES, body)
            own = directory / "kubeconfig"
            await controller_kubeconfig(client, server, options.namespace, own)
            image = f"counter:latest={DEMO / 'counter' / 'image'}"
            node = ("node", "--data-dir", str(data), "--image", image)
            controller = (*arguments, "--kubeconfig", str(own))
            async with (
                running(directory / "node.log", *node),
                running(directory / "controller.log", *controller),
            ):
                yield World(client, served, data)


async def cancelled_tree(world: World) -> None:
    """A parent is cancelled while its child runs; the controller cancels the child."""
    script = "taskctl-init spawn --key child -- sleep 60 && sleep 60"
    await world.task("parent", "sh", "-c", script, clusterName="counter", slots=1)

    async def children() -> list[Json]:
        tasks = await world.all(TASKS)
        below = [one for one in tasks if one["spec"].get("lineage", {}).get("root") == "parent"]
        return [one for one in below if one.get("status", {}).get("state") == "Running"]

    found = await eventually(children, bool, what="running below their parent")
    await world.patch(TASKS, "parent", {"spec": {"cancel": True}})
    name = found[0]["metadata"]["name"]
    for one in ("parent", name):
        assert (await world.finished(one))["status"]["state"] == "Cancelled"
    await world.remove(TASKS, "parent")


async def handed_over(world: World) -> None:
    """A task runs in a container that was parked before."""
    # A task that takes something from taskDefaults is not handed over.
    spec = {"standby": {"maxPerWorker": 2}, "taskDefaults": None}
    await world.patch(TASKCLUSTERS, "counter", {"spec": spec})
    for number in range(100):
        name = f"quick-{number}"
        await world.task(name, "true", clusterName="counter")
        status = (await world.finished(name))["status"]
        assert status["state"] == "Succeeded"
        if status["containerName"].startswith("s-"):
            return
        await asyncio.sleep(0.5)
    raise AssertionError("nothing was handed to a parked container")


async def many_results(world: World) -> None:
    """A task reads so many results of its children that the agent lists them."""
    script = (
        "for n in 1 2 3 4 5 6; do taskctl-init spawn --key $n -- taskctl-init output $n; done; "
        "test $(taskctl-init results | wc -l) = 6; "
        # Whether it may is asked of the TaskCluster.
        "taskctl-init spawn --cluster elsewhere -- true 2>&1 | grep spec.peers"
    )
    await world.task("joins", "sh", "-ec", script, clusterName="counter")
    assert (await world.finished("joins", timeout_s=60))["status"]["state"] == "Succeeded"
    await world.remove(TASKS, "joins")


async def work(world: World) -> None:
    """The counter; a task with two outputs, removed when its time is up; workers come and go."""
    await apply(world, DEMO / "counter" / "taskcluster.yaml")
    await world.cluster_ready("counter")
    await apply(world, DEMO / "counter" / "task.yaml", **{'limit: "50"': 'limit: "4"'})
    await chain(world, "task-", 4)
    await handed_over(world)
    twice = "taskctl-init output --data n=1 && taskctl-init output --data n=2"
    await world.task("brief", "sh", "-c", twice, clusterName="counter",
                     ttlSecondsAfterFinished={"success": 0})  # fmt: skip

    async def brief_is_gone() -> bool:
        try:
            await world.get(TASKS, "brief")
        except NotFound:
            return True
        return False

    await eventually(brief_is_gone, bool, what="removed")
    await cancelled_tree(world)
    await many_results(world)
    own = {"cluster": {"replicas": 1}, "image": "busybox:latest", "command": ["true"]}
    await world.make(TASKS, "own", spec=own)
    assert (await world.finished("own", timeout_s=60))["status"]["state"] == "Succeeded"
    await world.remove(TASKS, "own")
    graph = [{"name": "only", "image": "busybox", "command": ["true"]}]
    spec = {"clusterName": "counter", "tasks": graph}
    await world.make(TASKS, "graph", spec=spec)
    assert (await world.finished("graph"))["status"]["state"] == "Succeeded"
    # The controller looks for the Secret, which is not there.
    spec = {"notify": [{"url": "http://127.0.0.1:9/", "retryLimit": 0}]}
    await world.task("told", "true", clusterName="counter", **spec)
    await eventually(
        lambda: world.get(TASKS, "told"),
        lambda task: "GivenUp" in str(task["status"].get("tree")),
        what="given up",
        timeout_s=60,
    )
    told = await world.get(TASKS, "told")
    assert told["status"]["tree"]["notifications"][0]["reason"] == "SecretNotFound"
    retain = {"replicas": 1, "workspace": {"reclaim": "Retain"}}
    await world.patch(TASKCLUSTERS, "counter", {"spec": retain})
    await eventually(world.workers, lambda pods: len(pods) == 1, what="one worker")
    await world.patch(TASKCLUSTERS, "counter", {"spec": {"workspace": {"reclaim": "Delete"}}})
    await world.remove(TASKCLUSTERS, "counter")
    await eventually(world.workers, lambda pods: pods == [], what="no workers")
    await eventually(lambda: world.all(PVCS), lambda claims: claims == [], what="no claim")


def granted(options: InstallOptions) -> set[Used]:
    """What the roles of controller and workers allow."""
    owner = {"taskctl-leader-election": CONTROLLER, "taskctl-notify": CONTROLLER}
    return {
        (owner.get(obj["metadata"]["name"], obj["metadata"]["name"]), verb, group, resource)
        for obj in build(options)
        if obj["kind"] in ("Role", "ClusterRole")
        and obj["metadata"]["name"] not in ("taskctl-view", "taskctl-edit")
        for rule in obj["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


@pytest.mark.parametrize(
    ("options", "served"),
    [
        (InstallOptions(notify_allow=HOSTS), "batch"),
        (InstallOptions(namespace="team", scope=Scope.NAMESPACE, notify_allow=HOSTS), "team"),
    ],
    ids=["cluster", "namespace"],
)
@pytest.mark.timeout(240)
async def test_the_rights_suffice_and_are_needed(
    tmp_path: Path, authorizer: Authorizer, options: InstallOptions, served: str
) -> None:
    async with installed(tmp_path, options, served) as world:
        try:
            await work(world)
        except AssertionError:
            print((tmp_path / "controller.log").read_text()[-4000:])
            raise
    assert authorizer.refused == []
    unused = granted(options) - authorizer.used
    assert unused == unused & SELDOM.keys(), "rights that nobody needs"


def test_an_authorizer_that_lets_everything_pass_would_prove_nothing() -> None:
    rule = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}
    asked = Attributes("get", "", "pods", "a", "ns")
    assert asked.allowed_by(rule)
    for other in (
        Attributes("list", "", "pods", "a", "ns"),
        Attributes("get", "apps", "pods", "a", "ns"),
        Attributes("get", "", "pods/log", "a", "ns"),
        Attributes("get", "", "pods", "b", "ns"),
    ):
        assert not other.allowed_by(rule)

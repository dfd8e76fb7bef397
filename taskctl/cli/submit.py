"""``taskctl submit``: Tasks from options, any objects from manifests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskctl.cli import completing
from taskctl.cli.access import Access, Session
from taskctl.cli.durations import parse_whole_seconds
from taskctl.cli.exits import CliError, ExitCode, UsageError
from taskctl.cli.manifest import (
    Object,
    check_own,
    generate_name,
    parse_input,
    parse_pairs,
    read_manifests,
    set_params,
    task_manifest,
)
from taskctl.cli.names import parse_name, parse_names, parse_when
from taskctl.cli.output import Output, echo, note, object_name, print_objects
from taskctl.cli.verbs import verb
from taskctl.clock import SystemClock, format_micro
from taskctl.constants import ANNOTATION_CREATED, GROUP
from taskctl.errors import AlreadyExists, NotFound

if TYPE_CHECKING:
    from taskctl.kube.resources import Resource

_TASK = "The task"
_RUN = "When and how it runs"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitOptions:
    """The options of ``submit``; those of a Task are fields of its spec."""

    command: Annotated[
        list[str] | None,
        typer.Argument(help="Program and arguments, after `--`.", metavar="COMMAND"),
    ] = None
    file: Annotated[
        list[str] | None,
        typer.Option(
            "--file", "-f", metavar="FILE", help="Manifests instead of options (`-`: stdin)."
        ),
    ] = None
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            "-p",
            metavar="NAME=VALUE",
            help="With -f: value of a parameter (spec.params); repeat.",
        ),
    ] = None
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Default: made from the command.", rich_help_panel=_TASK),
    ] = None
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="TaskCluster to run on. Default: `default`, else the only one.",
            autocompletion=completing.clusters,
            rich_help_panel=_TASK,
        ),
    ] = None
    image: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="Image.", rich_help_panel=_TASK)
    ] = None
    input: Annotated[
        str | None,
        typer.Option(
            metavar="JSON", help="Input: JSON, @FILE or - for stdin.", rich_help_panel=_TASK
        ),
    ] = None
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="Input as a map of text; repeat.", rich_help_panel=_TASK
        ),
    ] = None
    env: Annotated[
        list[str] | None,
        typer.Option(
            "--env",
            "-e",
            metavar="KEY=VALUE",
            help="Environment variable; repeat.",
            rich_help_panel=_TASK,
        ),
    ] = None
    workdir: Annotated[
        str | None, typer.Option(metavar="DIR", help="Working directory.", rich_help_panel=_TASK)
    ] = None
    timeout: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="Limit of one attempt: seconds, or 5m, 1h30m.",
            rich_help_panel=_RUN,
        ),
    ] = None
    retries: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, max=1000, help="Attempts after a failed one.", rich_help_panel=_RUN
        ),
    ] = None
    priority: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=-(2**31),
            max=2**31 - 1,
            help="Higher runs first.",
            rich_help_panel=_RUN,
        ),
    ] = None
    slots: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=100,
            help="Slots of the worker it takes.",
            rich_help_panel=_RUN,
        ),
    ] = None
    cpu: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="CPUs of the worker it takes, for example 500m or 2.",
            rich_help_panel=_RUN,
        ),
    ] = None
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Memory of the worker it takes, and may hold at most, for example 512Mi.",
            rich_help_panel=_RUN,
        ),
    ] = None
    after: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK",
            help="Run after that Task; repeat.",
            rich_help_panel=_RUN,
            autocompletion=completing.tasks,
        ),
    ] = None
    when: Annotated[
        str | None,
        typer.Option(
            metavar="OUTCOME",
            help="With --after: Success (default), Failure or Always.",
            rich_help_panel=_RUN,
        ),
    ] = None
    group: Annotated[
        str | None, typer.Option(metavar="NAME", help="Free name of a set.", rich_help_panel=_RUN)
    ] = None
    notify: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="Have the controller tell that URL how it ended; repeat.",
            rich_help_panel=_RUN,
        ),
    ] = None
    suspend: Annotated[
        bool, typer.Option("--suspend", help="Create it suspended.", rich_help_panel=_RUN)
    ] = False
    wait: Annotated[
        bool,
        typer.Option(
            "--wait",
            "-w",
            help="Wait for the end, with the log on stderr; exit code 1 if it fails.",
        ),
    ] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Let the server check it; create nothing.")
    ] = False
    output: Annotated[
        Output | None, typer.Option("--output", "-o", help="What to print of the objects.")
    ] = None


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verb(app, "submit")(submit)


async def submit(access: Access, options: SubmitOptions) -> int:
    """Create a task, and print its name.

    taskctl submit --image busybox -- sh -c 'echo hello'
    """
    async with access.connect() as session:
        if options.file:
            objects = read_manifests(options.file)
            set_params(objects, parse_pairs(options.param or (), "--param"))
            _refuse_task_options(options)
        else:
            if options.param:
                raise UsageError("--param needs -f, a manifest with spec.params")
            objects = [await _task_from_options(session, options)]
        check_own(objects)
        _settle_namespaces(objects, access.namespace, session.namespace)
        created = await _create_all(session, objects, options)
        if options.dry_run or options.output not in (None, Output.TABLE, Output.WIDE):
            output = options.output if options.output not in (None, Output.TABLE) else Output.YAML
            print_objects(created, output or Output.YAML, single=len(created) == 1)
        if options.wait and not options.dry_run:
            return await _wait_for(session, created)
    return ExitCode.OK


def _refuse_task_options(options: SubmitOptions) -> None:
    allowed = {"file", "param", "wait", "dry_run", "output"}
    for name in (name for name in options.__dataclass_fields__ if name not in allowed):
        if getattr(options, name) not in (None, False, []):
            option = "a command" if name == "command" else f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} and -f exclude each other; put it into the manifest")


async def _task_from_options(session: Session, options: SubmitOptions) -> Object:
    if not options.command:
        raise UsageError("name the command after `--`, or a manifest with -f")
    if options.input is not None and options.data:
        raise UsageError("--input and --data exclude each other")
    if options.when and not options.after:
        raise UsageError("--when needs --after")
    name = generate_name(options.command) if options.name is None else options.name
    if not name:
        raise UsageError("--name is empty; leave it out to have one made from the command")
    environment = parse_pairs(options.env or (), "--env")
    timeout_s = None
    if options.timeout is not None:
        timeout_s = parse_whole_seconds(options.timeout, "--timeout")
    cluster = await _cluster(session, options.cluster)
    if not options.image:
        await _check_default_image(session, cluster)
    spec: dict[str, Any] = {
        "clusterName": cluster,
        "image": options.image or None,
        "command": list(options.command),
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "workingDir": options.workdir,
        "timeoutSeconds": timeout_s,
        "retry": None if options.retries is None else {"limit": options.retries},
        "priority": options.priority,
        "slots": options.slots,
        "resources": _resources(options),
        "runAfter": {"tasks": parse_names(options.after, "--after")} if options.after else None,
        "when": None if options.when is None else parse_when(options.when),
        "group": options.group,
        "notify": [{"url": url} for url in options.notify or ()],
        "suspend": options.suspend,
    }
    task = task_manifest(name, spec)
    # After the empty fields were left out: null, false and 0 are inputs too.
    if options.input is not None:
        task["spec"]["input"] = parse_input(options.input)
    elif options.data:
        task["spec"]["input"] = parse_pairs(options.data, "--data")
    return task


def _resources(options: SubmitOptions) -> dict[str, Any] | None:
    """Return ``spec.resources``; the model checks the amounts."""
    requests = {"cpu": options.cpu, "memory": options.memory}
    if not any(requests.values()):
        return None
    limits = {"memory": options.memory} if options.memory else None
    return {"requests": {name: text for name, text in requests.items() if text}, "limits": limits}


async def _check_default_image(session: Session, cluster: str) -> None:
    """Make sure that a Task without an image gets one.

    Raises:
        UsageError: neither option nor TaskCluster name one.
    """
    from taskctl.api.resources import TASKCLUSTERS
    from taskctl.policy.taskdefaults import defaults_of

    found: Mapping[str, Any] | None = None
    with contextlib.suppress(NotFound):
        found = await session.client.get(TASKCLUSTERS, cluster, session.namespace)
    if not defaults_of(found).get("image"):
        raise UsageError(
            f"--image is missing, and TaskCluster {cluster} has no spec.taskDefaults.image (on the "
            "local stack any name will do, e.g. busybox)"
        )


async def _cluster(session: Session, named: str | None) -> str:
    import json

    from taskctl.api.resources import TASKCLUSTERS
    from taskctl.policy.defaultcluster import choose_cluster, default_cluster

    if named is not None:
        return parse_name(named, "TaskCluster", "--cluster")
    page = await session.client.list_all(TASKCLUSTERS, session.namespace)
    names = sorted(item["metadata"]["name"] for item in page.items)
    chosen = choose_cluster(names)
    if chosen is not None:
        return chosen
    if not names:
        body = json.dumps(default_cluster(1, session.namespace), separators=(",", ":"))
        raise CliError(
            f"there is no TaskCluster in namespace {session.namespace}; create one, for example: "
            f"echo '{body}' | taskctl submit -f -",
            ExitCode.NOT_FOUND,
        )
    raise UsageError(f"say which TaskCluster with --cluster: {', '.join(names)}")


def _settle_namespaces(objects: Sequence[Object], asked: str | None, default: str) -> None:
    for obj in objects:
        own = obj["metadata"].get("namespace")
        if own and asked and own != asked:
            raise UsageError(
                f"{obj['kind']} {obj['metadata'].get('name')} says namespace {own}, "
                f"-n says {asked}; remove one"
            )
        obj["metadata"].setdefault("namespace", default)


async def _create_all(
    session: Session, objects: Sequence[Object], options: SubmitOptions
) -> list[Object]:
    kinds = Kinds(session)
    results = []
    for obj in objects:
        resource = await kinds.find(obj["apiVersion"], obj["kind"])
        if not resource.namespaced:
            obj["metadata"].pop("namespace", None)
        result, what = await _create(session, resource, obj, dry_run=options.dry_run)
        results.append(result)
        if options.output in (None, Output.TABLE, Output.WIDE) and not options.dry_run:
            if options.file:
                echo(f"{object_name(result)} {what}")
            else:
                echo(result["metadata"]["name"])
    return results


async def _create(
    session: Session, resource: Resource, obj: Object, *, dry_run: bool
) -> tuple[Object, str]:
    from taskctl.kube.interface import PatchOptions
    from taskctl.outside.tracing import trace_annotations

    namespace = obj["metadata"].get("namespace")
    # As kubectl does, so that what `get -o yaml` prints can be created again.
    obj["metadata"].pop("resourceVersion", None)
    if obj["kind"] == "Task":  # for the latency receipt: the server notes whole seconds only
        notes = obj["metadata"].get("annotations") or {}
        created = {ANNOTATION_CREATED: format_micro(SystemClock().now())}
        obj["metadata"]["annotations"] = trace_annotations() | notes | created
    try:
        result = await session.client.create(resource, obj, namespace, dry_run=dry_run, strict=True)
    except AlreadyExists as error:
        name = obj["metadata"]["name"]
        if obj["kind"] == "TaskObject":
            found = await session.client.get(resource, name, namespace)
            if all(found.get(key) == obj.get(key) for key in ("data", "value", "ref")):
                return found, "unchanged"
        # A Task is a run and a TaskObject a value: the same name again is a mistake. What
        # describes a state (a TaskCluster, an account) is brought to that state.
        if obj["kind"] in ("Task", "TaskObject"):
            remedy = f"choose another name, or delete it: kubectl delete {object_name(obj)}"
            raise CliError(f"{obj['kind']} {name} exists already; {remedy}") from error
        if dry_run:
            return obj, "exists"
        result = await session.client.patch(
            resource, name, namespace, obj, options=PatchOptions(strict=True)
        )
        return result, "configured"
    return result, "created"


async def _wait_for(session: Session, objects: Sequence[Object]) -> int:
    from taskctl.cli.hints import hint_for
    from taskctl.cli.livelog import stderr_logs
    from taskctl.cli.waiting import WaitSettings, verdict, wait_for

    tasks = [obj["metadata"]["name"] for obj in objects if obj["kind"] == "Task"]
    namespaces = {obj["metadata"]["namespace"] for obj in objects if obj["kind"] == "Task"}
    if not tasks:
        raise UsageError("--wait: there is no Task among the objects")
    if len(namespaces) > 1:
        raise UsageError("--wait: the Tasks are in more than one namespace; wait for each alone")
    there = replace(session, namespace=namespaces.pop())
    async with stderr_logs(there, several=len(tasks) > 1) as logs:

        async def tell(task: dict[str, Any]) -> None:
            await logs.drained(task["metadata"]["uid"])
            note(verdict(task))
            if hint := hint_for(task):
                note(hint)

        try:
            return await wait_for(there, WaitSettings(names=tasks), report=tell, see=logs.see)
        except asyncio.CancelledError:
            names = " ".join(tasks)
            note(f"not waited for any longer; to stop what was submitted: taskctl cancel {names}")
            raise


class Kinds:
    """Finds the resource of a kind by the server's discovery documents."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: dict[tuple[str, str], Resource] = {}

    async def find(self, api_version: str, kind: str) -> Resource:
        """Return where objects of that kind live.

        Raises:
            CliError: the server has no such kind.
        """
        from taskctl.api import resources

        for known in (resources.TASKS, resources.TASKOBJECTS, resources.TASKCLUSTERS):
            if (known.api_version, known.kind) == (api_version, kind):
                return known
        if (api_version, kind) not in self._known:
            await self._discover(api_version)
        try:
            return self._known[api_version, kind]
        except KeyError:
            hint = "; taskctl crds --apply" if api_version.startswith(f"{GROUP}/") else ""
            raise CliError(
                f"the API server has no kind {kind} in {api_version}{hint}", ExitCode.NOT_FOUND
            ) from None

    async def _discover(self, api_version: str) -> None:
        import json

        from taskctl.kube.resources import Resource

        root = "/apis/" if "/" in api_version else "/api/"
        try:
            body = await self._session.client.request("GET", root + api_version)
        except NotFound:
            return
        group, _, version = api_version.rpartition("/")
        for entry in json.loads(body).get("resources", ()):
            if "/" not in entry["name"]:
                self._known[api_version, entry["kind"]] = Resource(
                    group, version, entry["name"], entry["kind"], entry["namespaced"]
                )

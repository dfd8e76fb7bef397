"""``taskctl.Client`` against a whole local stack: tasks really run."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from taskctl import Client, SyncClient
from taskctl.api.resources import TASKOBJECTS, TASKS
from taskctl.api.states import TaskState
from taskctl.errors import AlreadyExists, ConfigError, Invalid, NotFound
from taskctl.outside.handle import Handle
from taskctl.outside.rerunning import RetryRefused
from taskctl.sdk.errors import ChildCancelled, ChildFailed, ChildGone, Unsendable
from taskctl.testing.stack import Component, LocalStack
from tests.embedded.client_tasks import (
    Colour,
    Order,
    fail,
    flaky,
    grow,
    large,
    nap,
    needing,
    same,
    square,
)
from tests.embedded.world import World, eventually

ORDER = Order(3, 2.0, datetime(2026, 1, 2, tzinfo=UTC), Colour.RED, Path("/x"), {"a": (1, b"\xff")})


@pytest.fixture
async def c(world: World, stack: LocalStack) -> AsyncIterator[Client]:
    """Return a client of the test's namespace, which has a TaskCluster."""
    await world.cluster(replicas=2)
    async with Client(kubeconfig=stack.kubeconfig, namespace=world.namespace) as client:
        yield client


async def test_a_function_runs_and_its_result_comes_back(c: Client) -> None:
    handle = await c.submit(same, ORDER)
    assert await handle.result(60) == ORDER
    assert await handle == ORDER
    status = await handle.status()
    assert (status.state, status.attempt, status.exit_code) == (TaskState.SUCCEEDED, 1, 0)
    assert status.pod_names == [status.pod_name]


async def test_a_failure_is_an_exception_with_reason_and_last_line(c: Client) -> None:
    handle = await c.submit(fail, "no such luck")
    with pytest.raises(ChildFailed, match="no such luck") as caught:
        await handle.result(60)
    error = caught.value
    assert (error.reason, error.exit_code, error.attempt) == ("NonZeroExit", 1, 1)
    assert error.last_line == "ValueError: no such luck"
    assert error.child is handle
    assert str(await handle.exception()) == str(error)
    assert "about to fail" in [line async for line in handle.logs()]


async def test_a_command_with_options(c: Client, world: World) -> None:
    handle = await c.submit(
        ["sh", "-c", 'echo "$WHO in $(pwd)"; taskctl-init output "$(taskctl-init input)"'],
        env={"WHO": "me"},
        working_dir="/",
        input={"a": [1]},
        name="by-name",
        group="g",
    )
    assert await handle.result(60) == {"a": [1]}
    assert [line async for line in handle.logs()] == ["me in /"]
    assert (await world.get(TASKS, "by-name"))["spec"]["group"] == "g"
    with pytest.raises(AlreadyExists):
        await c.submit(["true"], name="by-name")


async def test_map_of_200(c: Client) -> None:
    handles = await c.map(square, range(200), slots=1)
    assert len({handle.name for handle in handles}) == 200
    assert await c.gather(handles) == [number * number for number in range(200)]


async def test_large_arguments_and_results(c: Client, world: World) -> None:
    numbers = list(range(100_000))
    handle = await c.submit(large, len(numbers))
    assert await handle.result(60) == numbers
    stored = await world.get(TASKOBJECTS, f"{handle.name}-output")
    assert "ref" in stored
    text = "x" * 200_000
    counted = await c.submit(["sh", "-c", "taskctl-init input | wc -c"], input=text)
    await counted.result(60)
    assert [line.strip() async for line in counted.logs()] == [
        "200003"
    ]  # with quotes and the line's end
    given = await world.get(TASKOBJECTS, f"{counted.name}-input")
    assert given["metadata"]["ownerReferences"][0]["uid"] == counted.uid
    with pytest.raises(Unsendable, match="holds about 1048576"):
        await c.submit(["true"], input="x" * 2_000_000)


async def test_tree_wait_and_delete(c: Client, world: World) -> None:
    handle = await c.submit(grow, 3)
    info = await handle.wait(60)
    assert info.complete
    assert info.succeeded
    tree = await handle.tree()
    assert [task.state for task in tree] == [TaskState.SUCCEEDED] * 4
    assert len(tree.children[0].children[0].children) == 1
    assert handle.name in tree._repr_html_()
    await handle.delete()
    await eventually(lambda: world.all(TASKS), lambda tasks: not tasks, what="gone")
    with pytest.raises(ChildGone):
        await handle.status()


async def test_cancel_and_deletion_while_waiting(c: Client) -> None:
    cancelled, deleted = await c.submit(nap, 60.0), await c.submit(nap, 60.0)
    waiting = asyncio.create_task(deleted.result())
    await begun(cancelled)
    await cancelled.cancel()
    with pytest.raises(ChildCancelled):
        await cancelled.result(60)
    await cancelled.cancel()  # once more does no harm
    await c.delete(deleted.name)
    with pytest.raises(ChildGone):
        await asyncio.wait_for(waiting, 60)


async def begun(handle: Handle[Any]) -> None:
    async with aclosing(handle.logs(follow=True)) as lines:
        async for line in lines:
            assert line == "awake"
            return


async def test_a_short_timeout_leaves_the_task_alone(c: Client) -> None:
    handle = await c.submit(nap, 1.0)
    with pytest.raises(TimeoutError):
        await handle.result(0.05)
    assert await handle.result(60) == "done"


async def test_logs_over_retries(c: Client, world: World) -> None:
    handle = await c.submit(flaky, Path("/workspace/marker"))
    lines = [line async for line in handle.logs(follow=True)]
    assert [line for line in lines if line.startswith("try")] == ["try False", "try True"]
    assert await handle.result(60) == "second"
    assert "try False" in [line async for line in handle.logs(attempt=1)]


async def test_after_retry_the_new_end_counts(c: Client) -> None:
    marker = Path("/workspace/ready")
    joined = await c.submit(needing, marker, True)
    left_alone = await c.submit(needing, marker, False)
    with pytest.raises(ChildFailed, match="not ready"):
        await joined.result(60)
    assert await left_alone.result(60) == 0
    assert not (await left_alone.wait(60)).succeeded  # its child has failed
    looked_up = await c.get(joined.name)  # has a watch of its own
    assert (await looked_up.exception(60)) is not None
    assert not (await joined.wait(60)).succeeded
    await (await c.submit(["touch", str(marker)])).result(60)

    queued = await joined.retry(failed=True)
    assert {task.name for task in queued} == {task.name for task in await joined.tree()}
    assert await looked_up.result(60) == await joined.result(60) == 2
    assert (await looked_up.wait(60)).succeeded

    (child,) = await left_alone.retry(failed=True)
    assert child.name != left_alone.name
    assert (await left_alone.wait(60)).succeeded
    assert await (await c.get(child.name)).result(60) == 1

    assert await joined.retry(failed=True) == []
    with pytest.raises(RetryRefused, match="it is Succeeded"):
        await c.retry(joined.name)
    await joined.delete()
    with pytest.raises(ChildGone):
        await joined.retry()


async def test_list_and_get_and_create(c: Client, world: World) -> None:
    for number in range(5):
        await (await c.submit(["true"], name=f"t-{number}")).result(60)
    await (await c.submit(["false"], name="bad")).exception(60)
    first = await c.list(state="succeeded", limit=2)
    assert len(first.tasks) == 2
    rest = await c.list(state=TaskState.SUCCEEDED, limit=10, continue_token=first.continue_token)
    names = [task.name for task in (*first.tasks, *rest.tasks)]
    assert sorted(names) == [f"t-{number}" for number in range(5)]
    assert [task.name for task in (await c.list(state="Failed")).tasks] == ["bad"]
    with pytest.raises(ValueError, match="no state"):
        await c.list(state="odd")
    assert (await (await c.get("t-1")).status()).succeeded
    with pytest.raises(NotFound):
        await c.get("t-9")
    manifest = {
        "apiVersion": "taskctl.dev/v1alpha1",
        "kind": "Task",
        "metadata": {"name": "raw"},
        "spec": {"clusterName": "c", "image": "x", "command": ["taskctl-init", "output", "7"]},
    }
    made = await c.create(manifest)
    assert isinstance(made, Handle)
    assert await made.result(60) == 7
    with pytest.raises(Invalid):
        await c.create({**manifest, "metadata": {"name": "two"}, "spec": {"image": "x"}})
    with pytest.raises(ConfigError, match="kubectl"):
        await c.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}})


async def test_watch_and_results_survive_a_restart_of_the_server(
    c: Client, stack: LocalStack
) -> None:
    seen: dict[str, list[str]] = {}

    async def watch() -> None:
        async with aclosing(c.watch()) as events:
            async for event in events:
                seen.setdefault(event.task.name, []).append(event.task.state)

    watching = asyncio.create_task(watch())
    before = await c.submit(nap, 2.0, name="before")
    waiting = asyncio.create_task(before.result(90))
    await begun(before)
    await asyncio.to_thread(stack.kill, Component.SERVER)
    await asyncio.to_thread(stack.start, Component.SERVER)
    after = await c.submit(same, ORDER, name="after")
    assert await after.result(90) == ORDER
    assert await waiting == "done"
    await eventually(
        lambda: asyncio.sleep(0, seen),
        lambda found: all(found.get(n, [""])[-1] == "Succeeded" for n in ("before", "after")),
        what="told of both",
    )
    watching.cancel()


async def test_functions_that_no_module_holds_travel_by_value(c: Client) -> None:
    offset = 40

    def add(number: int) -> int:
        return number + offset

    lambda_: Callable[[int], int] = lambda number: number * offset  # noqa: E731
    assert await (await c.submit(add, 2)).result(60) == 42
    assert await (await c.submit(lambda_, 2)).result(60) == 80
    assert await (await c.submit(square, 5, by_value=True)).result(60) == 25
    lock = threading.Lock()

    def locked() -> bool:
        return lock.locked()

    with pytest.raises(Unsendable, match="must not hold open files"):
        await c.submit(locked)


FOLDER = {
    "tools/__init__.py": "",
    "tools/numbers.py": "def double(number):\n    return 2 * number\n",
    "main.py": (
        "from taskctl.sdk import spawn, task\nfrom tools.numbers import double\n\n\n"
        "@task\nasync def run(number: int) -> str:\n"
        "    if number:\n        await spawn(run, number - 1)\n"
        "    return open('text.txt').read() + str(double(number))\n"
    ),
    "text.txt": "twice ",
    ".secret": "x",
}


async def test_a_folder_is_uploaded_once(
    c: Client, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in FOLDER.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    import main  # type: ignore[import-not-found]

    handles = [await c.submit(main.run, number, code=tmp_path) for number in (1, 1)]
    assert [await handle.result(60) for handle in handles] == ["twice 2", "twice 2"]
    assert (await handles[0].wait(60)).succeeded  # the child found the code, too
    tasks = [task["metadata"]["name"] for task in await world.all(TASKS)]
    assert len([name for name in tasks if name.startswith("code-")]) == 1
    with pytest.raises(Unsendable, match="is not in the folder"):
        await c.submit(square, 1, code=tmp_path)


async def test_uploaded_code_that_was_changed_is_not_run(
    c: Client, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "changed.py").write_text("def run() -> int:\n    return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import changed  # type: ignore[import-not-found]

    assert await (await c.submit(changed.run, code=tmp_path)).result(60) == 1
    stored = next((world.workspace() / ".taskctl" / "code").glob("*.zip"))
    stored.write_bytes(stored.read_bytes() + b" ")
    error = await (await c.submit(changed.run, code=tmp_path)).exception(60)
    assert error is not None
    assert "was changed after it was written" in error.message


def test_without_asyncio(stack: LocalStack) -> None:
    async def prepare() -> str:
        from taskctl.kube.client import KubeClient

        async with await KubeClient.connect(stack.client_settings()) as client:
            world = await World.create(client, "sync", stack.data_dir)
            await world.cluster()
            return world.namespace

    namespace = asyncio.run(prepare())
    with SyncClient(kubeconfig=stack.kubeconfig, namespace=namespace) as client:
        handle = client.submit(same, ORDER)
        assert handle.result(60) == ORDER
        assert client.gather(client.map(square, [1, 2, 3])) == [1, 4, 9]
        napping = client.submit(nap, 0.2)
        assert list(napping.logs(follow=True)) == ["awake", "rested"]
        assert [event.task.name for event in [next(iter(client.watch(name=handle.name)))]] == [
            handle.name
        ]
        with pytest.raises(ChildFailed, match="boom"):
            client.submit(fail, "boom").result(60)
        failed = client.list(state="Failed").tasks[0].name
        assert [task.name for task in client.retry(failed)] == [failed]
        with pytest.raises(ChildFailed, match="boom"):
            client.get(failed).result(60)
        assert [task.name for task in client.get(failed).retry(failed=True)] == [failed]
        assert json.loads(json.dumps(client.get(handle.name).result(60)))["number"] == 3
    with pytest.raises(ConfigError, match="not open"):
        client.submit(square, 1)

"""spawn and spawn_many: what reaches the agent."""

from __future__ import annotations

import asyncio
import functools
import sys
from pathlib import Path
from typing import Any

import pytest

from taskctl import sdk
from taskctl.sdk import _keys, child, sync
from tests.unit.sdk import sample
from tests.unit.sdk.fake_agent import FakeAgent


async def test_a_group_is_run_after(agent: FakeAgent) -> None:
    after = {"group": "g", "count": 3, "minSuccess": 2, "subtree": True, "tasks": ["x"]}
    await sdk.spawn(["a"], run_after=after)
    assert agent.spawned()[0]["overrides"]["runAfter"] == after


async def test_function(agent: FakeAgent) -> None:
    made = await sdk.spawn(sample.count, 1, 5, key="next")
    assert (made.name, made.uid, made.created, made.key) == (
        "child-next",
        "uid-child-next",
        True,
        "next",
    )
    [spec] = agent.spawned()
    root = str(Path(__file__).resolve().parents[3])
    assert spec == {
        "key": "next",
        "value": {"n": 1, "limit": 5},
        "overrides": {
            "command": [
                *(sys.executable, "-m", "taskctl.sdk.run", "--path", root),
                "tests.unit.sdk.sample:count",
            ],
            "args": [],
        },
    }


@pytest.mark.parametrize("known", [False, True])
async def test_only_arguments_of_functions_are_for_the_task_itself(
    agent: FakeAgent, known: bool
) -> None:
    if known:
        agent.attached["small_limit"] = 2048
    await sdk.spawn_many(
        [
            child(sample.count, 1, 5),
            sample.count.call(1, 6),
            child(["sh"], input={"n": 1}),
            child(sample.echo, sample.Shape("x" * 2000, []), key="large"),
            ["true"],
        ]
    )
    specs = agent.spawned()
    assert "ref" in specs[3]
    assert [spec.get("inline") for spec in specs] == [known or None] * 2 + [None] * 3


async def test_a_key_does_not_depend_on_where_the_input_goes(agent: FakeAgent) -> None:
    await sdk.spawn(sample.count, 1, 5)
    agent.attached["small_limit"] = 2048
    _keys._ledgers.clear()
    await sdk.spawn(sample.count, 1, 5)
    assert len({spec["key"].rpartition("-")[0] for spec in agent.spawned()}) == 1


async def test_who_spawns_too_fast_waits(agent: FakeAgent) -> None:
    agent.too_fast["spawn"] = 2
    assert (await sdk.spawn(sample.count, 1, 5, key="a")).name == "child-a"
    agent.too_fast["spawn"] = 2
    assert sync.spawn(sample.count, 1, 5, key="b").name == "child-b"
    assert agent.too_fast["spawn"] == 0


async def test_who_would_have_to_wait_too_long_is_told_why(agent: FakeAgent) -> None:
    agent.too_fast["spawn"], agent.pause_s = 2, 3600.0
    with pytest.raises(sdk.LimitExceeded, match="spawnRate"):
        await sdk.spawn(sample.count, 1, 5)
    with pytest.raises(sdk.LimitExceeded, match="spawnRate"):
        sync.spawn(sample.count, 1, 5)


async def test_no_more_than_the_burst_at_a_time(agent: FakeAgent) -> None:
    agent.attached["spawn_burst"] = 2
    assert len(await sdk.spawn_many([["true"]] * 5)) == 5
    assert [len(request["tasks"]) for request in agent.asked("spawn")] == [2, 2, 1]


def test_sync(agent: FakeAgent) -> None:
    assert sync.spawn(sample.count, 1, 5, key="next").name == "child-next"
    assert agent.spawned()[0]["value"] == {"n": 1, "limit": 5}


async def test_command(agent: FakeAgent) -> None:
    await sdk.spawn(["sh", "-c", "exit 3"], key="k", input={"a": [1, None]}, name="my-name")
    assert agent.spawned() == [
        {
            "key": "k",
            "name": "my-name",
            "value": {"a": [1, None]},
            "overrides": {"command": ["sh", "-c", "exit 3"], "args": []},
        }
    ]


async def test_same_as_this_task(agent: FakeAgent) -> None:
    await sdk.spawn(None, key="k", input={"n": 2})
    assert agent.spawned() == [{"key": "k", "value": {"n": 2}}]


async def test_options(agent: FakeAgent) -> None:
    first = await sdk.spawn(["a"], key="a")
    await sdk.spawn(
        ["b", Path("/file")],  # type: ignore[list-item]
        key="b",
        input_object="prepared",
        image="other:1",
        env={"A": "1"},
        working_dir="/work",
        timeout_s=60,
        start_deadline_s=30,
        slots=2,
        cpu=0.25,
        memory="64Mi",
        priority=5,
        group="g",
        retry=3,
        ttl={"success": 60},
        run_after=[first, "someone"],
        when="Always",
        suspend=True,
        read_only_workspace=True,
    )
    spec = agent.spawned()[1]
    assert spec["input_object"] == "prepared"
    assert spec["overrides"] == {
        "command": ["b", "/file"],
        "args": [],
        "image": "other:1",
        "env": [{"name": "A", "value": "1"}],
        "workingDir": "/work",
        "timeoutSeconds": 60,
        "startDeadlineSeconds": 30,
        "slots": 2,
        "resources": {
            "requests": {"cpu": "250m", "memory": "64Mi"},
            "limits": {"memory": "64Mi"},
        },
        "priority": 5,
        "group": "g",
        "retry": {"limit": 3},
        "ttlSecondsAfterFinished": {"success": 60},
        "runAfter": {"tasks": ["child-a", "someone"]},
        "when": "Always",
        "suspend": True,
        "readOnlyWorkspace": True,
    }


def test_every_option_has_a_type_and_a_field() -> None:
    """The types are for checkers only, so nothing but this compares them with the table."""
    import ast

    from taskctl.sdk import _options, _specs

    tree = ast.parse(Path(_specs.__file__).read_text())
    [options] = [
        node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == "Options"
    ]
    typed = {
        node.target.id
        for node in options.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    assert typed == set(_options.NAMES) | {"input", "input_object"}
    assert _specs.child.__doc__ is not None
    assert all(f"``{name}``" in _specs.child.__doc__ for name in typed)


def test_fields_are_those_of_the_crd() -> None:
    from taskctl.api.task import TaskSpec
    from taskctl.sdk import _options

    known = {field.alias or name for name, field in TaskSpec.model_fields.items()}
    assert set(_options.FIELDS.values()) <= known


async def test_options_of_the_decorator(agent: FakeAgent) -> None:
    shape = sample.Shape("s", [])
    await sdk.spawn(sample.area, shape, key="a")
    await sdk.spawn(sample.area, shape, key="b", timeout_s=5)
    await sdk.spawn(sample.area.with_options(slots=2).call(shape, 1.5, scale=3, x="y"), key="c")
    first, second, third = (spec["overrides"] for spec in agent.spawned())
    assert (first["timeoutSeconds"], first["retry"]) == (60, {"limit": 3})
    assert (second["timeoutSeconds"], second["retry"]) == (5, {"limit": 3})
    assert third["slots"] == 2
    assert agent.spawned()[2]["value"] == {
        "shape": {
            "name": "s",
            "points": [],
            "color": None,
            "made": None,
            "where": None,
            "weights": {},
        },
        "factors": [1.5],
        "scale": 3,
        "labels": {"x": "y"},
    }


async def test_another_image_has_its_own_python(agent: FakeAgent) -> None:
    await sdk.spawn(sample.nothing, key="a", image="python:3.12")
    assert agent.spawned()[0]["overrides"]["command"][0] == "python3"


async def test_many(agent: FakeAgent) -> None:
    made = await sdk.spawn_many(
        [sample.count.call(1, limit=2), child(sample.nothing, key="n"), ["true"], None]
    )
    assert len(made) == 4
    assert len(agent.asked("spawn")) == 1
    assert made[1].name == "child-n"
    assert [spec.get("value") for spec in agent.spawned()] == [{"n": 1, "limit": 2}, {}, None, None]


def test_many_go_in_batches(agent: FakeAgent) -> None:
    made = sync.spawn_many(child(["true"], key=str(n)) for n in range(2500))
    assert [item.key for item in made] == [str(n) for n in range(2500)]
    assert [len(request["tasks"]) for request in agent.asked("spawn")] == [1000, 1000, 500]


async def test_many_children_may_take_longer(
    agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKCTL_DEADLINE_S", "0.3")
    for spawn_many in (sync.spawn_many, sdk.spawn_many):
        agent.unavailable["spawn"] = 6  # takes 0.6 s at least
        made = spawn_many(child(["true"], key=str(n)) for n in range(200))
        assert len(made if isinstance(made, list) else await made) == 200
    agent.unavailable["spawn"] = 10**6
    with pytest.raises(sdk.AgentAway, match=r"within 0.3 s"):
        await sdk.spawn(["true"], key="alone")


def test_batches_are_cut_by_size(agent: FakeAgent) -> None:
    agent.attached["inline_limit"] = 10_000_000
    text = "x" * 1_500_000
    sync.spawn_many(child(["true"], key=str(n), input=text) for n in range(5))
    assert [len(request["tasks"]) for request in agent.asked("spawn")] == [2, 2, 1]


async def test_none(agent: FakeAgent) -> None:
    assert await sdk.spawn_many([]) == []
    assert agent.requests == []


async def test_concurrent_spawns_share_few_connections(agent: FakeAgent) -> None:
    made = await asyncio.gather(*(sdk.spawn(["true"], key=str(n)) for n in range(60)))
    assert {item.key for item in made} == {str(n) for n in range(60)}
    assert agent.most_at_once < 32, "the agent sees the end of one after the start of another"


# --- keys ---------------------------------------------------------------------------------


async def spawn_some() -> list[str]:
    made = await sdk.spawn_many([["a"], ["a"], ["b"]])
    made.append(await sdk.spawn(["a"]))
    return [item.key for item in made]


async def test_default_keys_are_found_again(
    agent: FakeAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await spawn_some()
    assert len(set(first)) == 4, "equal children are told apart"
    assert all(key.startswith("auto-") for key in first)
    (tmp_path / "second-attempt").touch()
    monkeypatch.setenv("TASKCTL_KEYS", str(tmp_path / "second-attempt"))
    assert await spawn_some() == first
    assert len(agent.children) == 4


async def test_order_does_not_matter(
    agent: FakeAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = {await_key.key for await_key in await sdk.spawn_many([["a"], ["b"], ["c"]])}
    (tmp_path / "second-attempt").touch()
    monkeypatch.setenv("TASKCTL_KEYS", str(tmp_path / "second-attempt"))
    assert {item.key for item in await sdk.spawn_many([["c"], ["a"], ["b"]])} == first


def test_processes_of_one_attempt_share_the_count(agent: FakeAgent) -> None:
    import subprocess

    code = "from taskctl.sdk.sync import spawn; print(spawn(['a']).key)"
    keys = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(3)
    }
    keys.add(sync.spawn(["a"]).key + "\n")
    keys.add(sync.spawn(["a"]).key + "\n")
    assert len(keys) == 5


def test_without_a_shared_file_the_process_counts(
    agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKCTL_KEYS", "/no/such/file")
    assert len({sync.spawn(["a"]).key for _ in range(3)}) == 3


def test_count_of_many_children(tmp_path: Path) -> None:
    from taskctl.sdk._keys import Ledger

    path = tmp_path / "keys"
    path.touch()
    one, other = Ledger(str(path)), Ledger(str(path))
    digest = b"12345678"
    assert one.number([digest] * 20_000) == list(range(20_000))
    assert other.number([digest, b"abcdefgh", digest]) == [20_000, 0, 20_001]
    assert one.number([digest]) == [20_002]


# --- what cannot be spawned -----------------------------------------------------------------


def local_function() -> sdk.TaskFunction[[], None]:
    @sdk.task
    def inner() -> None: ...

    return inner


@pytest.mark.parametrize(
    ("target", "args", "options", "message"),
    [
        (sample.count, ("x", 1), {}, "count(): n: is str, but its annotation is int"),
        (sample.count, (1,), {}, "missing a required argument: 'limit'"),
        (sample.count, (1, 2, 3), {}, "too many positional arguments"),
        (sample.count, (1, 2), {"input": 1}, "arguments are its input"),
        (sample.unannotated, (Path("/x"),), {}, "unannotated(): value: is PosixPath"),
        (sample.unannotated, (float("nan"),), {}, "has no JSON form"),
        (sample.plain, (1,), {}, "not made by @task"),
        (local_function(), (), {}, "defined inside a function"),
        (sdk.task(lambda: None), (), {}, "lambda"),
        (["sh"], (1,), {}, "only a function takes arguments"),
        ([], (), {}, "not empty"),
        ("echo hi", (), {}, "['sh', '-c', 'echo hi']"),
        ([1], (), {}, "list of texts, and not empty; this is [1]"),
        (None, (), {"input": object()}, "input: object has no JSON form"),
    ],
)
async def test_unsendable(
    agent: FakeAgent, target: Any, args: tuple[Any, ...], options: Any, message: str
) -> None:
    with pytest.raises((sdk.Unsendable, TypeError)) as caught:
        await sdk.spawn(target, *args, key="k", **options)
    assert message in str(caught.value)
    assert agent.requests == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env": {"A": None}}, "env['A']: must be text, not None; leave the variable out"),
        ({"env": {"A": b"x"}}, "env['A']: must be text, not bytes"),
        ({"env": {"A": 5}}, "env['A']: must be text, not int; make it a text"),
        ({"env": {"A": True}}, "env['A']: must be text, not bool"),
        ({"env": {"A": "x\0"}}, "env['A']: holds a NUL"),
        ({"env": {"A": "x" * 131_070}}, "env['A']: has 131072 bytes"),
        ({"env": {"A": "\ud800"}}, "env['A']: is not valid Unicode"),
        ({"env": {"": "x"}}, "env: a name: must not be empty"),
        ({"env": {1: "x"}}, "env: a name: must be a text, not int"),
        ({"env": {"A=B": "x"}}, "'A=B' cannot be a variable's name"),
        ({"env": {"TASKCTL_TOKEN": "x"}}, "are taskctl's own"),
        ({"env": "A=1"}, "env: must be a dict of text"),
        ({"env": [{"name": "A", "value": 1}]}, "env[0].value: must be text, not int"),
        ({"env": [{"name": "A", "value_from": {}}]}, "env[0].value_from: unknown field"),
        ({"env": ["A=1"]}, "env[0]: must be a dict"),
        ({"retry": {"backoff_seconds": 60}}, "retry.backoff_seconds: unknown field; known are"),
        ({"retry": {"limit": "3"}}, "retry.limit: must be a whole number, not str '3'"),
        ({"retry": {"limit": -1}}, "retry.limit: is -1"),
        ({"retry": {"onExitCodes": 1}}, "retry.onExitCodes: must be a list"),
        ({"retry": {"onExitCodes": [0]}}, "retry.onExitCodes[0]: is 0; it must be 1 to 255"),
        ({"retry": {"jitter": "0.1"}}, "retry.jitter: must be a number"),
        ({"retry": 1.5}, "retry: must be a dict"),
        ({"retry": True}, "retry: must be a whole number, not bool"),
        ({"ttl": {"succes": 1}}, "ttl.succes: unknown field; known are success, failure"),
        ({"ttl": 60}, "ttl: must be a dict with success, failure, not int"),
        ({"run_after": "x"}, "run_after: must be a list of children or names, not str 'x'"),
        ({"run_after": b"x"}, "run_after: must be a list"),
        ({"run_after": {"task": ["x"]}}, "run_after.task: unknown field; known are tasks, group"),
        ({"run_after": {"tasks": "x"}}, "run_after.tasks: must be a list"),
        ({"run_after": {"tasks": {"tasks": []}}}, "run_after.tasks: must be a list"),
        ({"run_after": {"tasks": [1]}}, "run_after.tasks[0]: must be a text"),
        ({"run_after": {"group": 1}}, "run_after.group: must be a text"),
        ({"run_after": {"group": "g", "count": "2"}}, "run_after.count: must be a whole number"),
        ({"run_after": {"group": "g", "minSuccess": -1}}, "run_after.minSuccess: is -1"),
        ({"run_after": {"group": "g", "subtree": 1}}, "run_after.subtree: must be True or False"),
        ({"run_after": [1]}, "run_after[0]: must be a text, not int"),
        ({"run_after": 5}, "run_after: must be a list"),
        ({"when": "success"}, "when: is 'success'; it must be one of Success"),
        ({"timeout_s": "60"}, "timeout_s: must be a whole number, not str '60'"),
        ({"timeout_s": 0.5}, "timeout_s: must be a whole number, not float"),
        ({"timeout_s": 0}, "timeout_s: is 0"),
        ({"slots": True}, "slots: must be a whole number, not bool"),
        ({"memory": True}, "memory: must be a number or a text such as '512Mi', not bool True"),
        ({"memory": ""}, "memory: is ''"),
        ({"cpu": 0}, "cpu: is 0; it must be a number or a text such as '500m', above 0"),
        ({"cpu": 1, "resources": {}}, "cpu: leave it out, or say it in resources"),
        ({"resources": {"requests": {"gpu": 1}}}, "resources.requests.gpu: unknown field"),
        ({"resources": 5}, "resources: must be a dict with requests, limits"),
        ({"suspend": "no"}, "suspend: must be True or False"),
        ({"read_only_workspace": 1}, "read_only_workspace: must be True or False"),
        ({"image": ["a"]}, "image: must be a text"),
        ({"image": ""}, "image: must not be empty"),
        ({"input_object": 5}, "input_object: must be a text"),
        ({"key": 5}, "key: must be a text"),
        ({"name": b"x"}, "name: must be a text"),
    ],
    ids=str,
)
async def test_wrong_options(agent: FakeAgent, options: Any, message: str) -> None:
    with pytest.raises(sdk.Unsendable) as caught:
        await sdk.spawn(["true"], **{"key": "k", **options})
    assert message in str(caught.value)
    assert agent.requests == []


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ({"a"}, "this is set"),
        (["a\0"], "command[0]: holds a NUL"),
        (["a", "é" * 65_536], "command[1]: has 131072 bytes"),
        (["a", "\ud800"], "command[1]: is not valid Unicode"),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_wrong_commands(agent: FakeAgent, command: Any, message: str) -> None:
    with pytest.raises(sdk.Unsendable) as caught:
        await sdk.spawn(command, key="k")
    assert message in str(caught.value)
    await sdk.spawn(["a", "x" * 131_071], key="k")


async def test_an_option_that_is_none_is_inherited(agent: FakeAgent) -> None:
    await sdk.spawn(["a"], key="k", timeout_s=None, env=None)  # type: ignore[call-overload]
    assert agent.spawned()[0]["overrides"].get("timeoutSeconds") is None


async def test_a_set_of_names_makes_one_key(agent: FakeAgent) -> None:
    await sdk.spawn(["a"], run_after={"c", "b", "a"})  # type: ignore[call-overload]
    assert agent.spawned()[0]["overrides"]["runAfter"] == {"tasks": ["a", "b", "c"]}


class Maker:
    def bound(self) -> None: ...

    def __call__(self) -> None: ...


def numbers() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (functools.partial(sample.plain, 1), "partial has no name by which another process"),
        (Maker(), "Maker has no name by which another process"),
        (Maker().bound, "is bound to an object"),
        (numbers, "numbers() yields"),
        (5, "is not a function"),
        (classmethod(sample.plain), "is not a function"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_a_task(function: Any, message: str) -> None:
    with pytest.raises(sdk.Unsendable) as caught:
        sdk.task(function)
    assert message in str(caught.value)


def test_options_of_the_decorator_are_checked_at_once() -> None:
    with pytest.raises(TypeError, match="unknown option 'timeout'; known are image"):
        sdk.task(timeout=5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="unknown option 'input'"):
        sample.count.with_options(input=5)


def shadowed() -> None: ...


hidden = sdk.task(shadowed)
shadowed = 5  # type: ignore[assignment]


async def test_a_name_that_leads_elsewhere(agent: FakeAgent) -> None:
    with pytest.raises(sdk.Unsendable, match="shadowed is another object"):
        await sdk.spawn(hidden, key="k")


async def test_unknown_option(agent: FakeAgent) -> None:
    with pytest.raises(TypeError, match="unknown option 'imgae'; known are input"):
        await sdk.spawn(["true"], imgae="x")  # type: ignore[call-overload]


def test_function_typed_in(agent: FakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample.nothing.function, "__module__", "__main__")
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__spec__", None)
    monkeypatch.delattr(main, "__file__", raising=False)
    with pytest.raises(sdk.Unsendable, match="put it into a file"):
        sync.spawn(sample.nothing)


# --- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("limit", sdk.LimitExceeded),
        ("conflict", sdk.KeyConflict),
        ("no_workspace", sdk.NoWorkspace),
        ("bad_request", sdk.SpawnRefused),
        ("rejected", sdk.SpawnRefused),
        ("superseded", sdk.SpawnRefused),
    ],
)
def test_refusals(agent: FakeAgent, code: str, error: type[sdk.SdkError]) -> None:
    agent.refusals["spawn"] = (code, "tasks[0].name: is bad")
    with pytest.raises(error, match=r"tasks\[0\].name: is bad") as caught:
        sync.spawn(["true"])
    if isinstance(caught.value, sdk.Refused):
        assert caught.value.code == code
    assert isinstance(caught.value, sdk.SdkError)


async def test_refused_in_async_code(agent: FakeAgent) -> None:
    agent.refusals["spawn"] = ("limit", "too deep")
    with pytest.raises(sdk.LimitExceeded, match="too deep"):
        await sdk.spawn(["true"])


async def test_outside_a_task() -> None:
    with pytest.raises(sdk.NotInTask, match="not started by taskctl"):
        await sdk.spawn(["true"])
    with pytest.raises(sdk.NotInTask):
        sync.spawn(["true"])
    with pytest.raises(sdk.NotInTask):
        sdk.current()

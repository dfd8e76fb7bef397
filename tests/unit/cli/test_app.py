"""Help, exit codes, errors."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml

from taskctl.cli import access
from taskctl.cli.app import VERBS, build_app
from taskctl.cli.exits import CliError, ExitCode, describe
from taskctl.errors import (
    AlreadyExists,
    Cause,
    ConfigError,
    Forbidden,
    Invalid,
    NotFound,
    TaskctlError,
    Unauthorized,
    Unavailable,
)
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake import FakeClient

SHOWN = (
    "submit",
    "get",
    "wait",
    "tree",
    "logs",
    "top",
    "delete",
    "prune",
    "cancel",
    "retry",
    "crds",
    "version",
)
COMPONENTS = ("server", "controller", "node", "agent", "local")


@pytest.mark.parametrize("verb", [*SHOWN, *COMPONENTS])
def test_help_of_every_verb(run: Run, verb: str) -> None:
    result = run(verb, "--help")
    assert result.exit_code == 0
    assert f"taskctl {verb}" in result.stdout or f" {verb} " in result.stdout


def test_help_names_the_exit_codes(run: Run) -> None:
    text = " ".join(run("--help").stdout.split())
    assert "2 wrong usage or setting, 3 not found, 4 timed out, 5 API server not" in text


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from taskctl.cli.app import build_app; build_app(); "
        "print([m for m in ('pydantic', 'aiohttp', 'yaml', 'orjson', 'rich', 'uvloop') "
        "if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


def test_every_verb_is_known_by_its_module() -> None:
    for module, verbs in VERBS.items():
        app = build_app([verbs[0]])
        found = [command.name for command in app.registered_commands]
        found += [group.name for group in app.registered_groups]
        assert tuple(found) == verbs, module


@pytest.mark.parametrize("words", [["tree"], ["-n", "get", "--debug", "--context=a", "tree", "x"]])
def test_only_the_module_of_the_verb_is_loaded(words: list[str]) -> None:
    assert [command.name for command in build_app(words).registered_commands] == ["tree"]


@pytest.mark.parametrize(
    "words", [[], ["--help"], ["tre"], ["-nget", "tree"], ["--", "tree"], ["-n"], ["-x", "tree"]]
)
def test_all_verbs_are_loaded_where_the_verb_is_not_plain(words: list[str]) -> None:
    assert len(build_app(words).registered_commands) > 20


@pytest.mark.parametrize(
    ("verb", "modules"),
    [
        ("tree", "taskctl.kube.client, taskctl.cli.render_tree"),
        ("get", "taskctl.kube.client"),  # what completing a name loads
    ],
)
def test_looking_loads_no_models(verb: str, modules: str) -> None:
    """What has to be there before the first request: it counts for every look at a tree."""
    code = (
        f"import sys; from taskctl.cli.app import build_app; build_app(['{verb}']); "
        "from taskctl.cli.names import parse_name; parse_name('tree'); "
        f"import {modules}; "
        "print([m for m in ('pydantic', 'rich', 'uvloop', 'cryptography', "
        "'kubernetes_asyncio', 'taskctl.cli.submit') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ConfigError("x"), 2, "x"),
        (NotFound("gone", 404), 3, "gone"),
        (NotFound("the server could not find the requested resource", 404), 3, "crds --apply"),
        (NotFound("GET /apis/taskctl.dev/v1alpha1/tasks: HTTP 404", 404), 3, "crds --apply"),
        (Unavailable("no connection"), 5, "no connection"),
        (Unavailable("HTTP 500", 500), 5, "HTTP 500"),
        (Unauthorized("no", 401), 1, "credentials are not valid"),
        (Forbidden("no", 403), 1, "ask for a Role"),
        (AlreadyExists("there", 409), 1, "there"),
        (CliError("late", ExitCode.TIMED_OUT), 4, "late"),
        (TaskctlError("other"), 1, "other"),
    ],
)
def test_errors_become_exit_codes(error: TaskctlError, code: int, words: str) -> None:
    got, lines = describe(error)
    assert got == code
    assert len(lines) == 1
    assert words in lines[0]


def test_several_causes_are_listed() -> None:
    causes = (Cause("spec.a", "", "is bad"), Cause("spec.b", "", "is worse"))
    assert describe(Invalid("two things", 422, causes=causes)) == (
        1,
        ["two things", "  spec.a: is bad", "  spec.b: is worse"],
    )


def test_no_traceback_unless_debug(
    run: Run, monkeypatch: pytest.MonkeyPatch, client: FakeClient
) -> None:
    async def broken(_: access.Access) -> FakeClient:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(access, "open_client", broken)
    result = run("get")
    assert result.exit_code == 1
    assert result.stderr == (
        "taskctl: unexpected ZeroDivisionError: oops; run it again with --debug\n"
    )
    assert "Traceback" in run("get", "--debug").stderr
    assert "Traceback" in run("--debug", "get").stderr


def test_usage_errors(run: Run) -> None:
    assert run("get", "--bad").exit_code == 2
    assert run("wait").exit_code == 2
    assert run("nonsense").exit_code == 2


def test_options_before_and_after_the_verb() -> None:
    outer = access.Access(namespace="a", context="c")
    inner = access.Access(namespace="b", debug=True)
    assert inner.merged_over(outer) == access.Access(namespace="b", context="c", debug=True)
    assert inner.merged_over(None) is inner


def test_version(run: Run) -> None:
    assert run("version").stdout.startswith("taskctl 0.")
    assert run("--version").stdout == run("version").stdout
    assert "version" in json.loads(run("version", "-o", "json").stdout)


def test_crds_are_printed(run: Run) -> None:
    documents = list(yaml.safe_load_all(run("crds").stdout))
    assert [d["metadata"]["name"] for d in documents] == [
        "tasks.taskctl.dev",
        "taskobjects.taskctl.dev",
        "taskclusters.taskctl.dev",
    ]
    assert run("crds", "-o", "name").stdout.count("\n") == 3


def test_crds_are_installed_and_brought_up_to_date(run: Run, client: FakeClient) -> None:
    established = {"conditions": [{"type": "Established", "status": "True"}]}
    from taskctl.api.crds import load_all

    for crd in load_all():
        client.put({**crd, "status": established})
    kind = "CustomResourceDefinition"
    client.objects[kind, "tasks.taskctl.dev"]["spec"]["versions"] = []
    client.objects[kind, "tasks.taskctl.dev"]["spec"]["conversion"] = {"strategy": "None"}
    client.objects[kind, "tasks.taskctl.dev"]["metadata"]["generation"] = 1
    lines = run("crds", "--apply").stdout.splitlines()
    assert [line.split()[-1] for line in lines] == ["unchanged", "unchanged", "unchanged"]
    spec = client.objects[kind, "tasks.taskctl.dev"]["spec"]
    assert len(spec["versions"]) == 1
    assert spec["conversion"] == {"strategy": "None"}

"""From a function and its arguments to objects."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from taskctl.api.task import Task
from taskctl.api.taskobject import TaskObject
from taskctl.errors import ConfigError
from taskctl.outside.submission import (
    FunctionCommand,
    SubmissionFrame,
    arguments_of,
    build,
    default_name,
    split_options,
)
from taskctl.outside.submitter import SubmitTarget, _resolve, decoder
from taskctl.sdk._functions import Call, TaskFunction, decode_arguments, encode_result
from taskctl.sdk._path import Path
from taskctl.sdk._same import difference
from taskctl.sdk.errors import Unsendable
from tests.unit.outside.functions import count, everything, plain
from tests.unit.sdk import hints
from tests.unit.sdk.test_promise import ways

FRAME = SubmissionFrame(
    namespace="ns",
    cluster="c",
    image="img",
    client_id="me",
    submission_id="this",
    created="2026-01-01T00:00:00.000000Z",
)
PROGRAM = FunctionCommand(("python3", "-m", "taskctl.sdk.run", "m:f"))


def test_a_function_becomes_a_task() -> None:
    made = build(FRAME, PROGRAM, {"n": 1}, "t", {"retry": 2, "timeout_s": 5, "env": {"A": "b"}})
    assert made.input_object is None
    task = Task.from_json(made.task)  # which the API server takes
    assert (task.spec.image, task.spec.input, task.spec.timeout_seconds) == ("img", {"n": 1}, 5)
    assert task.spec.retry is not None
    assert task.spec.retry.limit == 2
    assert made.task["metadata"]["labels"] == {"taskctl.dev/client": "me"}


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}])
def test_an_input_that_is_nothing_is_an_input(value: Any) -> None:
    assert build(FRAME, ["true"], None, "t", {"input": value}).task["spec"]["input"] == value
    assert "input" not in build(FRAME, ["true"], None, "t", {}).task["spec"]


def test_a_large_input_is_an_object_of_its_own() -> None:
    made = build(FRAME, PROGRAM, {"n": "x" * 100_000}, "t", {})
    assert made.input_object is not None
    assert TaskObject.from_json(made.input_object).metadata.name == "t-input"
    assert made.task["spec"]["inputObject"] == "t-input"
    assert "input" not in made.task["spec"]


def test_uploads_are_waited_for() -> None:
    program = FunctionCommand(("x",), after=("code-1",))
    spec = build(FRAME, program, {}, "t", {"run_after": ["a"]}).task["spec"]
    assert spec["runAfter"] == {"tasks": ["a", "code-1"]}


@pytest.mark.parametrize(
    ("program", "options", "words"),
    [
        (PROGRAM, {"input": 1}, "a function's arguments are its input"),
        (PROGRAM, {"input_object": "x"}, "a function's arguments are its input"),
        (["true"], {"input": 1, "input_object": "x"}, "either input or input_object"),
        (["true"], {"timeout_s": 0}, "timeout_s: is 0"),
        (["true"], {"retry": {"backoff_seconds": 1}}, "retry.backoff_seconds: unknown field"),
        ("true", {}, "a command is a list"),
        ([], {}, "a command is a list"),
        (["true"], {"env": {"TASKCTL_X": "1"}}, "names that begin with TASKCTL_"),
        (["true"], {"input": "x" * 2**20}, "holds about 1048576"),
    ],
)
def test_what_the_server_would_refuse_is_refused_here(
    program: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(Unsendable, match=words):
        build(FRAME, program, None, "t", options)


def test_no_image() -> None:
    from dataclasses import replace

    with pytest.raises(ConfigError, match="image: is missing"):
        build(replace(FRAME, image=""), ["true"], None, "t", {})


def test_options() -> None:
    own, rest = split_options({"cluster": "c", "code": ".", "slots": 2, "input": 1})
    assert (own, rest) == ({"cluster": "c", "code": "."}, {"slots": 2, "input": 1})
    with pytest.raises(TypeError, match="unknown option 'slot'; known are"):
        split_options({"slot": 2})


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (count, "count-x"),
        (count.call(1), "count-x"),
        (plain, "plain-x"),
        (["/bin/Sh", "-c"], "sh-x"),
        (lambda: 1, "lambda-x"),
        (["---"], "task-x"),
    ],
)
def test_names(target: Any, name: str) -> None:
    found = default_name(target, "x")
    assert found.endswith(name)
    Task.from_json(build(FRAME, ["true"], None, found, {}).task)


def test_options_of_the_function_count_unless_others_are_given() -> None:
    call, options = _resolve(SubmitTarget(count, (1,)), {"slots": 1})
    assert call is not None
    assert (call.args, options) == ((1,), {"retry": 2, "slots": 1})
    call, options = _resolve(SubmitTarget(count.call(number=1, limit=2)), {})
    assert call is not None
    assert (call.kwargs, options["retry"]) == ({"number": 1, "limit": 2}, 2)
    with pytest.raises(Unsendable, match="to call"):
        _resolve(SubmitTarget(count.call(1), (2,)), {})
    with pytest.raises(Unsendable, match="only a function takes arguments"):
        _resolve(SubmitTarget(["true"], (2,)), {})


def test_all_kinds_of_parameters() -> None:
    call: Call[Any, Any] = Call(TaskFunction(everything, {}), (1, 2), {"a": "x"})
    args, kwargs = decode_arguments(everything, arguments_of(call))
    assert (args, kwargs) == ([1, 2], {"a": "x"})


@given(hints.PAIRS)
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_arguments_and_results_come_back_as_in_a_task_or_are_refused(pair: tuple[Any, Any]) -> None:
    hint, value = pair

    def function(argument: Any) -> Any:
        return argument

    function.__annotations__ = {"argument": hint, "return": hint}
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    wrapped: TaskFunction[Any, Any] = TaskFunction(function, {})
    try:
        arguments = arguments_of(Call(wrapped, (value,), {}))
    except Unsendable:
        return
    spec = build(FRAME, PROGRAM, arguments, "t", {}).task["spec"]
    for sent in ways(json.loads(json.dumps(spec["input"]))):
        [got], _ = decode_arguments(function, sent)
        assert difference(value, got, Path(None, "it")) is None
        result = json.loads(json.dumps(encode_result(function, got)))
        for back in ways(result):
            decoded = decoder(wrapped, many=False)(back, "the result")
            assert difference(value, decoded, Path(None, "it")) is None
            assert len(decoder(wrapped, many=True)([back, back], "the results")) == 2

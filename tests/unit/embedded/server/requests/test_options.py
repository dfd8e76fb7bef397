from __future__ import annotations

import pytest

from taskctl.embedded.server.refusals.errors import StatusError
from taskctl.embedded.server.requests import options as request_options
from taskctl.embedded.server.requests.options import FieldValidation, VersionMatch
from taskctl.embedded.server.storage.deletion import Propagation


def test_write_options() -> None:
    query = {"fieldManager": "me", "fieldValidation": "Strict", "force": "true"}
    options = request_options.parse_write_options(query, ["All"], "agent/1.0")
    assert (options.manager, options.dry_run, options.force) == ("me", True, True)
    assert options.validation is FieldValidation.STRICT
    options = request_options.parse_write_options({}, [], "kubectl/v1.32 (linux)")
    assert (options.manager, options.dry_run, options.force) == ("kubectl", False, False)
    assert options.validation is FieldValidation.WARN


@pytest.mark.parametrize(
    ("query", "dry_runs"),
    [
        ({"fieldValidation": "Perhaps"}, []),
        ({}, ["Some"]),
        ({"fieldManager": "x" * 129}, []),
    ],
)
def test_bad_write_options(query: dict[str, str], dry_runs: list[str]) -> None:
    with pytest.raises(StatusError) as caught:
        request_options.parse_write_options(query, dry_runs, "", "UpdateOptions")
    assert caught.value.code == 422
    assert caught.value.message.startswith('UpdateOptions.meta.k8s.io "" is invalid: ')


def test_delete_options_from_body_and_query() -> None:
    body = {
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 5,
        "propagationPolicy": "Foreground",
        "preconditions": {"uid": "u", "resourceVersion": "7"},
        "dryRun": ["All"],
    }
    options = request_options.parse_delete_options({}, [], body)
    assert (options.grace_s, options.uid, options.revision) == (5, "u", "7")
    assert options.propagation is Propagation.FOREGROUND
    assert options.dry_run
    query = {"gracePeriodSeconds": "0", "propagationPolicy": "Orphan"}
    options = request_options.parse_delete_options(query, [], None)
    assert (options.grace_s, options.propagation) == (0, Propagation.ORPHAN)
    for orphan, policy in ((True, Propagation.ORPHAN), (False, Propagation.BACKGROUND)):
        found = request_options.parse_delete_options({}, [], {"orphanDependents": orphan})
        assert found.propagation is policy
    assert request_options.parse_delete_options({}, [], {}).propagation is None
    found = request_options.parse_delete_options({"orphanDependents": "true"}, [], None)
    assert found.propagation is Propagation.ORPHAN


def test_a_body_of_a_delete_replaces_the_query() -> None:
    query = {"gracePeriodSeconds": "x", "propagationPolicy": "Sideways", "orphanDependents": "1"}
    assert (
        request_options.parse_delete_options(query, ["Some"], {}) == request_options.DeleteOptions()
    )


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"kind": "Pod"}, 500),
        ({"propagationPolicy": "Sideways"}, 422),
        ({"gracePeriodSeconds": "soon"}, 500),
        ({"dryRun": ["Some"]}, 422),
        ({"preconditions": "none"}, 500),
    ],
)
def test_bad_delete_options(body: dict[str, object], code: int) -> None:
    with pytest.raises(StatusError) as caught:
        request_options.parse_delete_options({}, [], body)
    assert caught.value.code == code
    assert ("reason" in caught.value.body()) is (code != 500)


def test_a_negative_grace_period_means_one_second() -> None:
    assert request_options.parse_delete_options({}, [], {"gracePeriodSeconds": -1}).grace_s == 1


def test_list_options() -> None:
    options = request_options.parse_list_options(
        {
            "labelSelector": "a=b",
            "fieldSelector": "c=d",
            "resourceVersion": "12",
            "resourceVersionMatch": "Exact",
            "limit": "5",
        }
    )
    assert (options.labels, options.fields, options.revision) == ("a=b", "c=d", 12)
    assert (options.match, options.limit) == (VersionMatch.EXACT, 5)
    watch = request_options.parse_list_options(
        {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": "9", "resourceVersion": ""}
    )
    assert (watch.watch, watch.bookmarks, watch.timeout_s) == (True, True, 9)
    assert (watch.revision, watch.initial_events) == (None, None)


@pytest.mark.parametrize(
    "query", [{"limit": "many"}, {"resourceVersion": "new"}, {"resourceVersion": "-1"},
              {"timeoutSeconds": "1.5"}, {"limit": ""}]
)  # fmt: skip
def test_malformed_list_options(query: dict[str, str]) -> None:
    with pytest.raises(StatusError) as caught:
        request_options.parse_list_options(query)
    assert caught.value.code == 400


@pytest.mark.parametrize("text", ["1_0", " 5 ", "\u0665", "5.0", "0x5", "", "+", "--5"])
def test_what_go_does_not_read_as_a_number(text: str) -> None:
    with pytest.raises(StatusError) as caught:
        request_options.parse_int({"limit": text}, "limit")
    assert caught.value.message == f'strconv.ParseInt: parsing "{text}": invalid syntax'


def test_numbers_of_64_bits() -> None:
    for number in (-(2**63), -5, 0, 2**63 - 1):
        assert request_options.parse_int({"limit": str(number)}, "limit") == number
    assert request_options.parse_int({"limit": "+" + "0" * 5000 + "7"}, "limit") == 7
    assert request_options.parse_int({}, "limit") is None
    for text in (str(2**63), str(-(2**63) - 1), "9" * 5000):
        with pytest.raises(StatusError, match="value out of range"):
            request_options.parse_int({"limit": text}, "limit")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", True), ("true", True), ("yes", True), ("x", True), ("0", False), ("False", False)],
)
def test_flags_mean_yes_unless_they_say_no(text: str, expected: bool) -> None:
    assert request_options.parse_bool({"watch": text}, "watch") is expected
    assert request_options.parse_bool({}, "watch") is False

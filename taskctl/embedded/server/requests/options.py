"""The options of a request, from its URL's query and the body of a delete."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from taskctl.embedded.server.protobuf import shapes
from taskctl.embedded.server.refusals import errors, fields
from taskctl.embedded.server.refusals.fields import FieldError
from taskctl.embedded.server.storage.deletion import Deletion, Propagation


class FieldValidation(StrEnum):
    """What to do about unknown and duplicate fields in a body."""

    IGNORE = "Ignore"
    WARN = "Warn"
    STRICT = "Strict"


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """Options common to create, update and patch.

    Attributes:
        dry_run: check everything, store nothing.
        manager: field manager; by default the client's program name.
        validation: of unknown fields.
        force: on server-side apply, take fields from their managers.
    """

    dry_run: bool = False
    manager: str = "unknown"
    validation: FieldValidation = FieldValidation.WARN
    force: bool = False


def parse_bool(query: Mapping[str, str], name: str) -> bool:
    """Read a flag as k8s.io/apimachinery does: what is there and does not say no means yes."""
    text = query.get(name)
    return text is not None and text != "0" and text.lower() != "false"


# Go's strconv; Python's int() also takes blanks, underscores and digits of other scripts.
_NUMBER: Final = re.compile(r"([+-]?)(?=[0-9])0*([0-9]*)", re.ASCII)
_INT64_DIGITS: Final = 19
_INT64_LIMIT: Final = 2**63


def parse_int(query: Mapping[str, str], name: str) -> int | None:
    """Read a whole number of 64 bits; absent is None.

    Raises:
        errors.StatusError: 400.
    """
    text = query.get(name)
    if text is None:
        return None
    why = "invalid syntax"
    found = _NUMBER.fullmatch(text)
    if found:
        sign, digits = found.groups()
        # Python refuses to read thousands of digits.
        if len(digits) <= _INT64_DIGITS:
            number = int(sign + (digits or "0"))
            if -_INT64_LIMIT <= number < _INT64_LIMIT:
                return number
        why = "value out of range"
    raise errors.bad_request(f'strconv.ParseInt: parsing "{text}": {why}')


def _dry_run(values: list[str], options: str) -> bool:
    if any(value != "All" for value in values):
        raise options_invalid(options, fields.not_supported("dryRun", values, ["All"]))
    return bool(values)


def options_invalid(kind: str, *problems: FieldError) -> errors.StatusError:
    """Return the refusal of options such as CreateOptions or ListOptions."""
    return errors.invalid("meta.k8s.io", kind, "", problems)


def parse_write_options(
    query: Mapping[str, str], dry_runs: list[str], user_agent: str, kind: str = "CreateOptions"
) -> WriteOptions:
    """Read the options of a create, update or patch.

    Args:
        query: the URL's parameters.
        dry_runs: every ``dryRun`` parameter.
        user_agent: the request's header; its program name is the default field manager.
        kind: what Kubernetes calls the options of this verb.

    Raises:
        errors.StatusError: 400; 422.
    """
    text = query.get("fieldValidation", "")
    try:
        validation = FieldValidation(text or "Warn")
    except ValueError:
        supported = ["", "Ignore", "Strict", "Warn"]
        problem = fields.not_supported("fieldValidation", text, supported)
        raise options_invalid(kind, problem) from None
    manager = query.get("fieldManager") or user_agent.split("/", 1)[0] or "unknown"
    if len(manager) > 128:
        raise options_invalid(kind, fields.too_long("fieldManager", 128))
    for place, one in enumerate(manager):
        if not one.isprintable():
            message = f"invalid character U+{ord(one):04X} (at position {place})"
            raise options_invalid(kind, fields.invalid("fieldManager", manager, message))
    return WriteOptions(_dry_run(dry_runs, kind), manager, validation, parse_bool(query, "force"))


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """Options of a delete.

    Attributes:
        grace_s: seconds; None leaves it to the kind.
        uid: precondition.
        revision: precondition.
        propagation: what becomes of dependents.
        dry_run: check everything, store nothing.
    """

    grace_s: int | None = None
    uid: str | None = None
    revision: str | None = None
    propagation: Propagation | None = None
    dry_run: bool = False

    def deletion(
        self, grace_s: int, prepare: Callable[[dict[str, Any]], None], *, graceful: bool
    ) -> Deletion:
        """Return the store's request for these options with the kind's own part.

        Args:
            grace_s: the kind's grace period, seconds.
            prepare: what the kind does to an object that begins to be deleted.
            graceful: the kind has grace periods.
        """
        return Deletion(grace_s, self.uid, self.revision, self.propagation, graceful, prepare)


def parse_delete_options(
    query: Mapping[str, str], dry_runs: list[str], body: dict[str, Any] | None
) -> DeleteOptions:
    """Read the options of a delete; the body, where there is one, replaces the query.

    Args:
        query: the URL's parameters.
        dry_runs: every ``dryRun`` parameter.
        body: parsed; None where the request has none.

    Raises:
        errors.StatusError: 400; 422; 500, the body is malformed.
    """
    options = _delete_query(query, dry_runs) if body is None else dict(body)
    if options.get("kind") not in (None, "", "DeleteOptions"):
        version = options.get("apiVersion") or "meta.k8s.io/v1"
        raise errors.unclassified(
            f'no kind "{options["kind"]}" is registered for version "{version}"'
        )
    problem = shapes.check(options, "v1", "DeleteOptions")
    if problem is not None:  # a real server does not classify what it cannot decode here
        raise errors.unclassified(str(problem))
    grace_s = options.get("gracePeriodSeconds")
    policy = options.get("propagationPolicy")
    if policy and options.get("orphanDependents") is not None:
        message = "orphanDependents and deletionPropagation cannot be both set"
        raise options_invalid("DeleteOptions", fields.invalid("propagationPolicy", policy, message))
    if not policy and options.get("orphanDependents") is not None:
        policy = "Orphan" if options["orphanDependents"] else "Background"
    preconditions = options.get("preconditions") or {}
    try:
        propagation = Propagation(policy) if policy else None
    except ValueError:
        supported = ["Foreground", "Background", "Orphan", "nil"]
        problem = fields.not_supported("propagationPolicy", policy, supported)
        raise options_invalid("DeleteOptions", problem) from None
    if grace_s is not None and grace_s < 0:
        grace_s = 1  # k8s.io/apiserver registry/rest/delete.go
    return DeleteOptions(
        grace_s,
        preconditions.get("uid"),
        preconditions.get("resourceVersion"),
        propagation,
        _dry_run(list(options.get("dryRun") or ()), "DeleteOptions"),
    )


def _delete_query(query: Mapping[str, str], dry_runs: list[str]) -> dict[str, Any]:
    """Return the options in a URL in the form that a body has."""
    orphan = parse_bool(query, "orphanDependents") if "orphanDependents" in query else None
    return {
        "gracePeriodSeconds": parse_int(query, "gracePeriodSeconds"),
        "propagationPolicy": query.get("propagationPolicy"),
        "orphanDependents": orphan,
        "dryRun": dry_runs,
    }


class VersionMatch(StrEnum):
    """How a list's resourceVersion is meant."""

    EXACT = "Exact"
    NOT_OLDER = "NotOlderThan"


@dataclass(frozen=True, slots=True)
class ListOptions:
    """Options of a list or watch.

    Attributes:
        labels: label selector.
        fields: field selector.
        revision: None where absent.
        match: how ``revision`` is meant; None for the default.
        limit: page size; 0 for no limit.
        continue_token: where the next page starts.
        watch: stream changes.
        bookmarks: send BOOKMARK events.
        timeout_s: end the watch after so many seconds.
        initial_events: begin the watch with the current state; None where absent.
    """

    labels: str = ""
    fields: str = ""
    revision: int | None = None
    match: VersionMatch | None = None
    limit: int = 0
    continue_token: str = ""
    watch: bool = False
    bookmarks: bool = False
    timeout_s: int | None = None
    initial_events: bool | None = None


def parse_list_options(query: Mapping[str, str]) -> ListOptions:
    """Read the options of a list or watch.

    The rules on combinations are those of k8s.io/apimachinery
    ``pkg/apis/meta/internalversion/validation``.

    Raises:
        errors.StatusError: 400; 422 for a combination that is not allowed.
    """
    text = query.get("resourceVersion", "")
    watch = parse_bool(query, "watch")
    if text and not (text.isascii() and text.isdigit()):
        if watch:
            raise errors.unclassified(
                f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": '
                "invalid syntax"
            )
        raise errors.bad_request(
            f'invalid resource version: resourceVersion: Invalid value: "{text}": '
            f'strconv.ParseUint: parsing "{text}": invalid syntax'
        )
    options = ListOptions(
        labels=query.get("labelSelector", ""),
        fields=query.get("fieldSelector", ""),
        revision=int(text) if text else None,
        match=_match(query.get("resourceVersionMatch", "")),
        limit=max(0, parse_int(query, "limit") or 0),
        continue_token=query.get("continue", ""),
        watch=watch,
        bookmarks=parse_bool(query, "allowWatchBookmarks"),
        timeout_s=parse_int(query, "timeoutSeconds"),
        initial_events=(
            parse_bool(query, "sendInitialEvents") if "sendInitialEvents" in query else None
        ),
    )
    _check_combinations(options)
    return options


_MATCH: Final = "resourceVersionMatch"


def _match(text: str) -> VersionMatch | None:
    try:
        return VersionMatch(text) if text else None
    except ValueError:
        supported = ["Exact", "NotOlderThan", ""]
        problem = fields.not_supported(_MATCH, text, supported)
        raise options_invalid("ListOptions", problem) from None


def _check_combinations(options: ListOptions) -> None:
    problems = _check_watch(options) if options.watch else _check_list(options)
    if problems:
        raise options_invalid("ListOptions", *problems)


def _check_watch(options: ListOptions) -> list[FieldError]:
    found = []
    if options.initial_events is not None and options.match is not VersionMatch.NOT_OLDER:
        message = f"sendInitialEvents requires setting {_MATCH} to NotOlderThan"
        found.append(fields.forbidden(_MATCH, message))
    if options.match and options.initial_events is None:
        message = f"{_MATCH} is forbidden for watch unless sendInitialEvents is provided"
        found.append(fields.forbidden(_MATCH, message))
    if options.match is VersionMatch.EXACT:
        found.append(fields.not_supported(_MATCH, options.match, [VersionMatch.NOT_OLDER]))
    if options.continue_token:
        message = f"{_MATCH} is forbidden when continue is provided"
        found.append(fields.forbidden(_MATCH, message))
    return found


def _check_list(options: ListOptions) -> list[FieldError]:
    if options.initial_events is not None:
        message = "sendInitialEvents is forbidden for list"
        return [fields.forbidden("sendInitialEvents", message)]
    if options.match is None:
        return []
    if options.revision is None:
        message = f"{_MATCH} is forbidden unless resourceVersion is provided"
        return [fields.forbidden(_MATCH, message)]
    if options.continue_token:
        return [fields.forbidden(_MATCH, f"{_MATCH} is forbidden when continue is provided")]
    if options.match is VersionMatch.EXACT and options.revision == 0:
        message = f'{_MATCH} "exact" is forbidden for resourceVersion "0"'
        return [fields.forbidden(_MATCH, message)]
    return []

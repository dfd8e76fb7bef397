"""What a security context lets a container keep of the kernel's powers."""

from __future__ import annotations

from typing import Any

import pytest

from taskctl.embedded.node.privileges import (
    CAPABILITIES,
    PrivilegeError,
    Privileges,
    privileges,
)
from tests.unit.embedded_node.builders import container, pod

ALL = frozenset(range(len(CAPABILITIES)))


@pytest.mark.parametrize(
    ("security", "kept"),
    [
        ({}, Privileges()),
        ({"privileged": True}, Privileges(privileged=True)),
        ({"capabilities": {"add": ["NET_RAW"]}}, Privileges(capabilities=frozenset({13}))),
        (
            {"capabilities": {"add": ["CAP_KILL", "chown"]}},
            Privileges(capabilities=frozenset({0, 5})),
        ),
        ({"capabilities": {"add": ["ALL"]}}, Privileges(capabilities=ALL)),
        ({"capabilities": {"drop": ["ALL"]}}, Privileges()),
        ({"seccompProfile": {"type": "Unconfined"}}, Privileges(all_calls=True)),
        ({"seccompProfile": {"type": "RuntimeDefault"}}, Privileges()),
        ({"seccompProfile": {"type": "Localhost", "localhostProfile": "x"}}, Privileges()),
    ],
)
def test_only_what_was_asked_for_is_kept(security: dict[str, Any], kept: Privileges) -> None:
    subject = pod(container("c", securityContext=security))
    assert privileges(subject, subject["spec"]["containers"][0]) == kept


def test_the_pods_profile_holds_where_the_container_has_none() -> None:
    unconfined = {"seccompProfile": {"type": "Unconfined"}}
    plain = container("plain")
    strict = container("strict", securityContext={"seccompProfile": {"type": "RuntimeDefault"}})
    subject = pod(plain, strict, securityContext=unconfined)
    assert privileges(subject, plain).all_calls
    assert not privileges(subject, strict).all_calls


def test_unknown_capability_is_named() -> None:
    subject = container("c", securityContext={"capabilities": {"add": ["NET_ROW"]}})
    with pytest.raises(PrivilegeError, match=r"capabilities\.add: .*'NET_ROW'"):
        privileges(pod(subject), subject)

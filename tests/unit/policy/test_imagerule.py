"""Which images Tasks may name."""

from __future__ import annotations

import pytest

from taskctl.policy.imagerule import is_allowed


@pytest.mark.parametrize(
    ("image", "patterns", "allowed"),
    [
        ("i", None, True),
        ("i", [], False),
        ("reg.example/team/job:1", ["reg.example/team/*"], True),
        ("reg.example.evil/team/job:1", ["reg.example/team/*"], False),
        ("reg.example/team/job:1", ["other", "*/job:*"], True),
        ("reg.example/team/job:1", ["reg?example/team/job:1"], False),
        ("reg.example/team/job:1", ["reg.example/team/job"], False),
        ("regxexample/job", ["reg.example/job"], False),
        ("a\nb", ["a*"], True),
        ("i", ["[i]"], False),
        ("x" * 1024, ["*" * 1024 + "y"], False),
    ],
)
def test_patterns(image: str, patterns: list[str] | None, allowed: bool) -> None:
    assert is_allowed(image, patterns) is allowed

from __future__ import annotations

import pytest

from taskctl.embedded.node.images import image_name

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("busybox", "busybox"),
        ("busybox:1.36", "busybox"),
        ("library/busybox", "library/busybox"),
        ("registry.example:5000/team/app:v1", "registry.example:5000/team/app"),
        (f"app@{DIGEST}", "app"),
        (f"app:v1@{DIGEST}", "app"),
        ("localhost/Team/app", None),
        ("UPPER", None),
        ("", None),
        ("app:", None),
        ("app:ta g", None),
        ("app@sha256:short", None),
        ("a//b", None),
        ("x" * 256, None),
    ],
)
def test_syntax(reference: str, name: str | None) -> None:
    assert image_name(reference) == name

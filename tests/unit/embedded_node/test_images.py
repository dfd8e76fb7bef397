from __future__ import annotations

from pathlib import Path

import pytest

from taskctl.embedded.node.images import image_name, image_root

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


def test_full_reference_goes_before_the_name() -> None:
    roots = {"app": Path("/any"), "app:v2": Path("/two")}
    assert image_root("app:v1", roots) == Path("/any")
    assert image_root("app:v2", roots) == Path("/two")
    assert image_root("other", roots) is None

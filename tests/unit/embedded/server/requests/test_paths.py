from __future__ import annotations

import pytest

from taskctl.embedded.server.requests.paths import Target, parse_path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/v1/pods", Target("", "v1", "pods")),
        ("/api/v1/pods/", Target("", "v1", "pods")),
        ("/api/v1/nodes/n", Target("", "v1", "nodes", None, "n")),
        ("/api/v1/nodes/n/status", Target("", "v1", "nodes", None, "n", "status")),
        ("/api/v1/namespaces", Target("", "v1", "namespaces")),
        ("/api/v1/namespaces/x", Target("", "v1", "namespaces", None, "x")),
        ("/api/v1/namespaces/x/status", Target("", "v1", "namespaces", None, "x", "status")),
        ("/api/v1/namespaces/x/finalize", Target("", "v1", "namespaces", None, "x", "finalize")),
        ("/api/v1/namespaces/x/pods", Target("", "v1", "pods", "x")),
        ("/api/v1/namespaces/x/pods/p", Target("", "v1", "pods", "x", "p")),
        ("/api/v1/namespaces/x/pods/p/log", Target("", "v1", "pods", "x", "p", "log")),
        ("/apis/g.dev/v2/things", Target("g.dev", "v2", "things")),
        ("/apis/g.dev/v2/namespaces/x/things/t/status",
         Target("g.dev", "v2", "things", "x", "t", "status")),
        ("/api", None),
        ("/api/v1", None),
        ("/apis/g.dev/v2", None),
        ("/version", None),
        ("/", None),
        ("/api/v1/namespaces/x/pods/p/log/more", None),
        ("/api/v1//pods", None),
    ],
)  # fmt: skip
def test_paths(path: str, expected: Target | None) -> None:
    assert parse_path(path) == expected

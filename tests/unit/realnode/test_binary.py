"""The module file for another version of Kubernetes."""

from __future__ import annotations

import re

from tests.realnode import helm
from tests.realnode.binary import HERE, USUAL_VERSION, module_text

KUBERNETES = """module k8s.io/kubernetes

go 1.23.0

godebug default=go1.23

require (
	k8s.io/api v0.0.0
	k8s.io/utils v0.0.0-20241104100929-3ea5e8cea738
)

replace (
	k8s.io/api => ./staging/src/k8s.io/api
	k8s.io/cri-client => ./staging/src/k8s.io/cri-client
)
"""


def test_parts_are_taken_at_the_same_version() -> None:
    assert module_text(KUBERNETES, "1.32.13") == (
        "module taskctl.dev/realnode\n\n"
        "go 1.23.0\n\n"
        "require k8s.io/kubernetes v1.32.13\n\n"
        "replace (\n"
        "\tk8s.io/api => k8s.io/api v0.32.13\n"
        "\tk8s.io/cri-client => k8s.io/cri-client v0.32.13\n"
        ")\n"
    )


def test_the_usual_version_is_the_one_in_the_module_file() -> None:
    text = (HERE / "go.mod").read_text()
    assert f"k8s.io/kubernetes v{USUAL_VERSION}\n" in text
    assert f"k8s.io/api => k8s.io/api v0.{USUAL_VERSION.partition('.')[2]}\n" in text


def versions(text: str) -> dict[str, str]:
    """Return the modules of a module file by the version that is taken."""
    required = re.findall(r"^\t(\S+) (v\S+)", text, re.MULTILINE)
    replaced = re.findall(r"^\t(\S+) => \S+ (v\S+)", text, re.MULTILINE)
    return dict(required) | dict(replaced)


def test_helm_is_made_of_the_libraries_that_the_node_is_made_of() -> None:
    """Go compiles them once for both, as long as the versions are the same."""
    node = versions((HERE / "go.mod").read_text())
    of_helm = versions((helm.SOURCE / "go.mod").read_text())
    assert of_helm["helm.sh/helm/v3"] == f"v{helm.VERSION}"
    shared = ("k8s.io/api", "k8s.io/client-go", "golang.org/x/net", "google.golang.org/protobuf")
    for name in (*(name for name in of_helm if name.startswith("k8s.io/")), *shared):
        assert name not in node or of_helm[name] == node[name], name
    assert set(shared) <= set(node) & set(of_helm)

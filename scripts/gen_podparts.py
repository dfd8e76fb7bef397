"""Generate taskctl/api/data/podparts.json: the parts of a pod's spec that a TaskCluster may hold.

Shapes come from kubernetes_asyncio's models, which are generated from Kubernetes' OpenAPI
document; see gen_builtin_schemas.py, which reads them. Defaults stay out: the pod gets them.

Usage: python scripts/gen_podparts.py [--check]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))
from scripts import gen_builtin_schemas as builtin
from taskctl.api.meta import QUANTITY

JSON = dict[str, Any]
TARGET: Final = Path(__file__).parents[1] / "taskctl" / "api" / "data" / "podparts.json"
PARTS: Final = (
    "V1Affinity", "V1LabelSelector", "V1LocalObjectReference", "V1PodSecurityContext",
    "V1ResourceRequirements", "V1Toleration", "V1TopologySpreadConstraint", "V1Volume",
    "V1VolumeMount",
)  # fmt: skip
# In Kubernetes' API still, and supported no more.
GONE: Final = frozenset(
    {
        "cephfs", "flocker", "gitRepo", "glusterfs", "photonPersistentDisk", "quobyte", "rbd",
        "scaleIO", "storageos",
    }
)  # fmt: skip
# Of an ephemeral claim's metadata, all else is refused by Kubernetes.
METADATA: Final = ("annotations", "labels")
# What rules look at must be bounded, or the API server's cost estimate refuses the CRD.
MAX_ITEMS: Final = 100
MAX_SENTENCE: Final = 160
KEPT: Final = ("type", "format", "required", "x-kubernetes-map-type")


def simplify(node: JSON) -> JSON:
    """Return a node as a CRD can have it, with short descriptions."""
    out: JSON = {}
    if text := node.get("description"):
        out["description"] = first_sentence(text)
    if "$ref" in node:
        return out | {"$ref": short(node["$ref"])}
    if node.get("format") == "quantity":
        options = [{"type": "integer"}, {"type": "string"}]
        return out | {
            "anyOf": options,
            "pattern": QUANTITY,
            "x-kubernetes-int-or-string": True,
        }
    out |= {key: node[key] for key in KEPT if key in node}
    if "properties" in node:
        out["properties"] = {
            key: {"description": "As in a pod's spec.", **simplify(one)}
            for key, one in node["properties"].items()
        }
    if "items" in node:
        items = {key: one for key, one in node["items"].items() if key != "description"}
        out |= {
            "items": simplify(items),
            "maxItems": MAX_ITEMS,
            "x-kubernetes-list-type": "atomic",
        }
    if "additionalProperties" in node:
        out |= {
            "additionalProperties": simplify(node["additionalProperties"]),
            "maxProperties": MAX_ITEMS,
        }
    return out


def short(name: str) -> str:
    """``#/definitions/io.k8s.api.core.v1.Volume`` → ``Volume``."""
    return name.rpartition(".")[2]


def first_sentence(text: str) -> str:
    """Return the first sentence of a description, cut where it is very long."""
    sentence = text.split(". ")[0].rstrip(". ")
    if len(sentence) > MAX_SENTENCE:
        sentence = f"{sentence[:MAX_SENTENCE].rsplit(' ', 1)[0]} …"
    return f"{sentence}." if not sentence.endswith("…") else sentence


def generate() -> str:
    """Return the file's text."""
    generator = builtin.Generator()
    roots = [short(generator.add(model)) for model in PARTS]
    known = {short(name): node for name, node in generator.definitions.items()}
    for name in GONE:
        del known["Volume"]["properties"][name]
    metadata = known["ObjectMeta"]["properties"]
    known["ObjectMeta"] = {
        "type": "object",
        "properties": {name: metadata[name] for name in METADATA},
    }
    out: JSON = {}
    todo = list(roots)
    while todo:
        name = todo.pop()
        if name not in out:
            out[name] = simplify(known[name])
            out[name].pop("description", None)
            todo += references(out[name])
    return json.dumps(out, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def references(node: Any) -> list[str]:
    """Return the definitions that a node refers to."""
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [name for one in node.values() for name in references(one)]
    return []


def main() -> int:
    """Write the file, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when the file is out of date")
    text = generate()
    if parser.parse_args().check:
        if not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text:
            print(f"{TARGET} is out of date: run python scripts/gen_podparts.py")
            return 1
        return 0
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

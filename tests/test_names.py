"""One class, one name: whoever reads a name knows which thing is meant."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1] / "taskctl"

# Names that stand for several classes still. This list only ever gets shorter.
SHARED = frozenset(
    {
        "Background",
        "Backoff",
        "Board",
        "Change",
        "Child",
        "Client",
        "Collection",
        "Column",
        "Condition",
        "Connection",
        "Context",
        "ControllerOptions",
        "DeleteOptions",
        "Event",
        "EventRecorder",
        "EventType",
        "Form",
        "Frame",
        "Group",
        "Journal",
        "Kind",
        "Limits",
        "ListOptions",
        "LocalStack",
        "LogOptions",
        "Message",
        "Node",
        "NodeOptions",
        "Options",
        "Outcome",
        "PatchType",
        "PodVolumes",
        "Program",
        "Propagation",
        "Reader",
        "Refused",
        "Resource",
        "Retry",
        "RetryPolicy",
        "RunAfter",
        "ServerOptions",
        "Session",
        "Source",
        "Sources",
        "Special",
        "StopReason",
        "Store",
        "Target",
        "Tracker",
        "Tree",
        "Wait",
        "Wanted",
        "Watcher",
        "Workspace",
        "Writer",
        "_Entry",
        "_Pair",
        "_Pending",
        "_WrongError",
    }
)


def test_no_class_name_twice() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(str(path.relative_to(ROOT)))
    twice = {name: where for name, where in found.items() if len(where) > 1}
    new = {name: where for name, where in twice.items() if name not in SHARED}
    assert new == {}, "give each its own name"
    assert SHARED - set(twice) == set(), "take these out of SHARED: they are unique by now"

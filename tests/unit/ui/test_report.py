"""The page as one file."""

from __future__ import annotations

import json
import re
from importlib.resources import files

import pytest

from taskctl.api.states import TaskState
from taskctl.testing.builders import task
from taskctl.ui.model import row_of
from taskctl.ui.report import Report, embedded_json, joined_script, render_report

STATIC = files("taskctl.ui") / "static"
MODULES = sorted(one.name for one in STATIC.iterdir() if one.name.endswith(".js"))
_TOP = re.compile(r"^(?:export )?(?:async )?(?:function|class|const|let) (\w+)", re.MULTILINE)
HOSTILE = ["</script><script>alert(1)</script>", "<!--", "]]>", "\u2028", "&lt;", "\\", '"']


def test_top_level_names_are_unique_so_that_modules_can_be_joined() -> None:
    names = [name for module in MODULES for name in _TOP.findall((STATIC / module).read_text())]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("module", MODULES)
def test_modules_use_only_what_joining_understands(module: str) -> None:
    text = (STATIC / module).read_text()
    for line in text.splitlines():
        if line.startswith(("import", "export")):
            assert re.match(
                r'import \{ [\w, ]+ \} from "\./\w+\.js";$|export (async )?(function|class|const) ',
                line,
            ), line
        assert " as " not in line or not line.startswith("import")
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert sink not in text
    assert len(text.splitlines()) < 500


def test_all_modules_are_in_the_script_once() -> None:
    script = joined_script()
    for module in MODULES:
        assert script.count(f"// --- {module}\n") == 1
    assert not re.search(r"^(import|export) ", script, re.MULTILINE)


@pytest.mark.parametrize("text", HOSTILE)
def test_data_cannot_end_the_element_it_stands_in(text: str) -> None:
    found = embedded_json({text: [text]})
    assert "<" not in found
    assert ">" not in found
    assert json.loads(found) == {text: [text]}


def test_a_report_is_one_file_with_a_strict_policy() -> None:
    failed = task("bad").state(TaskState.FAILED, "NonZeroExit").status(message=HOSTILE[0]).build()
    html = render_report(Report(HOSTILE[0], "now", 1.0, [row_of(failed)]))
    assert html.count("<script") == html.count("</script>") == 2
    assert "src=" not in html.partition("<style>")[0]
    assert "unsafe" not in re.findall(r'content="(default-src[^"]*)"', html)[0]
    assert "alert(1)" in html

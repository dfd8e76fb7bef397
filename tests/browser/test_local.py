"""The page of a running stack, looked at while tasks run."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from tests.browser.chromium import Tab
from tests.browser.localstack import DEMO, Local, raw_task

# Fifty tasks one after the other take a minute on a busy machine.
pytestmark = pytest.mark.timeout(300)

READY = "globalThis.taskctlPage && taskctlPage.synced"
COUNT_TO = 50
FAILING = """
from taskctl.sdk import sync
for n in range(3):
    sync.spawn(["python3", "-c", f"print('child {n}', flush=True); 1 / {n}"], key=f"child-{n}")
"""


async def submit(local: Local, *objects: dict[str, object]) -> None:
    await asyncio.to_thread(local.submit, *objects)


async def test_the_counter_to_fifty_grows_while_one_looks(tab: Tab, own_local: Local) -> None:
    local = own_local
    await tab.go(local.url)
    await tab.until(READY)
    await tab.run(
        """globalThis.sizes = new Set();
        const look = () => taskctlPage.views.tree.nodes.flatMap((n) => n.uids).length;
        setInterval(() => sizes.add(look()), 20)"""
    )
    steps = [DEMO / "counter" / name for name in ("setup", "start")]
    counter = (DEMO / "counter" / "task.yaml").read_text()
    clusters = (DEMO / "counter" / "taskcluster.yaml").read_text()
    assert all(step.exists() for step in steps)
    await asyncio.to_thread(local.taskctl, "submit", "-f", "-", text=f"{clusters}\n---\n{counter}")
    total = COUNT_TO + 1
    await tab.until(f"taskctlPage.store.tasks.size === {total}", timeout_s=150)
    done = "[...taskctlPage.store.tasks.values()].every((task) => task.state === 'Succeeded')"
    await tab.until(done, timeout_s=60)
    await tab.until(f"sizes.has({total})")
    assert await tab.run("sizes.size") > 10  # it was seen growing, not only when it was done
    # One box, as each made the next; and the timeline has the slots of all workers.
    nodes = await tab.run("taskctlPage.views.tree.nodes.map((n) => [n.kind, n.uids.length])")
    assert nodes == [["chain", total]]
    await tab.click_on("[data-view=workers]")
    bars = "taskctlPage.views.workers.workers.flatMap((w) => w.lanes.flatMap((l) => l.bars)).length"
    await tab.until(f"{bars} === {total}")
    requests = await tab.run(
        "performance.getEntriesByType('resource').filter((r) => r.name.includes('/api/')).length"
    )
    assert requests <= 2  # the session and at most one stream: nothing is polled


async def test_a_failing_tree_shows_its_traceback_and_log(tab: Tab, local: Local) -> None:
    await submit(local, raw_task("fails", "python3", "-c", FAILING))
    with local.ui("--write") as url:
        await tab.go(url)
        await tab.until(READY)
        child = "[...taskctlPage.store.tasks.values()].find((t) => t.title === 'child-0')"
        await tab.until(f"{child}?.state === 'Failed'", timeout_s=60)
        await tab.run(f"taskctlPage.select({child}.uid)")
        text = "document.querySelector('#detail').innerText"
        await tab.until(f"{text}.includes('ZeroDivisionError: division by zero')")
        await tab.until("document.querySelector('#detail pre.log')?.innerText.includes('child 0')")
        assert "Traceback (most recent call last)" in await tab.run(text)
        bars = await tab.run("document.querySelectorAll('#detail .fall .track i').length")
        assert bars == 5  # a latency for each stage
        retry = "[...document.querySelectorAll('#detail .actions button')].find((b) => b.textContent === 'Retry')"  # noqa: E501 - JavaScript
        await tab.until(f"{retry} && ({retry}.click(), true)")
        await tab.until(f"{child}.attempt === 2 && {child}.state === 'Failed'", timeout_s=60)


async def test_a_running_task_can_be_cancelled(tab: Tab, local: Local) -> None:
    await submit(local, raw_task("sleeps", "sleep", "600"))
    with local.ui("--write") as url:
        await tab.go(url)
        await tab.until(READY)
        task = "[...taskctlPage.store.tasks.values()].find((t) => t.name === 'sleeps')"
        await tab.until(f"{task}?.state === 'Running'", timeout_s=60)
        # Its slot runs it, not only waits for it, although the beginning of its code is not known.
        await tab.click_on("[data-view=workers]")
        lanes = "taskctlPage.views.workers.workers.flatMap((w) => w.lanes.flatMap((l) => l.bars))"
        await tab.until(
            f"{lanes}.some((b) => b.uid === {task}.uid && b.begin < b.to)", timeout_s=60
        )
        await tab.run(f"taskctlPage.select({task}.uid)")
        cancel = "document.querySelector('#detail .actions .bad')"
        await tab.until(f"{cancel} && ({cancel}.click(), true)")
        await tab.until(f"{task}.state === 'Cancelled'", timeout_s=60)


async def test_a_report_of_a_tree_that_ran(tab: Tab, local: Local, tmp_path: Path) -> None:
    await submit(local, raw_task("reported", "sh", "-c", "echo this was said"))
    await asyncio.to_thread(local.taskctl, "wait", "reported", "--timeout", "60s", check=False)
    file = tmp_path / "run.html"
    said = await asyncio.to_thread(local.taskctl, "report", "reported", "-o", str(file))
    assert "1 task" in said
    assert file.stat().st_mode & 0o077 == 0
    await tab.go(f"file://{file}")
    await tab.until(READY)
    await tab.press("3")
    await tab.click_on("#list .row")
    await tab.until("document.querySelector('#detail').innerText.includes('this was said')")


async def test_the_page_comes_back_when_it_dies(tab: Tab, local: Local) -> None:
    import json
    import os
    import signal

    await tab.go(local.url)
    await tab.until(READY)
    state = json.loads((local.directory / "local.json").read_text())
    os.kill(state["components"]["page"], signal.SIGKILL)
    await tab.until("document.querySelector('#live').dataset.state === 'waiting'")
    await tab.until("document.querySelector('#live').dataset.state === 'live'", timeout_s=60)
    await tab.until(READY)
    tab.errors.clear()  # the browser tells of the connection that broke


def test_what_is_printed_leads_there(local: Local) -> None:
    assert local.url.startswith("http://127.0.0.1:")
    status = subprocess.run(
        ["stat", "-c", "%a", str(local.directory / "page.json")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert status.stdout.strip() == "600"

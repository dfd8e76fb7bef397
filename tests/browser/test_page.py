"""The page in a real browser, on tasks that never ran."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from taskctl.api.states import TaskState
from taskctl.clock import SystemClock
from taskctl.testing.builders import task
from taskctl.ui.model import detail_of, row_of
from taskctl.ui.report import Report, render_report
from tests.browser.chromium import Tab
from tests.browser.served import gone, served
from tests.browser.synthetic import TRACEBACK, ended, function, wide_tree

READY = "globalThis.taskctlPage && taskctlPage.synced && taskctlPage.views.tree.nodes.length > 0"
# A hundred would do for an eye; this machine may be busy.
FRAME_MS = 500
HOSTILE = [
    '<img src=x onerror="globalThis.pwned=1">',
    "</script><script>globalThis.pwned=1</script>",
    "<!--<script>",
    '"><svg onload=globalThis.pwned=1>',
    "{{constructor.constructor('globalThis.pwned=1')()}}",
    "\u202egnp.exe",
    "javascript:globalThis.pwned=1",
]


def hostile_tree() -> list[dict[str, Any]]:
    root = ended(task("root").command(HOSTILE[0]), 0, 5, "c-1").build()
    tasks = [root]
    for number, text in enumerate(HOSTILE):
        child = task(f"h-{number}").command("python3", "-m", "taskctl.sdk.run", f"m:{text}")
        child = ended(child.child_of(root, key=text), 1 + number, 1, "c-1")
        failed = child.state(TaskState.FAILED, "NonZeroExit")
        tasks.append(failed.status(message=f"{text}\n{text}", exitCode=1).build())
    return tasks


async def node_middle(tab: Tab, label: str) -> tuple[float, float]:
    """Return where the head of a box with a label is drawn in the window, once it stays there.

    A panel that opens or closes changes the size of the picture, which fits itself a frame later.
    """
    script = f"""(async () => {{
      const view = taskctlPage.views.tree;
      const place = () => {{
        const node = view.nodes.find((n) => n.label === {json.dumps(label)});
        const box = view.canvas.getBoundingClientRect(), {{ x, y, k }} = view.view;
        return node && [box.x + x + (node.x + 60) * k, box.y + y + (node.y + 14) * k];
      }};
      const before = place();
      for (let n = 0; n < 3; n++) await new Promise(requestAnimationFrame);
      const after = place();
      return before && after && before.join() === after.join() && after;
    }})()"""
    return tuple(await tab.until(script))


async def test_ten_thousand_tasks_stay_fluid(tab: Tab) -> None:
    tasks = wide_tree(10_000)
    async with served(tasks) as page:
        await tab.go(page.url)
        await tab.until(f"{READY} && taskctlPage.store.tasks.size === 10000")
        nodes = await tab.run("taskctlPage.views.tree.nodes.map((n) => [n.label, n.uids.length])")
        assert ["stage", 12] in nodes
        assert len(nodes) < 20  # grouped by function
        # Forty changes, ten times a second: what the page takes for each picture.
        for turn in range(10):
            page.put(
                ended(task(f"t-{9500 + turn * 40 + n}").command(*function("square")), 1, 1, "c-1")
                .child_of(tasks[1])
                .build()
                for n in range(40)
            )
            await asyncio.sleep(0.1)
        took = await tab.run(
            """(async () => { const took = [];
            for (let n = 0; n < 15; n += 1) {
              const began = performance.now();
              taskctlPage.refresh();
              await new Promise(requestAnimationFrame);
              taskctlPage.views.tree.zoom(1.01);
              took.push(performance.now() - began);
            }
            return took.sort((a, b) => a - b); })()"""
        )
        assert took[len(took) // 2] < FRAME_MS, took
        for view in ("workers", "list"):
            await tab.click_on(f"[data-view={view}]")
            millis = await tab.run(
                "(() => { const t = performance.now(); taskctlPage.refresh();"
                " return performance.now() - t; })()"
            )
            assert millis < 4 * FRAME_MS, view
        assert await tab.run("document.querySelectorAll('#list .row').length") < 60


async def test_a_group_opens_and_a_square_is_a_task(tab: Tab) -> None:
    async with served(wide_tree(300)) as page:
        page.ops.logs = dict.fromkeys(page.ops.raw, b"hello from \x1b[31mthe\x1b[0m task\n")
        await tab.go(page.url)
        await tab.until(READY)
        await tab.click(*await node_middle(tab, "square"))
        await tab.until("document.querySelector('#detail h2')?.firstChild.data === 'square'")
        first = "document.querySelector('#detail .members button')"
        await tab.until(f"{first}?.textContent.includes('t-5')")  # what failed comes first
        await tab.click_on("#detail .members button")
        text = "document.querySelector('#detail').innerText"
        await tab.until(f"{text}.includes('ZeroDivisionError: division by zero')")
        await tab.until(f"{text}.includes('hello from the task')")
        await tab.press("Escape")
        await tab.until("document.querySelector('#detail').hidden")
        # One by one, up to a hundred.
        await tab.click(*await node_middle(tab, "square"))
        await tab.click_on("#detail .actions button")
        await tab.until(
            "taskctlPage.views.tree.nodes.filter((n) => n.label === 'square').length > 90"
        )


async def test_what_changes_is_pushed(tab: Tab) -> None:
    tasks = wide_tree(50)
    async with served(tasks) as page:
        await tab.go(page.url)
        await tab.until(READY)
        requests = (
            "performance.getEntriesByType('resource').filter((r) => r.name.includes('/api/'))"
        )
        before = await tab.run(f"{requests}.length")
        leaf = ended(task("t-new").command(*function("square")).child_of(tasks[1]), 2, 1, "c-1")
        page.put([leaf.build()])
        await tab.until("taskctlPage.store.tasks.has('uid-t-new')")
        page.rows.tasks.remove("uid-t-new")
        await tab.until("!taskctlPage.store.tasks.has('uid-t-new')")
        assert await tab.run(f"{requests}.length") == before
        page.rows.problem = "connection refused"
        await tab.until(
            "document.querySelector('#notice').innerText.includes('connection refused')"
        )
        page.rows.problem = ""
        await tab.until("document.querySelector('#notice').hidden")


async def test_search_filter_and_keyboard(tab: Tab) -> None:
    async with served(wide_tree(120)) as page:
        await tab.go(page.url)
        await tab.until(READY)
        await tab.press("/")
        await tab.type("zerodivision")
        await tab.press("Enter")
        await tab.until("document.querySelector('#detail h2 small')?.textContent === 't-5'")
        await tab.press("Escape")  # leaves the search, and empties it
        await tab.until("document.querySelector('#search').value === ''")
        await tab.press("Escape")
        await tab.until("document.querySelector('#detail').hidden")
        await tab.press("3")
        await tab.click_on("[data-chip=Failed]")
        await tab.until("document.querySelectorAll('#list .row').length === 1")
        await tab.click_on("[data-chip=Failed]")
        await tab.press("1")
        await tab.run("document.activeElement.blur()")
        await tab.press("ArrowRight")
        await tab.press("ArrowRight")
        await tab.until("document.querySelector('#spoken').textContent.startsWith('stage')")
        await tab.press("ArrowLeft")
        await tab.press("Enter")
        await tab.until("document.querySelector('#detail h2')?.firstChild.data === 'main'")
        await tab.press("t")
        await tab.until("document.documentElement.dataset.theme === 'dark'")


@pytest.mark.parametrize("as_file", [False, True])
async def test_hostile_names_are_only_text(tab: Tab, tmp_path: Path, *, as_file: bool) -> None:
    tasks = hostile_tree()
    rows = [row_of(one) for one in tasks]
    details = {one["metadata"]["uid"]: detail_of(one) for one in tasks}
    logs = {one.uid: {"text": one.message * 3, "note": one.message, "cut": True} for one in rows}
    file = tmp_path / "run.html"
    file.write_text(render_report(Report(HOSTILE[1], "now", 1e12, rows, (), details, logs)))
    async with served(tasks) as page:
        page.ops.logs = {row.uid: row.message.encode() * 3 for row in rows}
        await tab.go(f"file://{file}" if as_file else page.url)
        await tab.until(READY)
        await tab.press("3")
        for number in range(len(tasks)):
            await tab.click_on(f"#list .row:nth-child({number + 1})")
            await tab.until("document.querySelector('#detail h2 small')?.textContent.length > 0")
            await tab.until("!document.querySelector('#detail').innerText.includes('Reading')")
        shown = await tab.run("document.body.innerText")
        assert HOSTILE[0].removesuffix(">")[:20] in shown
        assert "\u202e" not in shown
        assert await tab.run("typeof globalThis.pwned") == "undefined"
        inserted = "#list img, #list script, #list svg, #detail img, #detail script, #detail svg"
        assert await tab.run(f"document.querySelectorAll({json.dumps(inserted)}).length") == 0


@pytest.mark.parametrize("as_file", [False, True])
async def test_no_script_but_ours_runs(tab: Tab, tmp_path: Path, *, as_file: bool) -> None:
    file = tmp_path / "run.html"
    file.write_text(render_report(Report("x", "now", 1e12, [row_of(task("a").build())])))
    async with served([task("a").build()]) as page:
        await tab.go(f"file://{file}" if as_file else page.url)
        await tab.until(READY)
        await tab.run(
            """(() => { try {
              const script = document.createElement('script');
              script.textContent = 'globalThis.pwned = 1';
              document.body.append(script);
            } catch {} })()"""
        )
        sink = (
            "(() => { try { document.body.innerHTML = '<b>'; return 1; } catch { return 0; } })()"
        )
        assert await tab.run(sink) == 0  # trusted types
        assert await tab.run("typeof globalThis.pwned") == "undefined"
        assert len(tab.errors) == 2  # the browser reports that it refused
        assert all("Policy" in error or "Trusted" in error for error in tab.errors)
        tab.errors.clear()


async def test_a_report_is_the_same_page(tab: Tab, tmp_path: Path) -> None:
    tasks = wide_tree(2_000)
    rows = [row_of(one) for one in tasks]
    details = {one["metadata"]["uid"]: detail_of(one) for one in tasks}
    logs = {"uid-t-5": {"text": "the log of five\n", "note": "", "cut": False}}
    file = tmp_path / "run.html"
    now_ms = max(moment for row in rows for moment in row.times if moment)
    file.write_text(render_report(Report("sums", "today", now_ms, rows, (), details, logs)))
    await tab.go(f"file://{file}")
    await tab.until(f"{READY} && taskctlPage.store.tasks.size === 2000")
    await tab.press("3")
    await tab.click_on("#list .row")
    text = "document.querySelector('#detail').innerText"
    await tab.until(f"{text}.includes('ZeroDivisionError')")
    await tab.until(f"{text}.includes('the log of five')")
    assert TRACEBACK.splitlines()[0] in await tab.run(text)
    assert await tab.run("performance.getEntriesByType('resource').length") == 0
    assert "as of today" in await tab.run("document.querySelector('#live').innerText")


async def test_it_fits_a_phone(tab: Tab) -> None:
    await tab.size(390, 844, phone=True)
    async with served(wide_tree(300)) as page:
        await tab.go(page.url)
        await tab.until(READY)
        for view in ("tree", "workers", "list"):
            await tab.click_on(f"[data-view={view}]")
            assert await tab.run("document.documentElement.scrollWidth") <= 390
            assert await tab.run("document.querySelector('#stage').clientHeight") > 400
        await tab.click_on("#list .row")
        await tab.until("!document.querySelector('#detail').hidden")
        box = "document.querySelector('#detail').getBoundingClientRect()"
        assert await tab.run(f"{box}.width") == 390
        assert await tab.run(f"{box}.bottom") <= 845
        # Everything that can be pressed can be hit with a finger.
        small = "[...document.querySelectorAll('#top button, #detail .close')]"
        heights = await tab.run(f"{small}.map((one) => one.getBoundingClientRect().height)")
        assert min(heights) >= 24


async def test_a_wrong_token_says_what_to_do(tab: Tab) -> None:
    async with served([task("a").build()]) as page:
        await tab.go(page.url.replace("the-token", "another"))
        await tab.until("document.querySelector('#notice').innerText.includes('taskctl printed')")
        assert await tab.run("taskctlPage.store.tasks.size") == 0
        assert all("401" in error for error in tab.errors)
        tab.errors.clear()


async def test_the_token_does_not_stay_in_the_address(tab: Tab) -> None:
    async with served([task("a").build()]) as page:
        await tab.go(page.url)
        await tab.until(READY)
        assert "the-token" not in await tab.run("location.href")
        assert await tab.run("document.cookie") == ""  # no script can read it
        await tab.call("Page.reload")
        await asyncio.sleep(0.3)
        await tab.until(READY)  # by the cookie
        # What only looks has no buttons.
        await tab.press("3")
        await tab.click_on("#list .row")
        await tab.until("document.querySelector('#detail dl')")
        assert not await tab.run("Boolean(document.querySelector('#detail .actions'))")


async def test_a_page_that_may_write_cancels_and_retries(tab: Tab) -> None:
    failed = task("bad").state(TaskState.FAILED, "NonZeroExit").status(attempt=1, exitCode=1)
    tasks = [task("slow").running("c-1").build(), failed.build()]
    async with served(tasks, write=True) as page:
        await tab.go(page.url)
        await tab.until(READY)
        await tab.press("3")
        for name, button in (("bad", "Retry"), ("slow", "Cancel")):
            await tab.click_on(f'#list .row[data-uid="uid-{name}"]')
            press = f"[...document.querySelectorAll('#detail .actions button')].find((b) => b.textContent === '{button}')"  # noqa: E501 - JavaScript
            await tab.until(f"{press} && ({press}.click(), true)")
        while len(page.ops.done) < 2:
            await asyncio.sleep(0.02)
        assert page.ops.done == [("retry", "bad"), ("cancel", "slow")]


async def test_what_is_gone_is_a_board_of_its_own(tab: Tab) -> None:
    clock = SystemClock()
    alive = task("alive").command("sleep", "9").running("c-1").build()
    cut_short = task("cut-short").command("sleep", "9").running("c-1").build()
    async with served([alive]) as page:
        page.put_gone(gone(one, clock.now()) for one in [*wide_tree(2000), cut_short])
        page.ops.logs = dict.fromkeys(page.ops.raw, b"what it said\n")
        await tab.go(page.url)
        await tab.until(f"{READY} && taskctlPage.store.tasks.size === 1")
        assert page.history.reads == 0  # only when somebody looks
        await tab.press("e")
        await tab.until("taskctlPage.store.tasks.size === 2001")
        banner = await tab.run("document.querySelector('#gone').innerText")
        assert "2\u202f001 tasks that are gone, from a history; the last one was deleted" in banner
        assert "ago" in banner
        assert "ends" not in await tab.run("document.querySelector('#headline').innerText")
        # What exists goes on, unseen.
        page.put([task("later").command("sleep", "9").running("c-1").build()])
        await tab.until("taskctlPage.boards.live.tasks.size === 2")
        assert await tab.run("taskctlPage.store.tasks.size") == 2001
        await tab.press("3")
        await tab.run("taskctlPage.select('uid-cut-short')")
        text = "document.querySelector('#detail').innerText"
        await tab.until(f"{text}.includes('This task is gone: deleted')")
        await tab.until(f"{text}.includes('what it said')")
        assert "Running · gone" in await tab.run(text)
        await tab.press("Escape")
        await tab.size(390, 844)
        await tab.theme("dark")
        wide = "document.documentElement.scrollWidth > innerWidth"
        assert not await tab.run(wide)
        await tab.click_on("[data-gone=back]")
        await tab.until(
            "taskctlPage.store.tasks.size === 2 && document.querySelector('#gone').hidden"
        )

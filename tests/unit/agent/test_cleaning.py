"""The agent removes what Tasks have left in the workspace, and nothing else."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taskctl.agent import cleaning
from taskctl.agent.cleaning import Cleaner
from taskctl.agent.leftovers import Finder, remove
from taskctl.agent.runs import RunPhase
from taskctl.agent.workspace import Workspace, log_file, object_path
from taskctl.api.resources import TASKCLUSTERS, TASKOBJECTS, TASKS
from taskctl.errors import ApiError, Unavailable
from taskctl.policy.leftovers import DEFAULT_ORPHAN_S, OBJECT_IDLE_S
from tests.unit.agent.fakes import FakeApi, FakeTime, Fault

HASH = "ab" * 32


def uid(number: int) -> str:
    return f"{number:08d}-2222-3333-4444-555555555555"


class Site:
    """A workspace with files, and a Cleaner that looks at it on demand."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.api = FakeApi()
        self.time = FakeTime()
        self.workspace = Workspace(root)
        self.workspace.prepare()
        self.runs: list[Any] = []
        self.configure()
        self.cleaner = self.another_agent()

    def another_agent(self) -> Cleaner:
        context: Any = SimpleNamespace(
            settings=SimpleNamespace(cluster="c"),
            client=self.api,
            namespace="ns",
            timing=self.time.timing,
            runs=self.runs,
        )
        return Cleaner(context, self.workspace)

    def configure(self, workers: int = 1, **cleanup: Any) -> None:
        spec = {"workspace": {"cleanup": cleanup}}
        status = {"workers": workers}
        self.api.put(TASKCLUSTERS, {"metadata": {"name": "c"}, "spec": spec, "status": status})

    def task(self, number: int, *, ended_s_ago: float | None = None) -> None:
        status: dict[str, Any] = {"state": "Running"}
        if ended_s_ago is not None:
            ended = self.time.clock.now().timestamp() - ended_s_ago
            when = datetime.fromtimestamp(ended, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            condition = {"type": "Complete", "status": "True", "lastTransitionTime": when}
            status = {"state": "Succeeded", "conditions": [condition]}
        metadata = {"name": f"t{number}", "uid": uid(number)}
        self.api.put(TASKS, {"metadata": metadata, "spec": {}, "status": status})

    def delete(self, number: int) -> None:
        self.api.remove(TASKS, f"t{number}")

    def write(self, relative: str, *, age_s: float = 0) -> Path:
        path = self.root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
        when = self.time.clock.now().timestamp() - age_s
        os.utime(path, (when, when))
        return path

    def log(self, number: int, *, age_s: float = 0) -> Path:
        return self.write(log_file(f"t{number}", uid(number), 1), age_s=age_s)

    def exit(self, number: int, *, age_s: float = 0) -> Path:
        return self.write(f".taskctl/exits/{uid(number)}-1", age_s=age_s)

    def directory(self, number: int, *, age_s: float = 0) -> Path:
        path = self.write(f".taskctl/tasks/{uid(number)}/a/b/c").parents[2]
        when = self.time.clock.now().timestamp() - age_s
        os.utime(path, (when, when))
        return path


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_files_go_with_their_task(site: Site) -> None:
    kept: list[Path] = []
    gone: list[Path] = []
    for number, files in ((1, kept), (2, gone)):
        site.task(number)
        files += [site.log(number), site.exit(number), site.directory(number)]
    await site.cleaner.look()
    assert all(path.exists() for path in kept + gone)
    site.delete(2)
    await site.cleaner.look()
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in gone)


async def test_an_agent_that_comes_later_waits_for_the_age(site: Site) -> None:
    """As after a restart: it has never seen the Task."""
    young = site.log(1, age_s=DEFAULT_ORPHAN_S - 1)
    old = [site.log(2, age_s=DEFAULT_ORPHAN_S), site.exit(3, age_s=DEFAULT_ORPHAN_S)]
    old.append(site.directory(4, age_s=DEFAULT_ORPHAN_S))
    await site.another_agent().look()
    assert young.exists()
    assert not any(path.exists() for path in old)


async def test_a_task_that_ran_here_was_there(site: Site) -> None:
    """It came and went between two looks."""
    path = site.log(1)
    site.runs.append(SimpleNamespace(told=SimpleNamespace(uid=uid(1)), phase=RunPhase.REPORTED))
    await site.cleaner.look()
    assert not path.exists()


async def test_nothing_of_a_task_that_is_there_or_still_runs(site: Site) -> None:
    site.task(1)
    files = [site.log(1, age_s=1e8), site.exit(1, age_s=1e8), site.directory(1, age_s=1e8)]
    running = site.log(2, age_s=1e8)
    site.runs.append(SimpleNamespace(told=SimpleNamespace(uid=uid(2)), phase=RunPhase.RUNNING))
    for _ in range(3):
        await site.cleaner.look()
    assert all(path.exists() for path in [*files, running])


async def test_a_file_that_appears_between_the_looks_at_files_and_tasks(site: Site) -> None:
    """Its Task is not in a list that was made before; such a file is not judged by that list."""
    site.task(1)
    site.log(1)

    def appear(verb: str, plural: str, name: str) -> None:
        if (verb, plural) == ("list", "tasks"):
            site.log(2, age_s=1e8)

    site.api.hooks.append(appear)
    await site.cleaner.look()
    assert (site.root / log_file("t2", uid(2), 1)).exists()


async def test_times_of_the_settings(site: Site) -> None:
    site.configure(afterDeletionSeconds=100, maxAgeSeconds=200, orphanSeconds=300)
    site.task(1)
    site.task(2, ended_s_ago=199)
    site.task(3, ended_s_ago=200)
    logs = {number: site.log(number, age_s=250) for number in (1, 2, 3)}
    fresh = site.log(4)
    site.task(4)
    await site.cleaner.look()
    assert [number for number, path in logs.items() if path.exists()] == [1, 2]
    site.delete(4)
    await site.cleaner.look()
    assert fresh.exists()
    site.time.clock.advance(100)
    await site.cleaner.look()
    assert not fresh.exists()


async def test_switched_off(site: Site) -> None:
    site.configure(enabled=False)
    path = site.log(1, age_s=1e8)
    await site.cleaner.look()
    assert path.exists()
    assert site.api.count("list") == 0


async def test_large_values_go_when_no_taskobject_names_them(site: Site) -> None:
    used, unused, young = (f"{n:02x}" * 32 for n in (1, 2, 3))
    paths = {
        sha: site.write(object_path(sha), age_s=OBJECT_IDLE_S if sha != young else 0)
        for sha in (used, unused, young)
    }
    site.api.put(TASKOBJECTS, {"metadata": {"name": "o"}, "ref": {"sha256": used}})
    await site.cleaner.look()
    assert [sha for sha, path in paths.items() if path.exists()] == [used, young]


async def test_a_value_that_comes_to_be_used_again_stays(site: Site) -> None:
    """Its writer finds it there, and names it in a TaskObject only later."""
    content = b"x" * 10
    reference = site.workspace.write_object(content)
    path = site.root / reference["path"]
    old = site.time.clock.now().timestamp() - 1e6
    os.utime(path, (old, old))

    def use(verb: str, plural: str, name: str) -> None:
        if plural == "taskobjects":
            site.workspace.write_object(content)

    site.api.hooks.append(use)
    await site.cleaner.look()
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


async def test_the_api_server_is_away(site: Site) -> None:
    path = site.log(1, age_s=1e8)
    for plural in ("taskclusters", "tasks"):
        verb = "get" if plural == "taskclusters" else "list"
        site.api.faults.append(Fault(verb, Unavailable("away"), plural))
    for _ in range(2):
        try:
            await site.cleaner.look()
        except ApiError:
            continue
    assert path.exists()


async def test_the_more_workers_the_rarer_each_looks(site: Site) -> None:
    assert await site.cleaner.look() == 60
    site.configure(workers=10, periodSeconds=7)
    assert await site.cleaner.look() == 70


# --- hostile tasks ------------------------------------------------------------------------


async def test_links_are_removed_and_not_followed(site: Site, tmp_path_factory: Any) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "precious").write_text("x")
    site.task(1)
    directory = site.directory(1)
    (directory / "link").symlink_to(outside)
    (directory / "a" / "file").symlink_to(outside / "precious")
    await site.cleaner.look()
    site.delete(1)
    await site.cleaner.look()
    assert not directory.exists()
    assert (outside / "precious").read_text() == "x"


@pytest.mark.parametrize("part", [".taskctl", ".taskctl/logs", ".taskctl/tasks"])
async def test_a_link_in_the_place_of_a_directory(site: Site, part: str, tmp_path: Path) -> None:
    """What lies where it leads has names like ours, and is old."""
    elsewhere = tmp_path / "elsewhere"
    (site.root / ".taskctl/tasks").mkdir()
    (site.root / part).rename(elsewhere)
    (site.root / part).symlink_to(elsewhere)
    files = [site.log(1, age_s=1e8), site.directory(2, age_s=1e8)]
    await site.cleaner.look()
    behind = [
        path for path in files if part in (".taskctl", str(path.parent.relative_to(site.root)))
    ]
    assert behind
    assert all(path.exists() for path in behind)


async def test_a_task_directory_that_is_a_link(site: Site, tmp_path_factory: Any) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "precious").write_text("x")
    (site.root / ".taskctl/tasks").mkdir(exist_ok=True)
    (site.root / ".taskctl/tasks" / uid(1)).symlink_to(outside)
    site.task(1)
    await site.cleaner.look()
    site.delete(1)
    await site.cleaner.look()
    assert (outside / "precious").exists()


async def test_a_directory_that_becomes_a_link_meanwhile(site: Site, tmp_path_factory: Any) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "precious").write_text("x")
    directory = site.directory(1, age_s=1e8)

    def swap(verb: str, plural: str, name: str) -> None:
        if plural == "tasks" and not directory.is_symlink():
            directory.rename(outside / "moved")
            directory.symlink_to(outside)

    site.api.hooks.append(swap)
    await site.cleaner.look()
    assert (outside / "precious").exists()
    assert (outside / "moved/a/b/c").exists()


async def test_directories_that_are_locked_or_very_deep(site: Site) -> None:
    site.task(1)
    directory = site.directory(1)
    deep = directory
    for _ in range(100):
        deep = deep / "d"
        deep.mkdir()
    (deep / "file").write_text("x")
    os.chmod(directory / "a", 0)
    await site.cleaner.look()
    site.delete(1)
    for _ in range(5):
        await site.cleaner.look()
    assert list((site.root / ".taskctl/tasks").iterdir()) == []


async def test_a_look_is_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning, "MAX_REMOVALS", 10)
    monkeypatch.setattr(cleaning, "MAX_ENTRIES", 20)
    site.task(1)
    directory = site.directory(1)
    for number in range(50):
        (directory / str(number)).write_text("x")
    await site.cleaner.look()
    site.delete(1)
    counts = []
    for _ in range(50):
        await site.cleaner.look()
        counts.append(sum(1 for _ in directory.rglob("*")) if directory.exists() else 0)
    assert all(before - after <= 10 for before, after in itertools.pairwise(counts))
    assert counts[3] > 0
    assert counts[-1] == 0


async def test_every_entry_is_reached(site: Site) -> None:
    for number in range(25):
        site.log(number, age_s=1e8)
    finder = Finder(site.root)
    now_s = site.time.clock.now().timestamp()
    found: set[str] = set()
    for _ in range(4):
        found |= {file.name for file in finder.find(8, now_s)}
    assert len(found) == 25


async def test_names_that_are_not_ours_stay(site: Site) -> None:
    mine = [
        site.write(".taskctl/logs/notes.txt", age_s=1e8),
        site.write(".taskctl/tasks/mine/file", age_s=1e8),
        site.write(f".taskctl/code/{HASH}", age_s=1e8),
        site.write("data/file", age_s=1e8),
    ]
    (site.root / ".taskctl/logs" / log_file("d", uid(9), 1).rpartition("/")[2]).mkdir()
    await site.cleaner.look()
    assert all(path.exists() for path in mine)


async def test_what_cannot_be_removed_is_said_once_an_hour(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*args: Any) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(cleaning, "remove", refuse)
    site.log(1, age_s=1e8)
    site.log(2, age_s=1e8)
    for _ in range(3):
        await site.cleaner.look()
    assert caplog.text.count("cannot be removed") == 1
    site.time.clock.advance(3600)
    await site.cleaner.look()
    assert caplog.text.count("cannot be removed") == 2


async def test_a_value_is_given_back_where_its_time_has_changed(site: Site) -> None:
    path = site.write(object_path(HASH), age_s=1e6)
    (file,) = Finder(site.root).find(100, site.time.clock.now().timestamp())
    assert remove(site.root, replace(file, modified_ns=1), 1) == 0
    assert path.exists()
    assert remove(site.root, file, 1) == 1
    assert not path.exists()

"""What must hold of every run on a cluster, however it was disturbed.

Each task has exactly one outcome; none is lost; the user's code never ran twice within one
attempt; every attempt is on record; and in the end nothing runs any more. To let the oracle
see what ran, a task begins with :data:`NOTE`.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from taskctl.api.resources import TASKS
from taskctl.kube.informer import Informer
from taskctl.policy.status import PAST_ATTEMPTS_KEPT
from tests.cluster.disruptions import Running, running_tasks, status_of
from tests.cluster.world import ClusterWorld
from tests.embedded.world import TERMINAL, Object, eventually
from tests.realnode.node import NativeNode

# One write to a file opened for appending: lines of tasks that run at once do not mix.
NOTE = 'echo "$TASKCTL_TASK_UID $TASKCTL_ATTEMPT" >>/workspace/runs'
ENDED_S = 60.0
IDLE_S = 30.0
# For what should not come: a second start, a change of what is final.
SETTLE_S = 1.5
# A task's ending: state, reason, attempt, exit code.
Ending = tuple[str, str, int, int | None]


def noting(script: str = "") -> list[str]:
    """Return the command of a task that notes its run, then does as the shell script says."""
    return ["sh", "-c", f"{NOTE}\n{script}"]


def link(last: int, more: str = "") -> str:
    """Return the script of one link of a chain ``c-0`` to ``c-<last>``, which count up.

    Args:
        last: the number of the last one.
        more: lines before it says its number, each with its newline.
    """
    return f"""
{NOTE}
n=$(taskctl-init input n)
if [ "$n" -lt {last} ]; then
    taskctl-init spawn --key next --name "c-$((n + 1))" --data "n=$((n + 1))" >/dev/null
fi
{more}taskctl-init output --data "n=$n"
"""


@dataclass
class Witness:
    """What was seen of the tasks of a namespace from the first moment on, by UID.

    Attributes:
        names: of all tasks that ever were.
        endings: each different ending a task ever had.
    """

    names: dict[str, str] = field(default_factory=dict)
    endings: dict[str, list[Ending]] = field(default_factory=dict)

    def on_change(self, _old: Object | None, new: Object | None) -> None:
        """Note a task as it is now."""
        if new is None:
            return
        uid = new["metadata"]["uid"]
        self.names[uid] = new["metadata"]["name"]
        seen = self.endings.setdefault(uid, [])
        ending = ending_of(new)
        if ending is not None and ending not in seen:
            seen.append(ending)
        elif ending is None and seen:
            seen.append(("(under way again)", "", attempt_of(new), None))


def ending_of(task: Object) -> Ending | None:
    """Return how a task ended; None if it has not."""
    status = task.get("status", {})
    if status.get("state") not in TERMINAL:
        return None
    return status["state"], status.get("reason", ""), attempt_of(task), status.get("exitCode")


def attempt_of(task: Object) -> int:
    """Return the number of the latest attempt on record, 0 for none."""
    return int(task.get("status", {}).get("attempt", 0))


@dataclass(frozen=True)
class Oracle:
    """Judges what happened in a world.

    Attributes:
        world: the namespace.
        node: where its containers run.
        witness: what was seen there so far.
    """

    world: ClusterWorld
    node: NativeNode
    witness: Witness

    @classmethod
    @asynccontextmanager
    async def watching(cls, world: ClusterWorld, node: NativeNode) -> AsyncIterator[Oracle]:
        """Watch the tasks of a world, from before the first one."""
        witness = Witness()
        informer = Informer(world.client, TASKS, world.namespace)
        informer.add_handler(witness.on_change)
        running = asyncio.create_task(informer.run(), name="oracle")
        try:
            await informer.wait_synced(10)
            yield cls(world, node, witness)
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    async def judge(
        self,
        *names: str,
        removed: Collection[str] = (),
        clusters: Iterable[str] = ("c",),
        agent_restarts: int | None = 0,
        timeout_s: float = ENDED_S,
    ) -> dict[str, Object]:
        """Wait until all tasks have ended and nothing runs; then everything must hold.

        Args:
            names: the tasks there must be, neither more nor fewer.
            removed: names of tasks that were there, and were deleted.
            clusters: whose workspaces hold notes of runs.
            agent_restarts: how often the kubelet had reason to start an agent again; None:
                that is not known.
            timeout_s: for the tasks to end.

        Returns:
            The status of each task by name.
        """
        await eventually(
            self._open, lambda found: not found, timeout_s=timeout_s, what="all tasks ended"
        )
        await eventually(
            self._running, lambda found: not found, timeout_s=IDLE_S, what="containers ended"
        )
        await asyncio.sleep(SETTLE_S)
        tasks = await self.world.all(TASKS)
        runs = await asyncio.to_thread(self.runs, clusters)
        problems = find_problems(tasks, runs, self.witness, {*names}, {*removed})
        problems += [f"{c.name} runs again on {c.pod}" for c in await self._running()]
        restarts = {pod["metadata"]["name"]: status_of(pod, "agent").get("restartCount", 0)
                    for pod in await self.world.workers()}  # fmt: skip
        if agent_restarts is not None and sum(restarts.values()) != agent_restarts:
            problems.append(f"agents were started again: {restarts}")
        statuses = {task["metadata"]["name"]: task["status"] for task in tasks}
        assert not problems, "\n".join([*problems, *map(str, statuses.items())])
        return statuses

    async def _open(self) -> dict[str, Object]:
        return {
            task["metadata"]["name"]: task.get("status", {})
            for task in await self.world.all(TASKS)
            if ending_of(task) is None
        }

    async def _running(self) -> list[Running]:
        return await asyncio.to_thread(running_tasks, self.node, self.world.namespace)

    def runs(self, clusters: Iterable[str] = ("c",)) -> list[str]:
        """Return the notes of all runs, "UID ATTEMPT" each."""
        files = [self.world.workspace(name) / "runs" for name in clusters]
        return [line for file in files if file.exists() for line in file.read_text().splitlines()]


def assert_one_attempt(statuses: Mapping[str, Object]) -> None:
    """Nothing may have been begun, and lost, or failed, before it ended."""
    repeated = {
        name: (status["attempt"], status.get("attempts"), status.get("message"))
        for name, status in statuses.items()
        if status["attempt"] != 1
    }
    assert not repeated, repeated


def find_problems(
    tasks: Iterable[Object],
    runs: Iterable[str],
    witness: Witness,
    names: Collection[str],
    removed: Collection[str] = (),
) -> list[str]:
    """Return what does not hold, a sentence each.

    Args:
        tasks: all there are.
        runs: the notes.
        witness: what was seen on the way.
        names: of the tasks there must be.
        removed: of tasks that were deleted.
    """
    by_uid = {task["metadata"]["uid"]: task for task in tasks}
    found = sorted(task["metadata"]["name"] for task in by_uid.values())
    problems = []
    if found != sorted(names):
        problems.append(f"tasks are {found}, not {sorted(names)}")
    for uid, name in witness.names.items():
        if uid not in by_uid and name not in removed:
            problems.append(f"{name} has vanished")
    counted = collections.Counter(runs)
    for task in by_uid.values():
        problems += _problems_of(task, witness)
        if _must_have_run(task) and f"{task['metadata']['uid']} {attempt_of(task)}" not in counted:
            problems.append(f"{task['metadata']['name']} succeeded without a run")
    return problems + _problems_of_runs(counted, by_uid, witness)


def _must_have_run(task: Object) -> bool:
    notes = any(NOTE in word for word in task["spec"]["command"])
    return notes and task.get("status", {}).get("state") == "Succeeded"


def _problems_of(task: Object, witness: Witness) -> list[str]:
    name, attempt = task["metadata"]["name"], attempt_of(task)
    problems = []
    ending = ending_of(task)
    seen = witness.endings.get(task["metadata"]["uid"], [])
    if ending is None or {*seen} - {ending}:
        problems.append(f"{name} did not end once: {ending}, seen were {seen}")
    recorded = [entry["attempt"] for entry in task.get("status", {}).get("attempts", [])]
    expected = [*range(1, attempt)][-PAST_ATTEMPTS_KEPT:]
    if recorded != expected:
        problems.append(f"{name} has attempts {recorded} on record, not {expected}")
    return problems


def _problems_of_runs(
    runs: Mapping[str, int], by_uid: Mapping[str, Object], witness: Witness
) -> list[str]:
    problems = []
    for line, times in runs.items():
        uid, _, number = line.partition(" ")
        name = witness.names.get(uid)
        if name is None or not number.isdigit():
            problems.append(f"a run of no task: {line!r}")
            continue
        if times > 1:
            problems.append(f"attempt {number} of {name} ran {times} times")
        if uid in by_uid and int(number) > attempt_of(by_uid[uid]):
            problems.append(f"{name} ran attempt {number}, which is not on record")
    return problems

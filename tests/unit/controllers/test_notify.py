"""``notify``: every end is told at least once, with one id, signed, and noted on the root."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import pytest

from taskctl.api.resources import TASKS
from taskctl.controllers.setup import SetupOptions
from taskctl.errors import Forbidden, Unavailable
from taskctl.kube.resources import EVENTS, SECRETS
from taskctl.policy.hostlist import parse_allowed
from taskctl.policy.notify import DeliveryAnswer, NotifyReason
from tests.unit.controllers.fake_api import Call
from tests.unit.controllers.simulation import Simulation
from tests.unit.controllers.test_retries import complete, graph, retry
from tests.unit.controllers.virtual import run

URL = "https://hooks.example.com/tasks"
KEY = bytes(range(32))
KEY_TEXT = f"whsec_{base64.b64encode(KEY).decode()}"
ALL = ["Started", "Succeeded", "Failed", "Cancelled"]
Script = Callable[[int], DeliveryAnswer]


@dataclass
class Receiver:
    """Answers as it is told, and remembers what it got."""

    answers: Script = lambda _: DeliveryAnswer(200)
    got: list[dict[str, Any]] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    before: Callable[[], Awaitable[None]] | None = None

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> DeliveryAnswer:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        wanted = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
        assert f"v1,{wanted}" in headers["webhook-signature"].split(" ")
        assert headers["Content-Type"] == "application/cloudevents+json"
        event = json.loads(body)
        assert event["id"] == headers["webhook-id"]
        self.got.append(event | {"url": url})
        self.moments.append(asyncio.get_running_loop().time())
        if self.before is not None:
            await self.before()
        return self.answers(len(self.got))

    @property
    def told(self) -> list[str]:
        return [event["type"].removeprefix("dev.taskctl.tree.") for event in self.got]


def simulation(receiver: Receiver, *allowed: str) -> AbstractAsyncContextManager[Simulation]:
    hosts = parse_allowed(allowed or ("hooks.example.com",))
    return Simulation.running(SetupOptions(notify_allow=hosts, poster=receiver), {})


async def secret(sim: Simulation, name: str = "taskctl-notify", **data: str) -> None:
    coded = {
        k: base64.b64encode(v.encode()).decode() for k, v in (data or {"key": KEY_TEXT}).items()
    }
    await sim.api.create(SECRETS, {"metadata": {"name": name}, "data": coded}, "ns")


def entries(sim: Simulation, root: str = "root") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (sim.status(root).get("tree") or {}).get("notifications") or []
    return found


def states(sim: Simulation, root: str = "root") -> list[str]:
    return [entry["state"] for entry in entries(sim, root)]


async def settled(sim: Simulation, count: int = 1, root: str = "root") -> list[dict[str, Any]]:
    for _ in range(600):
        if len(entries(sim, root)) >= count and "Owed" not in states(sim, root):
            return entries(sim, root)
        await asyncio.sleep(0.5)
    raise AssertionError(sim.status(root))


def notified(sim: Simulation, root: str = "root") -> tuple[str, str, str]:
    found = [one for one in sim.status(root).get("conditions") or () if one["type"] == "Notified"]
    return (found[0]["status"], found[0]["reason"], found[0]["message"]) if found else ("", "", "")


def events(sim: Simulation) -> list[tuple[str, str]]:
    found = [(event["reason"], event["message"]) for event in sim.api.all(EVENTS)]
    return [one for one in found if one[0].startswith("Notification")]


@pytest.mark.parametrize(
    ("command", "spec", "cancel", "told", "reason"),
    [
        (["ok"], {}, False, ["started", "succeeded"], "Completed"),
        (["fail", "3"], {}, False, ["started", "failed"], "NonZeroExit"),
        (["work", "900"], {}, True, ["started", "cancelled"], "Cancelled"),
        (["work", "900"], {"treeTimeoutSeconds": 30}, False, ["started", "failed"], "TreeTimeout"),
        (["grow", "3", "5"], {}, False, ["started", "succeeded"], "TreeComplete"),
        (["ok"], {"suspend": True}, True, ["cancelled"], "Cancelled"),
        (["ok"], {"runAfter": {"tasks": ["broken"]}}, False, ["failed"], "DependencyFailed"),
    ],
)
def test_it_tells_every_end(
    command: list[str], spec: dict[str, Any], cancel: bool, told: list[str], reason: str
) -> None:
    async def main() -> None:
        receiver = Receiver()
        async with simulation(receiver) as sim:
            await secret(sim)
            await sim.task("broken", "fail", "1")
            await sim.task("root", *command, notify=[{"url": URL, "events": ALL}], **spec)
            if cancel:
                await asyncio.sleep(5)
                sim.spec("root", cancel=True)
            await complete(sim, "root", succeeded=told[-1] == "succeeded")
            await settled(sim, len(told))
            assert receiver.told == told
            end = receiver.got[-1]
            uid = sim.api.peek(TASKS, "root")["metadata"]["uid"]
            assert end["specversion"] == "1.0"
            assert end["source"] == "/apis/taskctl.dev/v1alpha1/namespaces/ns/tasks/root"
            assert (end["subject"], end["id"]) == ("root", f"{uid}-1-ended-0")
            data = end["data"]
            assert (data["root"], data["run"], data["reason"]) == ("root", 1, reason)
            assert data["state"].lower() == told[-1]
            total = sim.status("root").get("descendants", {"total": 0})["total"]
            assert data["descendants"]["total"] == total
            assert set(states(sim)) == {"Sent"}
            assert not any("data" in entry for entry in entries(sim))
            assert notified(sim) == ("True", "NotificationsSent", "")
            await asyncio.sleep(5)  # Events are written beside the rest
            await sim.restart_controller()
            await asyncio.sleep(60)
            assert receiver.told == told
            assert [what for what, _ in events(sim)] == ["NotificationSent"] * len(told)

    run(main())


def test_each_receiver_is_told_what_it_asks_for() -> None:
    async def main() -> None:
        receiver = Receiver()
        async with simulation(receiver, "hooks.example.com", "http://*.example.com:*") as sim:
            await secret(sim)
            await secret(sim, "other", k=f"{KEY_TEXT} {KEY_TEXT}")
            await sim.task(
                "root",
                "fail",
                "1",
                notify=[
                    {"url": URL, "events": ["Succeeded"]},
                    {
                        "url": "http://a.example.com:99/x",
                        "events": ["Failed"],
                        "secretKeyRef": {"name": "other", "key": "k"},
                        "queue": "my_queue",
                        "payload": '{"insert": 1}',
                    },
                ],
            )
            (entry,) = await settled(sim)
            (event,) = receiver.got
            assert (entry["notify"], event["url"]) == (1, "http://a.example.com:99/x")
            assert event["data"]["queue"] == "my_queue"
            assert json.loads(event["data"]["payload"]) == {"insert": 1}

    run(main())


def test_of_a_root_with_tasks_parameters_are_filled_in() -> None:
    async def main() -> None:
        receiver = Receiver()
        async with simulation(receiver) as sim:
            await secret(sim)
            told = {"url": URL, "payload": "{{params.what}}!", "queue": "q", "events": ALL}
            params = [{"name": "what", "value": "this"}]
            await graph(sim, [{"name": "a"}], params=params, notify=[told])
            await settled(sim, 2, "g")
            assert receiver.told == ["started", "succeeded"]
            assert {event["data"]["payload"] for event in receiver.got} == {"this!"}

    run(main())


DOWN = DeliveryAnswer(reason=NotifyReason.UNREACHABLE, message="down.")
HANGS = DeliveryAnswer(reason=NotifyReason.NO_ANSWER, message="hangs.")


@pytest.mark.parametrize(
    "answer", [DOWN, HANGS, *(DeliveryAnswer(code) for code in (408, 425, 429, 500, 502, 503, 599))]
)
def test_a_receiver_that_may_recover_is_tried_again(answer: DeliveryAnswer) -> None:
    async def main() -> None:
        receiver = Receiver(answers=lambda n: answer if n < 4 else DeliveryAnswer(204))
        async with simulation(receiver) as sim:
            await secret(sim)
            await sim.task("root", notify=[{"url": URL}])
            await sim.until(lambda: len(receiver.got) == 2)
            await asyncio.sleep(1)
            (entry,) = entries(sim)
            assert (entry["state"], entry["attempts"]) == ("Owed", 2)
            assert notified(sim)[:2] == ("False", "NotificationsOwed")
            await sim.restart_controller()  # it neither forgets nor hurries
            (entry,) = await settled(sim)
            assert (entry["state"], entry["attempts"]) == ("Sent", 4)
            assert len({event["id"] for event in receiver.got}) == 1
            assert len({json.dumps(event) for event in receiver.got}) == 1
            gaps = [b - a for a, b in zip(receiver.moments, receiver.moments[1:], strict=False)]
            for gap, pause_s in zip(gaps, (2, 4, 8), strict=True):
                assert 0.75 * pause_s <= gap <= 1.25 * pause_s + 1
            assert notified(sim)[0] == "True"

    run(main())


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (400, "Refused"),
        (404, "Refused"),
        (410, "Refused"),
        (301, "Redirected"),
        (307, "Redirected"),
    ],
)
def test_a_receiver_that_refuses_is_not_asked_again(code: int, reason: str) -> None:
    async def main() -> None:
        receiver = Receiver(answers=lambda _: DeliveryAnswer(code))
        async with simulation(receiver) as sim:
            await secret(sim)
            await sim.task("root", notify=[{"url": URL}])
            (entry,) = await settled(sim)
            assert (entry["state"], entry["reason"]) == ("GivenUp", reason)
            assert f"HTTP {code}" in entry["message"]
            await asyncio.sleep(60)
            assert len(receiver.got) == 1
            assert notified(sim)[:2] == ("False", "NotificationsGivenUp")
            ((what, message),) = events(sim)
            assert what == "NotificationGivenUp"
            assert f"HTTP {code}" in message
            await complete(sim, "root", succeeded=True)

    run(main())


@pytest.mark.parametrize(("limit", "attempts"), [(0, 1), (2, 3)])
def test_it_gives_up_in_the_end(limit: int, attempts: int) -> None:
    async def main() -> None:
        receiver = Receiver(answers=lambda _: DOWN)
        async with simulation(receiver) as sim:
            await secret(sim)
            await sim.task("root", notify=[{"url": URL, "retryLimit": limit}])
            (entry,) = await settled(sim)
            assert (entry["state"], entry["reason"]) == ("GivenUp", "Unreachable")
            assert f"attempt {attempts}, the last one" in entry["message"]
            assert (len(receiver.got), entry["attempts"]) == (attempts, attempts)

    run(main())


def test_a_pause_that_the_receiver_asks_for() -> None:
    async def main() -> None:
        asks = DeliveryAnswer(429, retry_after_s=60)
        receiver = Receiver(answers=lambda n: asks if n == 1 else DeliveryAnswer(200))
        async with simulation(receiver) as sim:
            await secret(sim)
            await sim.task("root", notify=[{"url": URL}])
            await settled(sim)
            assert 60 <= receiver.moments[1] - receiver.moments[0] <= 77

    run(main())


def test_nothing_is_sent_where_nothing_is_allowed() -> None:
    """It says so while the tree still runs, and names the setting."""

    async def main() -> None:
        receiver = Receiver()
        async with simulation(receiver, "other.example.com") as sim:
            await secret(sim)
            await sim.task("root", "work", "60", notify=[{"url": URL}])
            await sim.until(lambda: notified(sim)[1] == "HostNotAllowed", timeout_s=10)
            assert sim.status("root")["state"] != "Succeeded"
            assert "--notify-allow hooks.example.com" in notified(sim)[2]
            (entry,) = await settled(sim)
            assert (entry["state"], entry["reason"]) == ("GivenUp", "HostNotAllowed")
            assert notified(sim)[:2] == ("False", "HostNotAllowed")
            assert "--notify-allow hooks.example.com" in events(sim)[0][1]
            assert receiver.got == []

    run(main())


def test_a_host_that_is_allowed_meanwhile() -> None:
    async def main() -> None:
        receiver = Receiver()
        async with simulation(receiver, "other.example.com") as sim:
            await secret(sim)
            await sim.task("root", "work", "60", notify=[{"url": URL}])
            await sim.until(lambda: notified(sim)[1] == "HostNotAllowed", timeout_s=10)
            hosts = parse_allowed(("hooks.example.com",))
            sim.options = SetupOptions(notify_allow=hosts, poster=receiver)
            await sim.restart_controller()
            await sim.until(lambda: notified(sim) == ("", "", ""), timeout_s=10)
            await settled(sim)
            assert receiver.told == ["succeeded"]

    run(main())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "SecretNotFound"),
        ({"another": KEY_TEXT}, "SecretNotFound"),
        ({"key": "password"}, "SecretInvalid"),
        ({"key": "whsec_c2hvcnQ="}, "SecretInvalid"),
        ({"key": ""}, "SecretInvalid"),
    ],
)
def test_without_a_secret_nothing_is_sent_until_there_is_one(
    data: dict[str, str] | None, reason: str
) -> None:
    async def main() -> None:
        receiver = Receiver()
        async with simulation(receiver) as sim:
            if data is not None:
                await secret(sim, **data)
            await sim.task("root", notify=[{"url": URL}])
            await sim.until(lambda: any(entry.get("reason") for entry in entries(sim)))
            (entry,) = entries(sim)
            assert (entry["state"], entry["reason"]) == ("Owed", reason)
            assert "taskctl-notify" in entry["message"]
            assert not any(value in entry["message"] for value in (data or {}).values() if value)
            sim.api.objects.get("secrets", {}).clear()
            await secret(sim)
            await settled(sim)
            assert receiver.told == ["succeeded"]

    run(main())


def test_a_secret_that_the_controller_may_not_read() -> None:
    async def main() -> None:
        receiver = Receiver()
        async with simulation(receiver) as sim:

            def faults(call: Call, answered: bool) -> Exception | None:
                return Forbidden("no", 403) if call.plural == "secrets" else None

            sim.api.faults = faults
            await sim.task("root", notify=[{"url": URL, "secretKeyRef": {"name": "mine"}}])
            await sim.until(lambda: any(entry.get("reason") for entry in entries(sim)))
            (entry,) = entries(sim)
            assert (entry["state"], entry["reason"]) == ("Owed", "SecretForbidden")
            assert "Secret mine in namespace ns" in entry["message"]
            assert receiver.got == []

    run(main())


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("kill_after", range(1, 6))
def test_at_least_once_if_the_controller_is_killed_at_a_write(
    kill_after: int, answered: bool
) -> None:
    """It is killed before, or after, its n-th write once the tree's last task is under way."""

    async def main() -> None:
        receiver = Receiver()
        async with simulation(receiver) as sim:
            await secret(sim)
            await sim.task("root", "grow", "2", "5", notify=[{"url": URL, "events": ALL}])
            await sim.until(lambda: len(sim.tasks()) == 3)
            writes = 0
            cut = asyncio.Event()

            def faults(call: Call, has_answered: bool) -> Exception | None:
                nonlocal writes
                if call.who == "controller" and call.name == "root" and call.verb == "patch":
                    writes += has_answered == answered
                    if writes >= kill_after:
                        cut.set()
                        return Unavailable("cut")
                return None

            sim.api.faults = faults
            waiting = asyncio.create_task(cut.wait())
            await asyncio.wait([waiting], timeout=60)
            waiting.cancel()
            await sim.kill_controller()
            sim.api.faults = None
            await asyncio.sleep(20)
            await sim.start_controller()
            await settled(sim, 2)
            ids = {event["id"]: event for event in receiver.got}
            assert sorted(name.split("-")[-2] for name in ids) == ["ended", "started"]
            for event in receiver.got:  # doubles say the same
                assert event == ids[event["id"]]
            assert set(states(sim)) == {"Sent"}

    run(main())


def test_killed_between_sending_and_noting_it_sends_again_under_the_same_id() -> None:
    async def main() -> None:
        receiver = Receiver()
        async with simulation(receiver) as sim:
            await secret(sim)
            hang = asyncio.Event()

            async def wait() -> None:
                await hang.wait()

            receiver.before = wait
            await sim.task("root", notify=[{"url": URL}])
            await sim.until(lambda: receiver.got)
            await sim.kill_controller()
            receiver.before = None
            await sim.start_controller()
            await settled(sim)
            assert len(receiver.got) == 2
            assert receiver.got[0] == receiver.got[1]

    run(main())


def test_while_the_api_server_is_away_nothing_is_sent_again_and_again() -> None:
    async def main() -> None:
        receiver = Receiver()
        async with simulation(receiver) as sim:
            await secret(sim)

            def faults(call: Call, answered: bool) -> Exception | None:
                away = receiver.got and call.who == "controller" and call.verb == "patch"
                return Unavailable("away") if away else None

            sim.api.faults = faults
            await sim.task("root", notify=[{"url": URL}])
            await sim.until(lambda: receiver.got)
            await asyncio.sleep(60)
            assert len(receiver.got) == 1
            sim.api.faults = None
            await settled(sim)
            assert len(receiver.got) == 1

    run(main())


def test_an_end_is_told_although_the_tree_runs_again() -> None:
    """Also if the controller has not seen that end."""

    async def main() -> None:
        receiver = Receiver(answers=lambda n: DOWN if n == 1 else DeliveryAnswer(200))
        async with simulation(receiver) as sim:
            await secret(sim)
            await sim.task("root", "fail-until", "3", notify=[{"url": URL, "events": ALL}])
            await complete(sim, "root", succeeded=False)
            await sim.kill_controller()
            await retry(sim, "root")
            await sim.start_controller()
            await complete(sim, "root", succeeded=False)
            await retry(sim, "root")
            await complete(sim, "root", succeeded=True)
            await asyncio.sleep(100)
            await settled(sim, 2)
            ids = [event["id"] for event in receiver.got]
            assert {name.split("-", 2)[2] for name in ids} == {
                f"{run}-{which}-0" for run in (1, 2, 3) for which in ("started", "ended")
            }
            ends = {
                e["data"]["run"]: e["data"]["state"] for e in receiver.got if "ended" in e["id"]
            }
            assert ends == {1: "Failed", 2: "Failed", 3: "Succeeded"}
            assert notified(sim)[0] == "True"

    run(main())


def test_what_is_owed_does_not_grow_without_bound() -> None:
    async def main() -> None:
        receiver = Receiver(answers=lambda _: DOWN)
        async with simulation(receiver) as sim:
            await secret(sim)
            await sim.task("root", "fail-until", "99", notify=[{"url": URL, "events": ALL}])
            for _ in range(10):
                await sim.until(lambda: sim.condition("root", "Complete") == "True")
                await retry(sim, "root")
            await sim.until(lambda: sim.condition("root", "Complete") == "True")
            await asyncio.sleep(1)
            assert len(entries(sim)) < 20
            assert len([state for state in states(sim) if state == "Owed"]) <= 14
            assert any("More than 10" in message for _, message in events(sim))

    run(main())


def test_the_time_to_live_waits_for_what_is_owed() -> None:
    async def main() -> None:
        receiver = Receiver(answers=lambda n: DOWN if n < 4 else DeliveryAnswer(200))
        async with simulation(receiver) as sim:
            await secret(sim)
            ttl = {"success": 5, "failure": 5}
            await sim.task(
                "root", "grow", "1", "1", notify=[{"url": URL}], ttlSecondsAfterFinished=ttl
            )
            await sim.until(lambda: len(receiver.got) == 3)
            assert len(sim.tasks()) == 2
            await sim.until(lambda: not sim.tasks(), timeout_s=300)
            assert len(receiver.got) == 4

    run(main())


def test_a_receiver_that_hangs_holds_up_no_other() -> None:
    async def main() -> None:
        receiver = Receiver()

        async def slow() -> None:
            if receiver.got[-1]["url"] != URL:
                await asyncio.sleep(20)

        receiver.before = slow
        async with simulation(receiver, "hooks.example.com", "slow.example.com") as sim:
            await secret(sim)
            for number in range(10):
                await sim.task(f"slow-{number}", notify=[{"url": "https://slow.example.com/"}])
            await sim.until(lambda: len(receiver.got) == 4)
            began_s = sim.api.clock.monotonic_s()
            await sim.task("root", notify=[{"url": URL}])
            await settled(sim)
            assert sim.api.clock.monotonic_s() - began_s < 10
            await sim.until(lambda: len(receiver.got) == 11)

    run(main())


def test_one_that_is_deleted_is_forgotten() -> None:
    async def main() -> None:
        receiver = Receiver(answers=lambda _: DOWN)
        async with simulation(receiver) as sim:
            await secret(sim)
            await sim.task("root", notify=[{"url": URL}])
            await sim.until(lambda: len(receiver.got) == 2)
            await sim.api.delete(TASKS, "root", "ns")
            await asyncio.sleep(60)
            assert len(receiver.got) == 2

    run(main())

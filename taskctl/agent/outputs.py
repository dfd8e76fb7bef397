"""``input`` and ``output``: the TaskObjects of a run."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import Any, Final

from taskctl.agent import fields
from taskctl.agent.context import Context
from taskctl.agent.fields import bad
from taskctl.agent.objects import ObjectStore, read_object
from taskctl.agent.peers import out_of_reach
from taskctl.agent.refusals import ErrorCode, Refusal, from_api
from taskctl.agent.rights import InputRights
from taskctl.agent.runs import RecordedOutput, Run
from taskctl.agent.sources import Sources
from taskctl.agent.values import FORMS, Content, content_of, encode_json, parse_content
from taskctl.api import meta
from taskctl.api.resources import TASKOBJECTS, TASKS
from taskctl.api.states import Codec, TaskState
from taskctl.constants import LABEL_ATTEMPT, LABEL_OUTPUT_OF, LABEL_PARENT_UID
from taskctl.errors import ApiError
from taskctl.policy.lineage import OUTPUT_SUFFIX, owner_reference, tree_labels
from taskctl.policy.view import parse_task
from taskctl.wire import Message

logger = logging.getLogger(__name__)

_FORMATS: Final = ("value", "json", "text")
_MAX_KEY_CHARS: Final = 1024
# An output is replaced once, or twice if two attempts write at the same time.
_MAX_SWAPS: Final = 5
# Inputs that are kept for runs which have not asked for them yet: up to 1.5 MB each.
MAX_READ_AHEAD: Final = 16


class Outputs:
    """Answers ``input`` and ``output``.

    Args:
        context: of the agent.
        objects: writes TaskObjects.
    """

    def __init__(self, context: Context, objects: ObjectStore) -> None:
        self._context = context
        self._objects = objects
        self._rights = InputRights(context)
        self._sources = Sources(context, objects)
        self._ahead: dict[Run, asyncio.Task[dict[str, Any] | None]] = {}

    # --- input ----------------------------------------------------------------------
    async def input(self, run: Run, message: Message) -> Message:
        """Return the input of a run.

        Raises:
            Refusal: ``bad_request``, ``rejected``, ``no_workspace``, ``too_large`` or
                ``unavailable``.
        """
        wanted = fields.text(message, "format", max_chars=16)
        if wanted not in _FORMATS:
            raise bad("format", f"{wanted!r} is none of {', '.join(_FORMATS)}")
        try:
            task = await self._context.task_of(run)
            content = await self._input(run, task)
            if wanted == "value":
                sources = await self._sources.told(run, task)
                answer = {"ref" if content.field == "ref" else "value": content.body}
                return {**answer, "sources": sources} if sources else answer
            content = await self._sources.compose(run, parse_task(task), content)
        except ApiError as error:
            raise from_api(error) from error
        if wanted == "text":
            return {"text": await self._member(content, message)}
        return {"json": await self._objects.as_json(content, "the input")}

    async def sources(self, run: Run, message: Message) -> Message:
        """Return results that are parts of a run's input; see :class:`Sources`."""
        return await self._sources.sources(run, message)

    def read_ahead(self, run: Run) -> None:
        """Begin to read the input of a run that starts now; its program will ask for it soon.

        What a TaskObject holds never changes, so it does not matter when it is read. The longest
        unasked input goes when there are too many.
        """
        name = (run.task or {}).get("spec", {}).get("inputObject")
        if not name:
            return
        work = read_object(self._context, TASKOBJECTS, name)
        reading = self._context.background.spawn(f"input of {run.told.container}", work)
        self._ahead[run] = reading
        if len(self._ahead) > MAX_READ_AHEAD:
            self.forget(next(iter(self._ahead)))

    def forget(self, run: Run) -> None:
        """Drop what was read ahead for a run."""
        reading = self._ahead.pop(run, None)
        if reading is not None:
            reading.cancel()

    async def _object(self, run: Run, name: str) -> dict[str, Any] | None:
        """Return the TaskObject that is the input of a run; None: there is none."""
        reading = self._ahead.pop(run, None)
        if reading is not None:
            await asyncio.wait([reading])
            if not reading.cancelled() and reading.exception() is None and reading.result():
                return reading.result()
        return await read_object(self._context, TASKOBJECTS, name)

    async def _input(self, run: Run, task: dict[str, Any]) -> Content:
        spec, context = task["spec"], self._context
        name = spec.get("inputObject")
        if not name:
            return Content("value", spec.get("input"))
        found = await self._object(run, name)
        if found is None:
            found = await self._small_output(name)
        if found is None:
            raise Refusal(
                ErrorCode.REJECTED, f"the input, TaskObject {name}, does not exist (any more)"
            )
        await self._rights.check_use(parse_task(task), found)
        away = await out_of_reach(context, found)
        if away:
            raise Refusal(ErrorCode.REJECTED, f"the input, TaskObject {name}: {away}")
        return content_of(found)

    async def _small_output(self, name: str) -> dict[str, Any] | None:
        """Return what a TaskObject of that name would be, had its Task not a small output."""
        maker = name.removesuffix(OUTPUT_SUFFIX)
        if maker == name:
            return None
        task = await read_object(self._context, TASKS, maker)
        if task is None:
            return None
        view = parse_task(task)
        value = view.status.get("output")
        if view.state is not TaskState.SUCCEEDED or value is None:
            return None
        return {"metadata": {"name": name, "labels": tree_labels(view)}, "value": value}

    async def _member(self, content: Content, message: Message) -> str:
        """Return one member of an input, however large the others are."""
        key = fields.text(message, "key", max_chars=_MAX_KEY_CHARS)
        if "\0" in key:
            raise bad("key", "holds a NUL character")
        if content.field == "ref":
            encoded = await self._objects.read(content.body, "the input")
            codec = Codec(content.body["codec"])
        else:
            encoded, codec = encode_json(content.body, "input"), Codec.JSON
        member = await self._objects.large.member(encoded, codec, key, "the input")
        return member.decode()

    # --- output ---------------------------------------------------------------------
    async def output(self, run: Run, message: Message) -> Message:
        """Record the output of a run; of several, the last counts.

        A small one goes into the Task's status with the outcome, if the caller says ``inline``
        and the TaskCluster wants that.

        Raises:
            Refusal: ``conflict``: something else has its name; ``bad_request``,
                ``superseded``, ``no_workspace``, ``rejected`` or ``unavailable``.
        """
        inline = fields.flag(message, "inline") and self._context.settings.inline_outputs
        message = await self._objects.large.checked(message)
        content = await asyncio.to_thread(parse_content, message)
        if content is None:
            raise bad("value", f"is missing; give one of {', '.join(FORMS)}")
        run.check_running()
        work = self._record(run, content, inline=inline)
        return {"object": await self._context.on_behalf(run, "output", work)}

    async def _record(self, run: Run, content: Content, *, inline: bool) -> str:
        async with run.output_lock:
            if inline and content.is_small and await self._keep(run, content):
                return ""
            content = await self._objects.settle(content, content.field)
            digest = content.digest()
            if run.output is None or not run.output.name or run.output.digest != digest:
                run.output = None  # what it names may be gone when this fails
                run.has_old_output = True
                try:
                    run.output = await self._put(run, content, digest)
                except ApiError as error:
                    raise from_api(error) from error
                await asyncio.to_thread(self._context.journal.drop_output, run.told)
            return run.output.name

    async def _keep(self, run: Run, content: Content) -> bool:
        """Keep a small output for the outcome; return whether it is safe now."""
        digest = content.digest()
        if run.output is not None and not run.output.name and run.output.digest == digest:
            return True
        try:
            await asyncio.to_thread(self._context.journal.keep_output, run.told, content.body)
        except OSError as error:
            logger.warning("output is stored as a TaskObject, %s %s", error, run.label)
            return False
        run.has_old_output |= run.output is not None and bool(run.output.name)
        run.output = RecordedOutput("", digest, content.body)
        return True

    async def _put(self, run: Run, content: Content, digest: str) -> RecordedOutput:
        """Create the output in place of what this or an earlier attempt has left.

        A TaskObject never changes, so the old one is deleted first, by its UID: no other
        writer's object is hit. Whatever dies in between, the task asks again.
        """
        task = await self._context.task_of(run)
        for name in output_names(run.told.task, run.told.uid):
            metadata = _metadata(task, name, run.told.attempt)
            for _ in range(_MAX_SWAPS):
                found, created = await self._objects.create_object(metadata, content)
                if created:
                    return RecordedOutput(name, digest)
                if not _is_replaceable(found, run):
                    break
                attempt = _attempt_of(found, run)
                if attempt > run.told.attempt:
                    raise Refusal(
                        ErrorCode.SUPERSEDED,
                        f"attempt {attempt} of {run.told.task} has an output already; this is "
                        f"attempt {run.told.attempt}",
                    )
                if attempt == run.told.attempt and content_of(found).digest() == digest:
                    return RecordedOutput(name, digest)
                await self._objects.delete(found)
            else:
                raise Refusal(
                    ErrorCode.UNAVAILABLE, f"TaskObject {name} cannot be replaced yet; try again"
                )
        raise Refusal(
            ErrorCode.CONFLICT, f"TaskObject {name} belongs to something else; delete or rename it"
        )

    async def of(self, run: Run) -> RecordedOutput | None:
        """Return the output of a run; None if it has none.

        The output of an earlier attempt is not this one's, and is deleted. So is a TaskObject of
        this attempt that a small output has taken the place of.

        Raises:
            ApiError: after a restart, or an earlier attempt, the API server has to be asked,
                and could not be.
        """
        if run.output is None and run.recovered:
            value = await asyncio.to_thread(self._context.journal.load_output, run.told)
            if value is not None:
                run.output = RecordedOutput("", Content("value", value).digest(), value)
        small = run.output is not None and not run.output.name
        searched = run.has_old_output or run.told.attempt > 1
        if searched and (run.output is None or small):
            for name in output_names(run.told.task, run.told.uid):
                found = await read_object(self._context, TASKOBJECTS, name)
                if found is None or not _is_own(found, run):
                    continue
                if _attempt_of(found, run) == run.told.attempt and not small:
                    run.output = RecordedOutput(name, content_of(found).digest())
                elif _attempt_of(found, run) <= run.told.attempt:
                    await self._objects.delete(found)
                break
        return run.output


def output_names(task: str, uid: str) -> tuple[str, str]:
    """Return the name of a Task's output, and the one to use if a stranger has that name.

    All attempts share it, so that others can name it before it is there.
    """
    digest = hashlib.sha256(uid.encode()).hexdigest()[:10]
    return _fit(task, OUTPUT_SUFFIX), _fit(task, f"{OUTPUT_SUFFIX}-{digest}")


def _fit(name: str, suffix: str) -> str:
    if len(name) + len(suffix) <= meta.MAX_NAME:
        return name + suffix
    digest = hashlib.sha256(name.encode()).hexdigest()[:10]
    stem = name[: meta.MAX_NAME - len(suffix) - len(digest) - 1].rstrip("-.")
    return f"{stem}-{digest}{suffix}"


def _metadata(task: dict[str, Any], name: str, attempt: int) -> dict[str, Any]:
    """Return the metadata of an output: it goes when the task that made it goes."""
    view = parse_task(task)
    own = {LABEL_OUTPUT_OF: view.uid, LABEL_ATTEMPT: str(attempt)}
    return {
        "name": name,
        "namespace": view.namespace,
        "labels": tree_labels(view) | own,
        "ownerReferences": [owner_reference(view.name, view.uid)],
    }


def _is_own(found: dict[str, Any], run: Run) -> bool:
    labels = found["metadata"].get("labels") or {}
    return bool(labels.get(LABEL_PARENT_UID) == run.told.uid)


def _is_replaceable(found: dict[str, Any], run: Run) -> bool:
    """Whether an object is an output of this Task, or of one of its name that is gone.

    The latter waits to be collected: a Task of that name and another UID cannot exist.
    """
    owners = found["metadata"].get("ownerReferences") or ()
    return _is_own(found, run) or (
        LABEL_OUTPUT_OF in (found["metadata"].get("labels") or {})
        and any(owner["kind"] == "Task" and owner["name"] == run.told.task for owner in owners)
    )


def _attempt_of(found: dict[str, Any], run: Run) -> int:
    """Return which attempt of this Task made an output; 0: another Task did."""
    text = (found["metadata"].get("labels") or {}).get(LABEL_ATTEMPT, "1")
    return int(text) if _is_own(found, run) and text.isdecimal() else 0

"""The tasks of an operation: functions, scripts, commands, containers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from taskctl.errors import ConfigError
from taskctl.outside.shipping import as_task
from taskctl.sdk import _options
from taskctl.sdk._functions import Call, TaskFunction
from taskctl.sdk.errors import Unsendable

# Options of a task beside its variables, by the SDK's names.
_OPTIONS: Final = (
    *("retry", "timeout_s", "slots", "resources"),
    *("priority", "when", "working_dir"),
)
Variable = str | int | float


class OperationTask:
    """One task of an operation.

    Keyword arguments that are none of those below become environment variables.

    Args:
        name: unique in the operation; a DNS label.
        image: None: the operation's.
        command: program and arguments; None: the class knows it.
        variables: ``retry``, ``timeout_s``, ``slots``, ``resources``, ``priority``,
            ``when`` and ``working_dir`` as in the SDK; all others are variables.

    Attributes:
        name: of the task.
        image: of the task, or None.
        command: of the task; a Python function's is found when it is known where it runs.
        variables: environment.
        fields: further fields of the task in ``spec.tasks``.
    """

    def __init__(
        self,
        name: str,
        *,
        image: str | None = None,
        command: Sequence[str] | None = None,
        **variables: Any,
    ) -> None:
        self.name = name
        self.image = image
        self.command = None if command is None else _options.command(command)
        given = {key: variables.pop(key) for key in _OPTIONS if key in variables}
        try:
            self.fields = {
                _options.FIELDS[key]: _options.field(key, value) for key, value in given.items()
            }
        except Unsendable as error:
            raise ConfigError(f"{name}: {error}") from error
        self.variables = {key: _text(name, key, value) for key, value in variables.items()}

    @property
    def call(self) -> Call[Any, Any] | None:
        """The function with its arguments, of a task that runs one."""
        return None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


class PythonTask(OperationTask):
    """Runs a Python function; its result is part of the operation's.

    Args:
        name: of the task.
        function: a function, one made by ``@task``, or such a one's ``call(...)``.
        args: the function's arguments, as a sequence or by name.
        variables: see :class:`OperationTask`.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any] | Call[..., Any],
        args: Sequence[Any] | Mapping[str, Any] = (),
        **variables: Any,
    ) -> None:
        super().__init__(name, **self._with_options(function, variables))
        if isinstance(function, Call):
            if args:
                raise ConfigError(f"{name}: args: give the arguments to call(...), not beside it")
            self._call: Call[Any, Any] = function
        elif isinstance(args, Mapping):
            self._call = Call(as_task(function), (), dict(args))
        else:
            self._call = Call(as_task(function), tuple(args), {})

    @staticmethod
    def _with_options(function: Any, variables: dict[str, Any]) -> dict[str, Any]:
        if isinstance(function, Call):
            function = function.function
        if not isinstance(function, TaskFunction):
            return variables
        known = {*_OPTIONS, "image"}
        options = _options.merged(function.options)
        return {key: value for key, value in options.items() if key in known} | variables

    @property
    def call(self) -> Call[Any, Any] | None:
        """The function with its arguments."""
        return self._call


class BashTask(OperationTask):
    """Runs a script with bash, which the image must have.

    Args:
        name: of the task.
        source: the script.
        variables: see :class:`OperationTask`.
    """

    def __init__(self, name: str, source: str, **variables: Any) -> None:
        super().__init__(name, command=["bash", "-c", source], **variables)


class CommandBasedTask(OperationTask):
    """Runs one command in the operation's image.

    Args:
        name: of the task.
        command: program and arguments.
        variables: see :class:`OperationTask`.
    """

    def __init__(self, name: str, command: Sequence[str], **variables: Any) -> None:
        super().__init__(name, command=command, **variables)


class CustomTask(OperationTask):
    """Runs a command in an image of its own.

    Args:
        name: of the task.
        image_name: the image.
        command: program and arguments; an image's ENTRYPOINT is not used.
        variables: see :class:`OperationTask`.
    """

    def __init__(
        self, name: str, image_name: str, command: Sequence[str] | None = None, **variables: Any
    ) -> None:
        if command is None:
            raise ConfigError(
                f"{name}: command: is missing. taskctl replaces the image's ENTRYPOINT by its own "
                "first program, so it has to be told what to start"
            )
        super().__init__(name, image=image_name, command=command, **variables)


def _text(name: str, key: str, value: Variable) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise ConfigError(
        f"{name}: {key}: an environment variable holds a text or a number, "
        f"not {type(value).__name__}"
    )

"""Where a function is, so that another process can load it.

Either ``module:function`` or ``/file.py:function``.

``__main__`` has many forms: a script, a folder or archive with a ``__main__.py``, ``-m module``,
a script under ``-m cProfile`` or a debugger, text given by ``-c``. What counts is the namespace
that the function was defined in: its ``__spec__`` says the module's name, else its ``__file__``
says the script.
"""

from __future__ import annotations

import os
import sys

from taskctl.sdk.errors import InputInvalid, Unsendable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_MAINS = ("__main__", "__mp_main__")  # the second: in processes that multiprocessing spawns
# Scripts that were loaded here, by the name under which they are imported.
_scripts: dict[str, str] = {}


def check_function(function: Any) -> Any:
    """Return a function that can become a task.

    Raises:
        Unsendable: no other process could find or run it.
    """
    function = getattr(function, "__func__", function) if _is_static(function) else function
    if not callable(function):
        raise Unsendable(f"{function!r} is not a function; put @task directly above its `def`")
    owner = getattr(function, "__self__", None)
    if owner is not None and not isinstance(owner, (type, type(sys))):
        raise Unsendable(
            f"{function!r} is bound to an object, which another process does not have; "
            "make it a function at the top level of a module"
        )
    if not all(isinstance(getattr(function, n, None), str) for n in ("__qualname__", "__module__")):
        raise Unsendable(
            f"{type(function).__name__} has no name by which another process could find it; "
            "define a function with `def` at the top level of a module that calls it"
        )
    flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
    if flags & 0x220:  # CO_GENERATOR, CO_ASYNC_GENERATOR
        raise Unsendable(
            f"{function.__qualname__}() yields, so its body would never run as a task; "
            "return a list, or write to a file"
        )
    return function


def _is_static(function: Any) -> bool:
    return isinstance(function, staticmethod)


# The folder of this process that was uploaded (``--code``), and its hash.
_uploaded: list[tuple[str, str]] = []


def set_uploaded(root: str, sha256: str) -> None:
    """Take note of where uploaded code was unpacked: children have to unpack it for themselves."""
    _uploaded[:] = [(root, sha256)]


def command_of(
    task_function: Any, python: str, uploaded: tuple[str, str] | None = None
) -> list[str]:
    """Return the command that runs a function as a task.

    Args:
        task_function: made by ``@task``.
        python: the interpreter.
        uploaded: a folder and the hash that it was uploaded under: the function must be in it.

    Raises:
        Unsendable: another process cannot import it.
    """
    function = task_function.function
    name = f"{function.__module__}.{function.__qualname__}"
    if "<" in function.__qualname__:
        raise Unsendable(
            f"{name} is a lambda or defined inside a function, so no other process can find it; "
            "define it at the top level of its module"
        )
    namespace = _namespace(function)
    place, directory = _place(function, namespace, name)
    found = _attribute(namespace, function.__qualname__)
    if not _leads_to(found, function):
        raise Unsendable(
            f"{name} is {'not there' if found is None else 'another object'}, so a child would "
            "not find this function; give it a name of its own at the top level of its module"
        )
    start = [python, "-m", "taskctl.sdk.run"]
    for root, sha256 in (uploaded,) if uploaded else _uploaded:
        file = place if os.path.isabs(place) else directory
        if file and _is_below(file, root):
            below = os.path.relpath(directory, root)
            code = sha256 if below == os.curdir else f"{sha256}/{below}"
            if os.path.isabs(place):
                place = os.path.relpath(place, root)
            return [*start, "--code", code, f"{place}:{function.__qualname__}"]
    if uploaded:
        raise Unsendable(
            f"{name} is not in the folder that is given as code, {uploaded[0]}; give the folder "
            "that holds its module"
        )
    path = ["--path", directory] if directory else []
    return [*start, *path, f"{place}:{function.__qualname__}"]


def _is_below(path: str, root: str) -> bool:
    path = os.path.realpath(path)
    return path == root or path.startswith(root + os.sep)


def _namespace(function: Any) -> dict[str, Any]:
    """Return the names of the module that a function was defined in.

    A profiler or debugger runs a script in a namespace that belongs to no module.
    """
    module = sys.modules.get(function.__module__)
    names = {} if module is None else vars(module)
    if _leads_to(_attribute(names, function.__qualname__), function):
        return names
    inner = function
    for _ in range(100):
        own: dict[str, Any] = getattr(inner, "__globals__", {})
        if own.get("__name__") == function.__module__:
            return own
        if not hasattr(inner, "__wrapped__"):
            break
        inner = inner.__wrapped__
    return names


def _attribute(names: dict[str, Any], qualname: str) -> Any:
    first, *others = qualname.split(".")
    found = names.get(first)
    for part in others:
        found = getattr(found, part, None)
    return found


def _leads_to(found: Any, function: Any) -> bool:
    for _ in range(100):
        if found is None or found is function:
            break
        found = getattr(found, "__wrapped__", None)
    return found is not None


def _place(function: Any, namespace: dict[str, Any], name: str) -> tuple[str, str]:
    """Return how to import what holds a function, and the entry of sys.path that it takes."""
    module_name = function.__module__
    if module_name in _scripts:
        path = _scripts[module_name]
        return path, _script_directory(path)
    spec = namespace.get("__spec__")
    is_main = module_name in _MAINS or module_name not in sys.modules
    if not is_main:
        return module_name, _import_directory(spec)
    if spec is not None and spec.name not in _MAINS:  # python -m package.module
        return spec.name, _directory_above(spec.origin or "", spec.name)
    file = namespace.get("__file__")
    if not file:
        raise Unsendable(
            f"{name} was typed in or given by -c, so no other process can find it; "
            "put it into a file"
        )
    path = os.path.abspath(file)
    if not os.path.isfile(path) and not _archive_of(path):
        raise Unsendable(
            f"{name} is in {path}, and there is no such file (any more), so no other process can "
            "find it; put it into a module"
        )
    return path, _script_directory(path)


def _script_directory(path: str) -> str:
    """Return what Python puts on sys.path for a script: its folder, links followed."""
    return os.path.dirname(os.path.realpath(path))


def _import_directory(spec: Any) -> str:
    """Return the entry of sys.path that a module was found by, if a child may lack it."""
    if spec is None or not spec.origin or spec.origin in ("built-in", "frozen"):
        return ""
    directory = _directory_above(spec.origin, spec.name)
    installed = any(part.endswith("-packages") for part in directory.split(os.sep))
    return "" if installed or directory == os.path.dirname(os.__file__) else directory


def _directory_above(origin: str, module_name: str) -> str:
    origin = os.path.abspath(origin)
    levels = module_name.count(".") + 1
    if os.path.basename(origin) in ("__init__.py", "__init__.pyc"):
        levels += 1
    for _ in range(levels):
        origin = os.path.dirname(origin)
    return origin


# --- the way back ----------------------------------------------------------------------


def load(place: str) -> Callable[..., Any]:
    """Return the function of a reference, ``module:qualname`` or ``/file.py:qualname``.

    A script's folder is put on sys.path, as Python does for a script that it runs.

    Raises:
        InputInvalid: nothing callable is there.
        ImportError: the module cannot be imported.
    """
    found = load_task(place)
    is_task = type(found).__name__ == "TaskFunction" and hasattr(found, "function")
    function: Callable[..., Any] = found.function if is_task else found
    return function


def load_task(place: str) -> Any:
    """Return what a reference leads to: a function, or one with options, made by ``@task``.

    Raises:
        InputInvalid: nothing callable is there.
        ImportError: the module cannot be imported.
    """
    module_name, _, qualname = place.rpartition(":")
    if not module_name or not qualname:
        raise InputInvalid(f"{place!r} is not module:function")
    is_file = os.sep in module_name or module_name.endswith(".py")
    module: Any = _load_file(module_name) if is_file else _import(module_name)
    found = _attribute(vars(module), qualname)
    if found is None and "." not in qualname:
        found = getattr(module, qualname, None)  # by the module's own __getattr__
    if not callable(found):
        raise InputInvalid(f"{module_name} has no function {qualname!r}")
    return found


def _import(name: str) -> Any:
    from importlib import import_module

    return import_module(name)


def _load_file(path: str) -> Any:
    """Import a script, under the name of its file where that is free, not as ``__main__``."""
    from types import ModuleType

    path = os.path.abspath(path)
    directory = _script_directory(path)
    if sys.path[:1] != [directory]:
        sys.path.insert(0, directory)
    name = _script_name(path)
    module = ModuleType(name)
    module.__file__ = path
    code, module.__loader__, module.__spec__ = _code_of(path, name)
    sys.modules[name] = module
    _scripts[name] = path
    exec(code, vars(module))
    return module


def _script_name(path: str) -> str:
    stem = os.path.splitext(os.path.basename(path))[0]
    taken = stem in sys.modules or stem in getattr(sys, "stdlib_module_names", ())
    if stem.isidentifier() and stem not in _MAINS and not taken:
        return stem
    return "_script_" + "".join(char if char.isalnum() else "_" for char in stem)


def _code_of(path: str, name: str) -> tuple[Any, Any, Any]:
    """Return a script's code, its loader and its spec (None in an archive)."""
    from importlib.machinery import SourceFileLoader, SourcelessFileLoader
    from importlib.util import spec_from_file_location

    if os.path.isfile(path):
        kind = SourcelessFileLoader if path.endswith(".pyc") else SourceFileLoader
        loader = kind(name, path)
        return loader.get_code(name), loader, spec_from_file_location(name, path, loader=loader)
    archive = _archive_of(path)
    if not archive:
        raise ImportError(f"there is no Python file {path}")
    from zipimport import zipimporter

    importer = zipimporter(archive)
    inner = os.path.splitext(os.path.relpath(path, archive))[0].replace(os.sep, ".")
    return importer.get_code(inner), importer, None


def _archive_of(path: str) -> str:
    """Return the zip file that a path leads into, or an empty text."""
    while path != os.path.dirname(path):
        path = os.path.dirname(path)
        if os.path.isfile(path):
            return path
    return ""

"""``taskctl image``: what the images of a local stack are, also while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taskctl.cli.datadir import DEFAULT_DATA_DIR, DataDir
from taskctl.cli.exits import CliError, ExitCode, UsageError
from taskctl.cli.output import Output, echo, to_json, to_yaml
from taskctl.cli.verbs import verb
from taskctl.embedded.host import require_linux

if TYPE_CHECKING:
    from taskctl.embedded.images.names import Image
    from taskctl.embedded.images.store import ImageStore


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOptions:
    """Which stack."""

    data_dir: Annotated[
        str, typer.Option(metavar="DIR", help="Of the local stack, which may be running.")
    ] = DEFAULT_DATA_DIR

    @property
    def directory(self) -> DataDir:
        """The data directory."""
        return DataDir(Path(self.data_dir).resolve())


@dataclass(frozen=True, slots=True, kw_only=True)
class AddOptions(ImageOptions):
    """The options of ``image add``."""

    images: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=SOURCE...",
            help="SOURCE is a directory, an archive of `docker save`, oci:DIR[:TAG], "
            "docker://[REFERENCE], venv:DIR or requirements:FILE. An archive alone gives its "
            "images the names that it holds.",
        ),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageListArguments(ImageOptions):
    """The options of ``image list``."""

    output: Annotated[Output | None, typer.Option("--output", "-o", help="json or yaml.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveOptions(ImageOptions):
    """The options of ``image rm``."""

    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="As `image list` has it.")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    group = typer.Typer(
        no_args_is_help=True, help="What the images of a local stack are; also while it runs."
    )
    verb(group, "add")(add)
    verb(group, "list")(list_)
    verb(group, "rm")(remove)
    app.add_typer(group, name="image")


def add(options: AddOptions) -> int:
    """Unpack images, or say what stands for them. Containers that start later have them."""
    require_linux()
    options.directory.prepare()
    add_images(options.directory, options.images)
    return ExitCode.OK


def list_(options: ImageListArguments) -> int:
    """List the images that this stack knows."""
    from taskctl.embedded.images.names import short

    store = _store(options.directory)
    items = [
        {
            "name": short(name),
            "kind": image.kind.value,
            "source": image.source,
            "digest": image.digest,
        }
        for held in (store.names(), store.pulled())
        for name, image in held.items()
    ]
    if options.output in (Output.JSON, Output.YAML):
        echo(to_json(items) if options.output is Output.JSON else to_yaml(items))
        return ExitCode.OK
    if not items:
        echo("No images: every container runs the programs of this machine.")
    width = max((len(item["name"]) for item in items), default=0)
    for item in items:
        echo(f"{item['name']:<{width}}  {_WORDS[item['kind']]:<9}  {item['source']}")
    return ExitCode.OK


_WORDS = {"tree": "unpacked", "folder": "folder", "venv": "venv", "registry": "pulled"}


def remove(options: RemoveOptions) -> int:
    """Forget images. Containers that run in them are not affected."""
    directory = options.directory
    store = _store(directory)
    for name in options.names:
        if not store.forget(name):
            raise CliError(f"no image {name!r} was added; `taskctl image list` shows them")
        echo(f"{name} removed")
    if directory.running_pid() is None:
        from taskctl.embedded.node.images import used_images

        # Containers may have outlived their stack.
        store.sweep(used_images(directory.path / "pods", store.directory))
    else:
        echo("The files are removed when the stack starts the next time.")
    return ExitCode.OK


def add_images(directory: DataDir, texts: Sequence[str]) -> None:
    """Add what ``NAME=SOURCE`` texts say, and print a line for each.

    Raises:
        UsageError: malformed, or no such source.
    """
    from taskctl.embedded.images import adding
    from taskctl.embedded.images.model import ImageError
    from taskctl.embedded.images.names import ImageSource, SourceKind, parse_assignment

    store = _store(directory)
    try:
        for text in texts:
            path = Path(text)
            if "=" not in text and path.is_file():
                source = ImageSource(SourceKind.PATH, str(path.absolute()))
                for name in adding.archive_names(store, path):
                    _say(name, adding.add(store, name, source))
                continue
            name, source = parse_assignment(text)
            _say(name, adding.add(store, name, source))
    except ImageError as error:
        raise UsageError(f"--image: {error}") from error
    except OSError as error:
        raise CliError(f"the image cannot be added: {error}") from error


def _say(name: str, image: Image) -> None:
    words = {
        "tree": f"unpacked from {image.source}",
        "folder": f"the programs of this machine, covered by {image.path}",
        "venv": f"the programs of this machine, those of {image.path} first",
        "registry": "pulled when it is needed",
    }
    echo(f"{name}: {words[image.kind.value]}")


def _store(directory: DataDir) -> ImageStore:
    from taskctl.embedded.images.store import ImageStore

    return ImageStore(directory.path / "images")

"""Options that several commands share; those of devices are in ``device_options.py``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goldnas.cli import completion
from goldnas.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from goldnas.spaces import SearchSpace

_PANEL = "Search space"

JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object; all else is said on stderr."),
]
"""Of a parameter ``as_json``, by which Command knows; print_json prints."""
TableArgument = Annotated[Path, typer.Argument(metavar="FILE", help="Latency table.")]

SpaceOption = Annotated[
    str,
    typer.Option(
        "--space",
        metavar="NAME",
        help="The search space, which decides what is not given: gold, mobile and more, as "
        "goldnas search --list-spaces shows them, or a function of your own, "
        "my_package.spaces:small. A search takes images and classes from its data.",
        autocompletion=completion.offering(completion.spaces),
        rich_help_panel=_PANEL,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Another setting of the space, such as an argument of your function: a number, a "
        "text or JSON. Repeat.",
        rich_help_panel=_PANEL,
    ),
]
OfFileOption = Annotated[
    str | None,
    typer.Option(
        "--space",
        metavar="MODULE:NAME",
        help="The space, where the file names a function: it is run only if you name it, too.",
        rich_help_panel=_PANEL,
    ),
]
ChannelsOption = Annotated[
    int | None,
    typer.Option(
        "--channels",
        min=1,
        help="Channels of a node in the first stage; of the --space unless given.",
        rich_help_panel=_PANEL,
    ),
]
CellsOption = Annotated[
    int | None,
    typer.Option(
        "--cells",
        min=1,
        help="Cells of the network; of the --space unless given.",
        rich_help_panel=_PANEL,
    ),
]
InputOption = Annotated[
    str | None,
    typer.Option(
        "--input",
        metavar="CxHxW",
        help="Channels, height and width of an image; of the --space unless given.",
        rich_help_panel=_PANEL,
    ),
]
ClassesOption = Annotated[
    int | None,
    typer.Option(
        "--classes",
        min=1,
        help="Classes to tell apart; of the --space unless given.",
        rich_help_panel=_PANEL,
    ),
]
OperatorsOption = Annotated[
    str | None,
    typer.Option(
        "--operators",
        metavar="NAME,...",
        help="Candidate operators of an edge, separated by commas; of the --space unless "
        "given.",
        autocompletion=completion.offering_several(completion.operators),
        rich_help_panel=_PANEL,
    ),
]


def parse_input(text: str, *, of_images: bool = True) -> tuple[int, ...]:
    """Read the shape of an input, ``3x32x32``: channels, height, width.

    Args:
        text: The sizes.
        of_images: Whether there have to be three; functions may take other inputs.

    Raises:
        ConfigError: If ``text`` is anything else.
    """
    sizes = text.split("x")
    counted = len(sizes) == 3 or not of_images
    if not counted or not all(s.isascii() and s.isdigit() and int(s) > 0 for s in sizes):
        others = "" if of_images else ", or other sizes that the space takes"
        raise ConfigError(
            f"--input is channels x height x width, like 3x32x32{others}, all positive; got "
            f"{text!r}"
        )
    return tuple(map(int, sizes))


def _shape(space: str, text: str) -> tuple[int, ...]:
    return parse_input(text, of_images=":" not in space)


def space_from(
    space: str,
    *,
    channels: int | None,
    cells: int | None,
    input_: str | None,
    classes: int | None,
    operators: str | None,
    settings: "Sequence[str]" = (),
) -> "SearchSpace":
    """The search space that the options above describe; None for what the space says.

    Raises:
        ConfigError: If a name is unknown, or a value does not fit.
    """
    given: dict[str, Any] = {
        **settings_from(settings),
        "channels": channels,
        "cells": cells,
        "input_shape": None if input_ is None else _shape(space, input_),
        "classes": classes,
        "operators": operator_names(operators),
    }
    from goldnas.spaces import import_space, space_named

    import_space(space)
    return space_named(space, **{name: v for name, v in given.items() if v is not None})


def settings_from(texts: "Sequence[str]") -> dict[str, Any]:
    """What ``--set`` says: values are JSON, and texts where they are none.

    Raises:
        ConfigError: If one is not NAME=VALUE.
    """
    settings: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name.isidentifier() and equals):
            raise ConfigError(f"--set {text!r}: give NAME=VALUE, as in --set width=16")
        try:
            settings[name] = json.loads(value)
        except ValueError:
            settings[name] = value
    return settings


def operator_names(text: str | None) -> tuple[str, ...] | None:
    """Split the names of ``--operators``; None if it was not given."""
    return None if text is None else tuple(name.strip() for name in text.split(","))


# Of goldnas search and goldnas train, which show them in other panels and with other defaults.


def task_option(panel: str) -> Any:
    """Of a ``str | None``."""
    return typer.Option(
        metavar="MODULE:NAME",
        help="What is learnt: a function of your own that returns a goldnas.Task, a loss and a "
        "metric. Classification unless given.",
        rich_help_panel=panel,
    )


def data_dir_option(panel: str) -> Any:
    """Of a ``str | None``."""
    return typer.Option(
        metavar="DIR",
        help="Where named datasets are, or are downloaded to.",
        rich_help_panel=panel,
    )


def image_size_option(panel: str) -> Any:
    """Of an ``int | None``, in pixels."""
    return typer.Option(
        min=1,
        help="Side to resize images of a folder or of shards to.",
        rich_help_panel=panel,
    )


def logger_option() -> Any:
    """Of a ``list[str] | None``."""
    return typer.Option(
        "--logger",
        metavar="NAME",
        help="Log figures as they come: tensorboard, mlflow, wandb, or a function of your own, "
        "my_module:logger. Repeat it for several.",
        autocompletion=completion.offering(completion.loggers),
    )


def workers_option(panel: str) -> Any:
    """Of an ``int | None``."""
    return typer.Option(min=0, help="Processes that load images.", rich_help_panel=panel)


def auxiliary_weight_option(panel: str) -> Any:
    """Of a ``float``."""
    return typer.Option(help="Of the auxiliary head; 0 for none.", rich_help_panel=panel)


def train_device_option(panel: str) -> Any:
    """Of a ``str``."""
    return typer.Option(
        help="auto, cuda, mps or cpu; the device of a table is another matter.",
        autocompletion=completion.offering(lambda: ["auto", "cuda", "mps", "cpu"]),
        rich_help_panel=panel,
    )


def amp_option(panel: str) -> Any:
    """Of a ``str``."""
    return typer.Option(
        help="Number format of the training: bf16, off (fp32), or auto, which is bf16 on GPUs "
        "that compute in it.",
        autocompletion=completion.offering(lambda: ["auto", "bf16", "off"]),
        rich_help_panel=panel,
    )


def threads_option(panel: str) -> Any:
    """Of an ``int | None``."""
    return typer.Option(min=1, help="CPU threads of the training.", rich_help_panel=panel)

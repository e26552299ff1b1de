"""Options that several commands share; those of devices are in ``device_options.py``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from goldnas.errors import ConfigError

if TYPE_CHECKING:
    from goldnas.spaces import GoldSpace

_PANEL = "Search space"

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
NamedTableArgument = Annotated[
    str, typer.Argument(help="Latency table: a path, or the name of one that goldnas ships.")
]

SpaceOption = Annotated[
    str, typer.Option("--space", help="Name of the search space.", rich_help_panel=_PANEL)
]
ChannelsOption = Annotated[
    int,
    typer.Option(
        "--channels",
        min=1,
        help="Channels of a node in the first stage.",
        rich_help_panel=_PANEL,
    ),
]
CellsOption = Annotated[
    int, typer.Option("--cells", min=1, help="Cells of the network.", rich_help_panel=_PANEL)
]
InputOption = Annotated[
    str,
    typer.Option(
        "--input",
        metavar="CxHxW",
        help="Channels, height and width of an image.",
        rich_help_panel=_PANEL,
    ),
]
ClassesOption = Annotated[
    int, typer.Option("--classes", min=1, help="Classes to tell apart.", rich_help_panel=_PANEL)
]
OperatorsOption = Annotated[
    str,
    typer.Option(
        "--operators",
        metavar="NAME,...",
        help="Candidate operators of an edge, separated by commas.",
        rich_help_panel=_PANEL,
    ),
]


def parse_input(text: str) -> tuple[int, int, int]:
    """Read an image shape, ``3x32x32``: channels, height, width.

    Raises:
        ConfigError: If ``text`` is anything else.
    """
    sizes = text.split("x")
    if len(sizes) != 3 or not all(s.isascii() and s.isdigit() and int(s) > 0 for s in sizes):
        raise ConfigError(
            f"--input is channels x height x width, like 3x32x32, all positive; got {text!r}"
        )
    channels, height, width = map(int, sizes)
    return channels, height, width


def space_from(
    space: str, *, channels: int, cells: int, input_: str, classes: int, operators: str
) -> "GoldSpace":
    """The search space that the options above describe.

    Raises:
        ConfigError: If a name is unknown, or a value does not fit.
    """
    input_shape = parse_input(input_)
    from goldnas.spaces import space_named

    return space_named(
        space,
        channels=channels,
        cells=cells,
        input_shape=input_shape,
        classes=classes,
        operators=operator_names(operators),
    )


def operator_names(text: str) -> tuple[str, ...]:
    """Split the names of ``--operators``."""
    return tuple(name.strip() for name in text.split(","))


# Of goldnas search and goldnas train, which show them in other panels and with other defaults.


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
        min=1, help="Side to resize a folder's pictures to.", rich_help_panel=panel
    )


def workers_option(panel: str) -> Any:
    """Of an ``int | None``."""
    return typer.Option(min=0, help="Processes that load pictures.", rich_help_panel=panel)


def auxiliary_weight_option(panel: str) -> Any:
    """Of a ``float``."""
    return typer.Option(help="Of the auxiliary head; 0 for none.", rich_help_panel=panel)


def train_device_option(panel: str) -> Any:
    """Of a ``str``."""
    return typer.Option(
        help="auto, cuda, mps or cpu; the device of a table is another matter.",
        rich_help_panel=panel,
    )


def amp_option(panel: str) -> Any:
    """Of a ``str``."""
    return typer.Option(
        help="Number format of the training: bf16, off (fp32), or auto, which is bf16 on GPUs "
        "that compute in it.",
        rich_help_panel=panel,
    )


def threads_option(panel: str) -> Any:
    """Of an ``int | None``."""
    return typer.Option(min=1, help="CPU threads of the training.", rich_help_panel=panel)

"""Settings that say which space is meant. Needs no torch."""

from typing import Annotated, Any

import msgspec

from goldnas.settings import POSITIVE, setting

_SPACE = "Search space"


class SpaceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A space by its name, and the settings that differ from its defaults."""

    space: Annotated[
        str,
        setting(
            "Search space: gold, mobile and others (`search(list_spaces=True)` shows them), "
            "or a function of yours (my_package.spaces:small). A search takes the image size "
            "and the classes from its data.",
            group=_SPACE,
            metavar="NAME",
            kind="space",
        ),
    ] = "gold"

    channels: Annotated[
        int | None,
        setting(
            "Channels of a node in the first stage. Default: that of the `space`.",
            group=_SPACE,
            bounds=POSITIVE,
        ),
    ] = None

    cells: Annotated[
        int | None,
        setting(
            "Cells of the network. Default: that of the `space`.",
            group=_SPACE,
            bounds=POSITIVE,
        ),
    ] = None

    operators: Annotated[
        tuple[str, ...] | None,
        setting(
            "Candidate operators of an edge, separated by commas. Default: those of the "
            "`space`.",
            group=_SPACE,
            metavar="NAME,...",
            kind="operator",
        ),
    ] = None

    settings: Annotated[
        dict[str, Any],
        setting(
            "Another setting of the space, such as an argument of your function. The value is "
            "a number, a text or JSON. Repeat for several.",
            group=_SPACE,
            metavar="NAME=VALUE",
        ),
    ] = {}


class WholeSpaceSettings(SpaceSettings, frozen=True, kw_only=True):
    """A space with its inputs and classes, for uses without data."""

    input_shape: Annotated[
        tuple[int, ...] | None,
        setting(
            "Channels, height and width of an image. Default: those of the `space`.",
            group=_SPACE,
            metavar="CxHxW",
        ),
    ] = None

    classes: Annotated[
        int | None,
        setting(
            "Number of classes. Default: that of the `space`.",
            group=_SPACE,
            bounds=POSITIVE,
        ),
    ] = None

"""The latency of a ready-made network that a pick measured, as a latency table."""

from collections.abc import Callable
from pathlib import Path

from goldnas.architecture import Architecture
from goldnas.errors import ConfigError
from goldnas.lut import LatencyTable
from goldnas.spaces import find_space
from goldnas.spaces.zoo import ZooSpace
from goldnas.zoo.file import load_zoo


def read_zoo_table(
    path: Path, architecture: Architecture, precision: str, on_warning: Callable[[str], None]
) -> LatencyTable:
    """The row of a ready-made network in a file of a pick.

    Args:
        path: Path of the file.
        architecture: The network.
        precision: Number format of the export.
        on_warning: Called if the network was measured with another number of classes.

    Raises:
        ConfigError: If the network is not ready-made, or was not measured.
        TableError: If the file cannot be read.
    """
    space = find_space(architecture)
    if not isinstance(space, ZooSpace):
        raise ConfigError(
            f"`zoo` {path} has ready-made networks, but this network is of space {space.name}; "
            "leave it out"
        )
    zoo = load_zoo(path)
    table = zoo.table(precision, classes=space.classes)
    (part,) = space.rows()
    if table is None or table.missing([part]):
        _, *sides = space.input_shape
        loop = "" if zoo.loop.is_hot else f"loop='{zoo.loop}', "
        raise ConfigError(
            f"{path} has no {precision} latency of {space.network} for images of "
            f"{'x'.join(map(str, sides))}; measure it with `pick(networks="
            f"[{space.network!r}], size=[{sides[0]}], classes={zoo.classes}, "
            f"precision={precision!r}, {loop}exhaustive=True, out={str(path)!r})`"
        )
    if zoo.classes != space.classes:
        on_warning(
            f"{path} was measured with {zoo.classes} classes, but the network has "
            f"{space.classes}: the time of its classifier differs"
        )
    return table

"""What a pick measured of a ready-made network, as the latency table of its export."""

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
        path: Of the file.
        architecture: The network.
        precision: Number format that it is exported in.
        on_warning: Told that it was measured with other classes.

    Raises:
        ConfigError: If the network is not ready-made, or was not measured.
        TableError: If the file cannot be read.
    """
    space = find_space(architecture)
    if not isinstance(space, ZooSpace):
        raise ConfigError(
            f"`zoo` {path} is of ready-made networks, and this is one of space {space.name}; "
            "leave it out"
        )
    zoo = load_zoo(path)
    table = zoo.table(precision, classes=space.classes)
    (part,) = space.rows()
    if table is None or table.missing([part]):
        _, *sides = space.input_shape
        raise ConfigError(
            f"{path} has no latency in {precision} of {space.network} for images of "
            f"{'x'.join(map(str, sides))}; measure it with `pick(networks="
            f"[{space.network!r}], size=[{sides[0]}], precision={precision!r}, "
            f"exhaustive=True, out={str(path)!r})`"
        )
    if zoo.classes != space.classes:
        on_warning(
            f"{path} was measured with {zoo.classes} classes, and the network has "
            f"{space.classes}: its classifier takes another time"
        )
    return table

"""Settings of shrinking a network, besides those of a search. Needs no torch."""

from typing import Annotated

import msgspec

from goldnas.errors import ConfigError
from goldnas.settings import POSITIVE, check_bounds, setting

EPOCHS, LEARNING_RATE = 20, 0.05
"""Unless said otherwise."""

_WHAT, _DATA, _DEVICE = "Channels", "Data", "Device"


class ShrinkConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What sizes a shrunk network may have, and how many of them are measured.

    :func:`goldnas.shrink` takes these fields as settings.

    Example:
        >>> goldnas.ShrinkConfig(step=8).networks
        32
    """

    step: Annotated[
        int | None,
        setting(
            "Channels to remove at a time: all widths are multiples of this number. Default: "
            "as many channels as the device computes at a time, which goldnas measures; 8 "
            "without a device.",
            group=_WHAT,
            bounds=POSITIVE,
        ),
    ] = None

    image_size: Annotated[
        tuple[int, ...],
        setting(
            "Sides of the images, in pixels, for images on disk. With several, goldnas shrinks "
            "once at each, and tells which network is best. Default: the side that the network "
            "learnt from.",
            group=_DATA,
            bounds=POSITIVE,
            metavar="N,...",
        ),
    ] = ()

    networks: Annotated[
        int,
        setting(
            "Sizes of the network to measure, 4 or more. The latency table is fitted to these "
            "measurements.",
            group=_DEVICE,
            bounds=POSITIVE,
        ),
    ] = 32

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.networks < 4:
            raise ConfigError(f"`networks={self.networks}`: a fit needs 4 networks or more")
        sides = self.image_size
        if len(set(sides)) < len(sides) or not all(type(n) is int and n > 0 for n in sides):
            raise ConfigError(
                f"`image_size` must be different numbers of pixels from 1, got {list(sides)}"
            )

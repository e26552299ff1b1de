"""Settings of shrinking a network, besides those of a search. Needs no torch."""

from typing import Annotated

import msgspec

from goldnas.errors import ConfigError
from goldnas.settings import POSITIVE, check_bounds, setting

_WHAT, _DEVICE = "What may go", "Device"


class ShrinkConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What may go of a network, and how its latency is learnt."""

    step: Annotated[
        int | None,
        setting(
            "Channels that go at a time. Unless given, as many as the device computes at a "
            "time, which is measured; 8 where no device is.",
            group=_WHAT,
            bounds=POSITIVE,
        ),
    ] = None

    networks: Annotated[
        int,
        setting(
            "Sizes of the network that are measured, for a latency table of all its sizes.",
            group=_DEVICE,
            bounds=POSITIVE,
        ),
    ] = 32

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.networks < 4:
            raise ConfigError(f"`networks={self.networks}`: a fit needs 4 networks or more")

"""Networks as counts of their parts, which is all that a fit sees of them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from goldnas.errors import ConfigError
from goldnas.lut.schema import NetworkLatency

_MOST_COUNTS = 20_000_000


def count_parts(
    networks: Sequence[NetworkLatency], keys: Sequence[str]
) -> npt.NDArray[np.float64]:
    """How often each network has each part, ``(N, K)``.

    Raises:
        ConfigError: If that is more than the memory is for.
    """
    if len(networks) * len(keys) > _MOST_COUNTS:
        raise ConfigError(
            f"{len(networks)} networks of {len(keys)} operators are too many for a fit: "
            f"{_MOST_COUNTS} counts are the most. Leave some networks out"
        )
    counts = np.zeros((len(networks), len(keys)))
    column = {key: number for number, key in enumerate(keys)}
    for row, network in zip(counts, networks, strict=True):
        for key, count in network.parts.items():
            if key in column:
                row[column[key]] = count
    return counts

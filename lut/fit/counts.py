"""Networks as counts of their parts: the only input of a fit besides latencies."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from goldnas.errors import ConfigError
from goldnas.lut.schema import AnyNetwork

_MOST_COUNTS = 20_000_000


def count_parts(networks: Sequence[AnyNetwork], keys: Sequence[str]) -> npt.NDArray[np.float64]:
    """How often each network has each part, ``(N, K)``.

    Raises:
        ConfigError: If there are more counts than a fit takes.
    """
    if len(networks) * len(keys) > _MOST_COUNTS:
        raise ConfigError(
            f"{len(networks)} networks with {len(keys)} operators are too many for a fit, "
            f"which takes at most {_MOST_COUNTS} counts. Leave some networks out"
        )
    counts = np.zeros((len(networks), len(keys)))
    column = {key: number for number, key in enumerate(keys)}
    for row, network in zip(counts, networks, strict=True):
        for key, count in network.parts.items():
            if key in column:
                row[column[key]] = count
    return counts

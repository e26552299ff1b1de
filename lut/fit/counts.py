"""Networks as counts of their parts, which is all that a fit sees of them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from goldnas.lut.schema import NetworkLatency


def count_parts(
    networks: Sequence[NetworkLatency], keys: Sequence[str]
) -> npt.NDArray[np.float64]:
    """How often each network has each part, ``(N, K)``."""
    return np.array([[n.parts.get(key, 0) for key in keys] for n in networks], dtype=float)

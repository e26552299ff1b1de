"""Random networks of a space, for calibration and for baselines."""

import math
from collections.abc import Iterator

import numpy as np

from goldnas.architecture import Architecture
from goldnas.spaces.space import SearchSpace

_TRIES = 20
"""Draws for each network until one is new."""


def draw_architectures(space: SearchSpace, count: int, *, seed: int) -> Iterator[Architecture]:
    """Draw networks spread from nearly minimal to nearly full.

    Each network has its own share of open gates, from 3 to 97 %, and favours some operators at
    some sites. So no two rows of a table occur in a fixed proportion. Every group of gates
    keeps at least one, as in a search.

    Args:
        space: The space to draw from.
        count: Number of different networks, or fewer in a small space. Their shares are spread
            evenly over the range.
        seed: Seed of the draw.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(count)
    kinds = list(dict.fromkeys(gate.parts[:1] for gate in space.gates))
    seen: set[str] = set()
    for place in order:
        for _ in range(_TRIES):
            share = 0.03 + 0.94 * (place + random.random()) / count
            favour = dict(zip(kinds, random.normal(scale=0.7, size=len(kinds)), strict=True))
            kept: set[int] = set()
            for index, gate in enumerate(space.gates):
                logit = math.log(share / (1 - share)) + favour[gate.parts[:1]]
                if random.random() < 1 / (1 + math.exp(-logit)):
                    kept.add(index)
            for group in space.groups:
                if kept.isdisjoint(group):
                    kept.add(int(random.choice(group)))
            if space.wiring is not None:
                kept = space.wiring.complete(kept, random)
            architecture = space.architecture(space.gates[index] for index in sorted(kept))
            if architecture.fingerprint not in seen:
                seen.add(architecture.fingerprint)
                yield architecture
                break

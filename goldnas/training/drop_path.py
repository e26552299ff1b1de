"""Drop-path: while a network trains, operators are left out at random, image by image."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from goldnas.network import Cell, CellNetwork
from goldnas.operators import find_part
from goldnas.site import Site


class DropPath:
    """Drops operators of a network in training mode; it stays as it is in evaluation.

    The remaining operators of an edge are scaled up, so that the mean of the edge stays.
    Identities are never dropped. Hooks do this, and do not change the network, so exported and
    saved networks are without it.

    Args:
        network: On its device; one without cells has nothing to drop.
        device: Its device.
        seed: Of the masks, which depend on it and the step alone.

    Source:
        DARTS (arXiv:1806.09055), its code; after FractalNet (arXiv:1605.07648).
    """

    def __init__(self, network: nn.Module, device: torch.device, seed: int) -> None:
        self._probability = 0.0
        self._seed = seed
        self._generator = torch.Generator(device)
        cells = network.cells.values() if isinstance(network, CellNetwork) else ()
        for cell in cells:
            assert isinstance(cell, Cell)
            for operator in cell.operators.values():
                if not _is_identity(operator):
                    operator.register_forward_hook(self._drop)

    def begin(self, step: int, rank: int, probability: float) -> None:
        """Draw the masks of a step on from here; those of a step tried again are the same."""
        self._probability = probability
        drawn = np.random.SeedSequence((self._seed, step, rank)).generate_state(1)
        self._generator.manual_seed(int(drawn[0]))

    def _drop(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        if not module.training or self._probability == 0:
            return output
        kept = 1 - self._probability
        drawn = torch.rand(
            (len(output), 1, 1, 1), generator=self._generator, device=output.device
        )
        return output * ((drawn < kept).to(output.dtype) / kept)


def _is_identity(operator: nn.Module) -> bool:
    name, site = find_part(operator) or ("", None)
    return name == "skip_connect" and isinstance(site, Site) and site.stride == 1

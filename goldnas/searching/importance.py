"""What each operator is worth to the whole super-network."""

from typing import Any

import numpy as np
import torch

from goldnas.searching.gates import Gates
from goldnas.searching.schedules import GateWeights
from goldnas.searching.session import Session


class MeasuredGates(Gates):
    """Gates that stay equal, and tell what each operator is worth.

    The importance of an operator is the mean of ``(g dL/dg)^2`` over steps: to first order,
    the square of what the loss would change by if the operator went (arXiv:1906.10771). Gates
    that learn mislead: they grow where they have grown, and operators without weights win.

    Args:
        session: Of the search.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.measuring = True
        """Whether the next step counts."""
        self._sum = np.zeros(len(session.space.gates))
        self._steps = 0

    def descend(self) -> None:
        """Note the gradient that is in the gates, and leave them as they are."""
        alpha = self._supernet.alpha
        assert alpha.grad is not None
        if self.measuring:
            with torch.no_grad():
                # Of the gate g = sigma(alpha): g dL/dg = dL/dalpha / (1 - g).
                taken = alpha.grad / (1 - torch.sigmoid(alpha))
            self._sum += taken.square().cpu().double().numpy()
            self._steps += 1
        alpha.grad = None

    def importance(self) -> np.ndarray:
        """``(G,)``, not negative; 0 of what was never measured."""
        return self._sum / max(1, self._steps)

    def weights(self) -> GateWeights:
        """The importance of each operator that is left, beside that of its node."""
        supernet = self._supernet
        active = supernet.active.cpu().numpy()
        sums = supernet.node_sums.cpu().double().numpy()
        left = np.where(active, self.importance(), 0.0)
        shares = left / np.maximum(sums.T @ (sums @ left), 1e-300)
        return GateWeights(normalised=shares, relative=shares * (sums.T @ (sums @ active)))

    def fade(self, index: int, share: float) -> None:
        """Let a gate be a share, at least a thousandth, of what the others are."""
        gate = 0.5 * max(share, 1e-3)
        with torch.no_grad():
            self._supernet.alpha[index] = float(np.log(gate / (1 - gate)))

    def state_dict(self) -> dict[str, Any]:
        """What was measured."""
        return {"sum": self._sum.tolist(), "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._sum, self._steps = np.array(state["sum"]), state["steps"]

"""What each operator is worth to the whole super-network."""

from typing import Any

import msgspec
import numpy as np
import torch

from goldnas.ranges import Count, NotNegative
from goldnas.resource_names import OPERATORS
from goldnas.searching.gates import Gates, verify_chosen
from goldnas.searching.schedules import GateWeights
from goldnas.searching.session import Session

SPENT = 0.97
"""Share of a budget that is used at least, where a network of the space can."""

NEXT_TO_NOTHING = 0.1
"""Cost of an operator, relative to the mean of all, up to which a budget hardly asks for it."""


class _ImportanceState(msgspec.Struct, forbid_unknown_fields=True):
    sum: list[NotNegative]
    steps: Count


class MeasuredGates(Gates):
    """Gates that stay equal, and measure the importance of each operator.

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
        """``(G,)``, not negative; 0 for operators that were never measured."""
        return self._sum / max(1, self._steps)

    def worth(self) -> np.ndarray:
        """``(G,)``, the value of each remaining operator, which a choice of a network adds up.

        The value is the importance. But it is below 0 for an operator that costs next to
        nothing, unless the number of operators is fixed. No budget asks to remove such an
        operator, and in a network that is trained from scratch it dilutes the other inputs of
        its node. So the choice keeps it only where the node would be empty without it.
        """
        importance = self._left()
        feasibility = self._session.feasibility
        if any(budget.resource == OPERATORS for budget in feasibility.budgets):
            return importance
        most = importance.max()
        return np.where(
            feasibility.cheap(NEXT_TO_NOTHING), 0.01 * importance - 0.02 * most, importance
        )

    def weights(self) -> GateWeights:
        """The importance of each remaining operator, as a share of that of its node."""
        left = self._left()
        shares = left / np.maximum(self._of_node(left), 1e-300)
        return GateWeights(shares, shares * self._of_node(self._active()))

    def weakest_over(self, share: float) -> list[int] | None:
        """The operators to remove for a share of the budgets; None if no network fits."""
        active = self._active()
        tighter = self._session.feasibility.tightened(share)
        kept = tighter.choose(self.worth(), active, floor=SPENT)
        if kept is None:
            return None
        going = self._session.feasibility.list_going(active, kept)
        chosen = [int(i) for i in going[np.argsort(self.importance()[going], kind="stable")]]
        verify_chosen(self._session, f"at {share:.0%} of the budgets", chosen)
        return chosen

    def _active(self) -> np.ndarray:
        return self._supernet.active.cpu().numpy()

    def _left(self) -> np.ndarray:
        """The importance of what is left, 0 of what is not."""
        return np.where(self._active(), self.importance(), 0.0)

    def _of_node(self, values: np.ndarray) -> np.ndarray:
        """``(G,)``, the sum over the node of each gate."""
        sums = self._supernet.node_sums.cpu().double().numpy()
        return np.asarray(sums.T @ (sums @ values))

    def fade(self, index: int, share: float) -> None:
        """Scale a gate down to a share of the others, at least a thousandth.

        With a block of channels, those after it fade.
        """
        gate = 0.5 * max(share, 1e-3)
        wiring = self._session.space.wiring
        ordered = wiring.nesting.ordered if wiring is not None else ()
        after = [g for g in self._session.feasibility.with_nested(index) if g in ordered]
        with torch.no_grad():
            for one in {index, *after}:
                self._supernet.alpha[one] = float(np.log(gate / (1 - gate)))

    def state_dict(self) -> dict[str, Any]:
        """What was measured."""
        return {"sum": self._sum.tolist(), "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        mine = msgspec.convert(state, _ImportanceState)
        if len(mine.sum) != len(self._sum):
            raise ValueError(f"the importance of {len(mine.sum)} operators")
        self._sum, self._steps = np.array(mine.sum), mine.steps

"""The gates of a super-network: how they learn, what they are charged, which are weak."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from goldnas.searching.schedules import GateWeights, weakest_over
from goldnas.searching.session import Session
from goldnas.supernet import SuperNet

MakeOptimizer = Callable[[nn.Parameter], torch.optim.Optimizer]
"""From the gates' parameters ``(G,)``."""


class Gates:
    """The gates of a search that prunes.

    Args:
        session: Of the search.
        optimizer: Makes the optimiser of the gates; SGD unless given.
    """

    optimizer: torch.optim.Optimizer
    costs: Tensor
    """``(G,)``, what the penalty charges each gate."""

    def __init__(self, session: Session, optimizer: MakeOptimizer | None = None) -> None:
        self._session = session
        self._make_optimizer = optimizer or self._sgd

    def build(self, supernet: SuperNet) -> None:
        """Begin with the gates of a new super-network."""
        self._supernet = supernet
        self.optimizer = self._make_optimizer(supernet.alpha)
        self.charge()

    def charge(self) -> None:
        """Charge each gate 1, and its share of the resources that are over their budgets.

        Each resource is scaled to a mean of 1 per gate; one within its budget is left out.
        """
        feasibility, mask = self._session.feasibility, self._supernet.active.cpu().numpy()
        costs = np.ones(len(mask))
        for budget in feasibility.budgets:
            resource = feasibility.costs[budget.resource]
            if resource.total(mask) > budget.limit:
                charge = resource.charge(mask, budget.limit)
                costs += self._session.config.mu * charge / max(charge.mean(), 1e-12)
        self.costs = torch.as_tensor(
            costs, dtype=torch.float32, device=self._session.loop.device
        )

    def penalty(self) -> Tensor:
        """The penalty of open gates, before lambda; see :meth:`SuperNet.penalty`."""
        return self._supernet.penalty(self.costs)

    def descend(self) -> None:
        """Take one step along the gradient that is in the gates."""
        self.optimizer.step()

    def forget_pruned(self) -> None:
        """Let the optimiser forget the pruned gates, and charge the others anew."""
        for moment in self.optimizer.state[self._supernet.alpha].values():
            if moment.shape == self._supernet.active.shape:
                moment.mul_(self._supernet.active)
        self.charge()

    def weights(self) -> GateWeights:
        """How much each operator counts in its node."""
        with torch.no_grad():
            return GateWeights(
                normalised=self._supernet.normalised_weights().cpu().double().numpy(),
                relative=self._supernet.relative_weights().cpu().double().numpy(),
            )

    def weakest_over(self, share: float) -> list[int] | None:
        """The weakest operators over a share of the budgets; None if no network is below it."""
        session, active = self._session, self._supernet.active.cpu().numpy().copy()
        tighter = session.feasibility.tightened(share)
        if tighter.find(active) is None:
            return None
        limits = {budget.resource: budget.limit for budget in tighter.budgets}
        chosen = weakest_over(tighter, limits, self.weights().relative, active)
        verify_chosen(session, f"at {share:.0%} of the budgets", chosen)
        return chosen

    def _sgd(self, alpha: nn.Parameter) -> torch.optim.Optimizer:
        config = self._session.config
        return torch.optim.SGD([alpha], lr=config.gate_learning_rate, momentum=config.momentum)


def verify_chosen(session: Session, when: str, chosen: Sequence[int]) -> None:
    """Check that all ranks are about to prune the same operators.

    Raises:
        RankError: If they differ.
    """
    session.loop.ranks.verify(when, lambda: {"the operators to prune": str(chosen)})

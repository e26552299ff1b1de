"""Searches by gates: what weighs an operator, presses it, and prunes it."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, count, repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from goldnas.data.examples import Batch
from goldnas.data.loader import TrainingLoader
from goldnas.searching.feasibility import Feasibility
from goldnas.searching.front import FrontNetwork
from goldnas.searching.schedules import GateWeights, weakest_over
from goldnas.searching.strategies.engine import SupernetSearch


class GatedSearch(SupernetSearch):
    """A search whose gates learn, and say which operators go."""

    def _build(self) -> None:
        super()._build()
        self.gates_optimizer = self._gates_optimizer()
        self.gate_costs = self._gate_costs()

    def _gates_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            [self.supernet.alpha],
            lr=self.config.gate_learning_rate,
            momentum=self.config.momentum,
        )

    # -- training ----------------------------------------------------------------------------

    def _epoch_batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Any, ...]]:
        """Images and labels for the weights, and a batch for gates that have their own."""
        for_gates: Iterator[Batch | None] = repeat(None)
        if self.data.gate_loader is not None:
            for_gates = _from_step(self.data.gate_loader, epoch * self.steps_per_epoch + start)
        for_weights = super()._epoch_batches(epoch, start)
        return ((*batch, others) for batch, others in zip(for_weights, for_gates, strict=False))

    def _batches(self) -> Iterator[tuple[Any, ...]]:
        """What the steps learn from, from this one on, through as many epochs as it takes."""
        epoch, done = divmod(self.step, self.steps_per_epoch)
        later = chain.from_iterable(map(self._epoch_batches, count(epoch + 1)))
        return chain(self._epoch_batches(epoch, start=done), later)

    def _train_step(
        self, step: int, images: Tensor, labels: Tensor, for_gates: Batch | None = None
    ) -> Tensor:
        """One descent; return the task's loss.

        Weights and gates descend together, on the same images. Where the gates have images
        of their own, they descend on those first: a search on two levels, as DARTS is.
        """
        self._set_learning_rate(step)
        if for_gates is None:
            loss = self._gradient(images, labels, self.penalty_weight(step))
            self._descend()
            self.gates_optimizer.step()
        else:
            self._train_gates(step, for_gates, (images, labels))
            loss = self._gradient(images, labels, 0.0)
            self._descend()
        return loss

    def _train_gates(self, step: int, for_gates: Batch, for_weights: Batch) -> None:
        """One descent of the gates, as if the weights were at their best already."""
        self._gradient(*for_gates, self.penalty_weight(step))
        self.gates_optimizer.step()

    def _gradient(self, images: Tensor, labels: Tensor, penalty_weight: float) -> Tensor:
        """Leave the gradient of a batch in the parameters; return the task's loss."""
        return self.gradients.compute(
            self.supernet,
            images,
            labels,
            lambda some, theirs: self._penalised_loss(some, theirs, penalty_weight),
        )

    def _penalised_loss(
        self, images: Tensor, labels: Tensor, penalty_weight: float
    ) -> tuple[Tensor, Tensor]:
        """The loss of some images with the penalty, and the task's part of it."""
        loss, of_task = self._loss(images, labels)
        if penalty_weight > 0:
            loss = loss + penalty_weight * self.supernet.penalty(self.gate_costs)
        return loss, of_task

    def _gate_costs(self) -> Tensor:
        """What the penalty charges each gate: 1, and its share of what is over budget.

        Each resource is scaled to a mean of 1 per gate; one within its budget is left out.
        """
        costs = np.ones(len(self.data.space.gates))
        for budget in self.feasibility.budgets:
            resource = self.feasibility.costs[budget.resource]
            if resource.total(self.active) > budget.limit:
                costs += self.config.mu * resource.gates / max(resource.gates.mean(), 1e-12)
        return torch.as_tensor(costs, dtype=torch.float32, device=self.device)

    # -- pruning -----------------------------------------------------------------------------

    def _weakest_over(self, share: float) -> list[int] | None:
        """The weakest operators over a share of the budgets; None if no network is below it."""
        budgets = [replace(b, limit=share * b.limit) for b in self.feasibility.budgets]
        costs = list(self.feasibility.costs.values())
        tighter = Feasibility(self.data.space, costs, budgets)
        if tighter.find(self.active) is None:
            return None
        limits = {budget.resource: budget.limit for budget in budgets}
        chosen = weakest_over(tighter, limits, self._gate_weights().relative, self.active)
        self.ranks.verify(
            f"at {share:.0%} of the budgets", lambda: {"the operators to prune": str(chosen)}
        )
        return chosen

    def _gate_weights(self) -> GateWeights:
        with torch.no_grad():
            return GateWeights(
                normalised=self.supernet.normalised_weights().cpu().double().numpy(),
                relative=self.supernet.relative_weights().cpu().double().numpy(),
            )

    def _remove(self, event: str, step: int, chosen: list[int]) -> None:
        """Prune operators, and log the score before and after."""
        weights = self._gate_weights()
        before = self._score(self.data.check)
        self._forget(self.supernet.prune(chosen))
        self.gate_costs = self._gate_costs()
        gates = self.data.space.gates
        self._event(
            event,
            epoch=step // self.steps_per_epoch,
            step=step + 1,
            operators=[gates[index].name for index in chosen],
            relative_weights=[round(float(weights.relative[i]), 4) for i in chosen],
            **{
                f"{self._figure}_before": before,
                f"{self._figure}_after": self._score(self.data.check),
            },
            penalty_weight=self.penalty_weight(step),
            live_operators=int(self.active.sum()),
            resources=self._resources(),
        )

    def _forget(self, removed: list[nn.Parameter]) -> None:
        super()._forget(removed)
        for moment in self.gates_optimizer.state[self.supernet.alpha].values():
            if moment.shape == self.supernet.active.shape:
                moment.mul_(self.supernet.active)

    def _record(self, step: int, reasons: list[str]) -> None:
        """Save the network that is left, with its weights, exact resources and score."""
        architecture = self._architecture()
        network = FrontNetwork(
            fingerprint=architecture.fingerprint,
            **self._scored(self._score(self.data.validation)),
            resources=self._resources(),
            epoch=step // self.steps_per_epoch,
            step=step + 1,
            reasons=tuple(reasons),
            meets_budgets=self.feasibility.within(self.active),
        )
        self._keep(network, architecture, self.supernet.network_state())

    # -- state -------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that decides what comes next, for :meth:`restore`."""
        return super().state() | {"gates_optimizer": self.gates_optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        super().restore(state)
        self.gate_costs = self._gate_costs()
        self.gates_optimizer.load_state_dict(state["gates_optimizer"])


def _from_step(loader: TrainingLoader, step: int) -> Iterator[Batch]:
    """The batches from a step on, counted over all epochs, without an end."""
    epoch, done = divmod(step, len(loader))
    later = chain.from_iterable(map(loader.epoch, count(epoch + 1)))
    return chain(loader.epoch(epoch, start=done), later)

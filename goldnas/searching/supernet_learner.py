"""The super-network of a search, as its loop trains it."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from goldnas.architecture import Architecture
from goldnas.data.examples import Examples
from goldnas.data.loader import read_batches
from goldnas.searching.budgets import Limit, list_limits
from goldnas.searching.config import SearchConfig
from goldnas.searching.feasibility import Mask
from goldnas.searching.gates import Gates
from goldnas.searching.session import Session
from goldnas.searching.subnet import extract_subnet, recalibrate
from goldnas.spaces import SearchSpace
from goldnas.supernet import Relaxation, SuperNet
from goldnas.tensor_file import check_like, load_state
from goldnas.training.machine import autocast_for, place_module
from goldnas.training.memory import step_memory, take_peak_bytes
from goldnas.training.task_data import blank_loss
from goldnas.training.weights import WeightsOptimizer, compute_loss, load_optimizer

APART = 1_000_003
"""Between the seeds of the weights of one search. The generator takes 32 bits of a seed."""


class SupernetLearner:
    """A super-network, the optimiser of its weights and, where they learn, its gates.

    Args:
        session: Of the search.
        gates: What they learn by; None where they are all open.
        penalty_weight: Lambda at a step.
        at_hand: Where a search looks at one network after the other: the gates ``(G,)`` of the
            one at hand, and that network with its weights. Else it is what is left.
        all_momenta: Whether every weight has a momentum from the start: for steps that train
            a part of them.
    """

    supernet: SuperNet
    optimizer: WeightsOptimizer

    def __init__(
        self,
        session: Session,
        *,
        gates: Gates | None = None,
        penalty_weight: Callable[[int], float] = lambda step: 0.0,
        at_hand: tuple[Callable[[], Mask], Callable[[], nn.Module]] | None = None,
        all_momenta: bool = False,
    ) -> None:
        self._session = session
        self._gates = gates
        self.penalty_weight = penalty_weight
        self._all_momenta = all_momenta
        self._mask, self._network = at_hand or (self._active, lambda: self.supernet)

    @property
    def module(self) -> SuperNet:
        """The super-network."""
        return self.supernet

    def build(self, restarts: int = 0) -> None:
        """Make the whole super-network, as it is before the first step.

        Args:
            restarts: How often it was begun anew; each begins with other weights.
        """
        config, device = self._session.config, self._session.loop.device
        torch.manual_seed(config.seed + restarts * APART)
        self.supernet = build_supernet(
            config, self._session.space, device, self._session.strategy.relaxation
        )
        weights = (p for p in self.supernet.parameters() if p is not self.supernet.alpha)
        self.optimizer = WeightsOptimizer(weights, config, device)
        if self._all_momenta:
            self.optimizer.start_momentum()
        if self._gates is not None:
            self._gates.build(self.supernet)

    # -- steps -------------------------------------------------------------------------------

    def compute_gradient(self, images: Tensor, labels: Tensor, penalty_weight: float) -> Tensor:
        """Leave the gradient of a batch in the parameters; return the loss of the task.

        Args:
            images: ``(B, C, H, W)``.
            labels: ``(B,)``.
            penalty_weight: Lambda.
        """

        def loss_of(some: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
            loss, of_task = self.compute_loss(some, theirs)
            if self._gates is not None and penalty_weight > 0:
                loss = loss + penalty_weight * self._gates.penalty()
            return loss, of_task

        return self._session.loop.gradients.compute(self.supernet, images, labels, loss_of)

    def compute_loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of some images with the auxiliary head's, and the part of the task."""
        return compute_loss(
            self.supernet,
            images,
            labels,
            task=self._session.data.task,
            device=self._session.loop.device,
            autocast=self._autocast,
            auxiliary_weight=self._session.config.auxiliary_weight,
        )

    # -- the network that is left ------------------------------------------------------------

    @property
    def mask(self) -> Mask:
        """The gates of the network that is left, or at hand, ``(G,)``; a copy."""
        return self._mask()

    @property
    def architecture(self) -> Architecture:
        """That network."""
        space = self._session.space
        return space.architecture(space.gates[index] for index in np.flatnonzero(self.mask))

    def score(self, examples: Examples) -> float:
        """The metric of that network."""
        return self._session.score(self._network(), examples)

    def recalibrated(self) -> nn.Module:
        """The network that is left, on its own, with normalisations that know it alone.

        Their running statistics are those of all that was left in the last steps: after a
        pruning, of another network. Here they are taken anew, from training images.
        """
        loop, data = self._session.loop, self._session.data
        network = extract_subnet(self.supernet, loop.device)
        mine = loop.ranks.shard(data.typical)
        batches = read_batches(mine, data.normalisation, batch_size=loop.gradients.at_once)
        recalibrate(network, (images for images, _ in batches), loop.device, loop.ranks)
        return network

    def prune(self, gates: Iterable[int]) -> None:
        """Take operators out, with what the optimisers remember of them."""
        self.optimizer.forget(self.supernet.prune(gates))
        if self._gates is not None:
            self._gates.forget_pruned()

    def count_left(self) -> int:
        """How many operators are left."""
        return int(self.mask.sum())

    def count_all(self) -> int:
        """How many there were at first."""
        return len(self._session.space.gates)

    def resources(self) -> dict[str, float]:
        """What the operators that are left need."""
        return self._session.resources(self.mask)

    def limits(self) -> list[Limit]:
        """That, beside the least and the most that a network needs, and the budgets."""
        return list_limits(self._session.feasibility, self.mask)

    def step_bytes(self) -> int:
        """Memory that a training step needs with the operators that are left, estimated."""
        data, loop = self._session.data, self._session.loop
        blank = blank_loss(data.task, data.check)
        shape = self._session.space.input_shape
        memory = step_memory(self.supernet, shape, loop.device, self._autocast, blank)
        return memory.step_bytes(loop.gradients.at_once)

    # -- the log -----------------------------------------------------------------------------

    def describe_start(self) -> dict[str, Any]:
        """Resources, budgets, and the memory of a step."""
        budgets = self._session.feasibility.budgets
        return {
            "resources": self._session.resources(self.mask),
            "budgets": {budget.resource: budget.limit for budget in budgets},
            "memory_bytes": self.step_bytes(),
        }

    def describe_epoch(self) -> dict[str, Any]:
        """Loss, score, rates, operators, resources, memory."""
        session, loop, mask = self._session, self._session.loop, self.mask
        last, key = loop.step - 1, session.data.task.metric_kind.key
        return {
            "step": loop.step,
            "loss": loop.mean_loss,
            f"validation_{key}": self.score(session.data.validation),
            "learning_rate": loop.learning_rate(last),
            "penalty_weight": self.penalty_weight(last),
            "live_operators": int(mask.sum()),
            "resources": session.resources(mask),
            "memory_bytes": self.step_bytes(),
            "peak_memory_bytes": take_peak_bytes(loop.device),
        }

    # -- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What was learnt."""
        state = {
            "supernet": self.supernet.state_dict(),
            "weights_optimizer": self.optimizer.state_dict(),
        }
        if self._gates is not None:
            state["gates_optimizer"] = self._gates.optimizer.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Prune what was pruned, then load what was learnt.

        Raises:
            ValueError: If it is not of this super-network, or no network is left of it.
        """
        check_like(state["supernet"], self.supernet.state_dict())
        active = state["supernet"]["active"]
        if self._session.feasibility.find(active.numpy()) is None:
            raise ValueError("no network within the budgets is left")
        self.prune(torch.nonzero(~active).flatten().tolist())
        load_state(self.supernet, state["supernet"])
        self.optimizer.load_state_dict(state["weights_optimizer"])
        if self._gates is not None:
            self._gates.charge()
            load_optimizer(self._gates.optimizer, state["gates_optimizer"])

    def _active(self) -> Mask:
        # On the CPU, numpy would share the memory of the super-network's.
        mask: Mask = self.supernet.active.cpu().numpy().copy()
        return mask

    def _autocast(self) -> AbstractContextManager[object]:
        return autocast_for(self._session.config, self._session.loop.device)


def build_supernet(
    config: SearchConfig, space: SearchSpace, device: torch.device, relaxation: Relaxation
) -> SuperNet:
    """The super-network of a search, with fresh weights, on its device."""
    supernet = SuperNet(
        space,
        auxiliary=config.auxiliary_weight > 0 and space.cell_layout is not None,
        checkpointing=config.checkpointing,
        relaxation=relaxation,
    )
    return place_module(supernet, device)

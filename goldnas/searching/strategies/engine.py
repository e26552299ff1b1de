"""What every search by a super-network does: train it, and record networks on a front.

A strategy is a subclass of :class:`SupernetSearch`. It says how hard to press, what happens
between two steps, and what is left to do after the last epoch.
"""

import json
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from goldnas.architecture import Architecture
from goldnas.data.examples import Examples
from goldnas.resources import Budget
from goldnas.searching.config import SearchConfig
from goldnas.searching.data import SearchData, blank_loss
from goldnas.searching.feasibility import Feasibility, Mask
from goldnas.searching.folder import SearchRun
from goldnas.searching.front import Front, FrontNetwork
from goldnas.searching.setup import supernet_for
from goldnas.training.distributed import Ranks
from goldnas.training.loop import TrainingLoop
from goldnas.training.memory import step_memory, take_peak_bytes


class SupernetSearch(TrainingLoop):
    """One search by a super-network.

    Args:
        run: The folder; the first rank alone writes it.
        data: The space and the images, of which this rank loads its share.
        feasibility: The costs and the budgets.
        device: Of this rank.
        ranks: The processes that search together.
    """

    presses = False
    """Whether a penalty on the gates is part of the loss."""

    run: SearchRun
    config: SearchConfig
    data: SearchData

    def __init__(
        self,
        run: SearchRun,
        data: SearchData,
        feasibility: Feasibility,
        device: torch.device,
        ranks: Ranks | None = None,
    ) -> None:
        self.feasibility = feasibility
        config = run.config
        super().__init__(
            run, config, data, device, ranks or Ranks(), accumulate=config.accumulate
        )
        self.front = Front(budgets={b.resource: b.limit for b in feasibility.budgets})
        self.met: set[str] = {b.text for b in self._met_budgets()}
        self.recorded: str = ""
        """Fingerprint of the network recorded last."""

    def _build(self) -> None:
        """Make the whole super-network, as it is before the first step."""
        torch.manual_seed(self.config.seed)
        self.supernet = supernet_for(self.config, self.data.space, self.device)
        self.weights_optimizer = self._sgd(
            p for p in self.supernet.parameters() if p is not self.supernet.alpha
        )

    @property
    def _module(self) -> nn.Module:
        return self.supernet

    # -- what a strategy says ----------------------------------------------------------------

    @staticmethod
    def check(config: SearchConfig) -> None:
        """Refuse a search that lacks something here, before anything is written.

        Raises:
            ConfigError: Saying what.
        """

    def _after_training(self) -> None:
        """Act after the last epoch."""

    @property
    def below_budgets(self) -> bool:
        """Whether the front is being carried on below the budgets."""
        return False

    @property
    def trains(self) -> bool:
        """Whether there are steps at all."""
        return True

    def penalty_weight(self, step: int) -> float:
        """Lambda at this step: the weight of the penalty in the loss."""
        return 0.0

    # -- the loop ----------------------------------------------------------------------------

    def search(self) -> Front:
        """Search until the budgets are met and nothing is left to do.

        Raises:
            RunError: If training diverges again and again, two images do not fit in memory,
                or the last epoch leaves a budget unmet.
            RankError: If the ranks lose each other, or come to differ.
            StoppedError: If a signal asked for it; the search was saved.
            WriteError: If the disk refuses.
        """
        if (front := self.ranks.broadcast(self._front_at_end)) is not None:
            return front
        return self._learn(self._finish)

    def _of_start(self) -> dict[str, Any]:
        return super()._of_start() | {
            "resources": self._resources(),
            "budgets": self.front.budgets,
            "memory_bytes": self.step_bytes(),
        }

    def _front_at_end(self) -> Front | None:
        ended = [event["event"] for event in self.run.events()[-1:]] == ["end"]
        # Without its front, what is left to do comes out the same again.
        return self.run.front() if ended and self.run.has_front else None

    def _finish(self) -> Front:
        self._after_training()
        self._save_front()
        self._event("end", epoch=self.epoch, networks=len(self.front.networks))
        return self.front

    @property
    def active(self) -> Mask:
        """The gates that are left, ``(G,)``; its own copy."""
        # On the CPU, numpy would share the memory of the super-network's.
        mask: Mask = self.supernet.active.cpu().numpy().copy()
        return mask

    def _forget(self, removed: list[nn.Parameter]) -> None:
        """Drop pruned parameters, and their momentum, from the optimiser."""
        gone = {id(parameter) for parameter in removed}
        for group in self.weights_optimizer.param_groups:
            for parameter in [p for p in group["params"] if id(p) in gone]:
                self.weights_optimizer.state.pop(parameter, None)
            group["params"] = [p for p in group["params"] if id(p) not in gone]

    # -- recording ---------------------------------------------------------------------------

    def _of_epoch(self) -> dict[str, Any]:
        last = self.step - 1
        return {
            "step": self.step,
            "loss": float(torch.stack(self.losses).mean()),
            f"validation_{self._figure}": self._score(self.data.validation),
            "learning_rate": self.learning_rate(last),
            "penalty_weight": self.penalty_weight(last),
            "live_operators": int(self.active.sum()),
            "resources": self._resources(),
            "memory_bytes": self.step_bytes(),
            "peak_memory_bytes": take_peak_bytes(self.device),
        }

    def _keep(
        self, network: FrontNetwork, architecture: Architecture, weights: dict[str, Tensor]
    ) -> None:
        """Write a network down: its files, the front, the log."""
        if self.ranks.first:
            self.run.save_network(architecture, weights)
        self.front = self.front.with_network(network)
        self._save_front()
        self.recorded = network.fingerprint
        self._event("network", **msgspec.to_builtins(network))

    def _save_front(self) -> None:
        if self.ranks.first:
            self.run.save_front(self.front)

    def _architecture(self) -> Architecture:
        return self.data.space.architecture(self.supernet.active_gates())

    def _resources(self) -> dict[str, float]:
        active = self.active
        return {name: cost.total(active) for name, cost in self.feasibility.costs.items()}

    def step_bytes(self) -> int:
        """Memory that a training step needs with the operators that are left, estimated."""
        blank = blank_loss(self.data.task, self.data.check)
        memory = step_memory(self.supernet, self.device, self._autocast, blank)
        return memory.step_bytes(self.gradients.at_once)

    def _met_budgets(self) -> list[Budget]:
        spent = self._resources()
        return [b for b in self.feasibility.budgets if spent[b.resource] <= b.limit]

    def _score(self, data: Examples) -> float:
        return self.scorer.score(self.supernet, data)

    def _scored(self, score: float | None) -> dict[str, Any]:
        """The fields of a recorded network that say how good it is."""
        if self.config.task is None:
            return {"accuracy": score}
        return {
            "accuracy": None,
            "metric": None if score is None else self.data.task.measured(score),
        }

    def _fingerprints(self) -> dict[str, str]:
        """What must be equal on all ranks after an epoch."""
        return {
            "the live operators": self._architecture().fingerprint,
            "lambda": json.dumps(self._own_state()),
            **super()._fingerprints(),
        }

    # -- state -------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that decides what comes next, for :meth:`restore`."""
        return super().state() | {
            "supernet": self.supernet.state_dict(),
            "weights_optimizer": self.weights_optimizer.state_dict(),
            "front": msgspec.to_builtins(self.front),
            "met": sorted(self.met),
            "recorded": self.recorded,
            "strategy": self._own_state(),
        }

    def _own_state(self) -> dict[str, Any]:
        """What the strategy adds to it: plain numbers and texts."""
        return {}

    def _restore_own(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`_own_state`."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state: prune what was pruned, then load what was learnt."""
        super().restore(state)
        pruned = torch.nonzero(~state["supernet"]["active"]).flatten().tolist()
        self._forget(self.supernet.prune(pruned))
        self.supernet.load_state_dict(state["supernet"])
        self.weights_optimizer.load_state_dict(state["weights_optimizer"])
        self.front = msgspec.convert(state["front"], Front)
        self.met = set(state["met"])
        self.recorded = state["recorded"]
        self._restore_own(state["strategy"])

"""One-shot pruning: train the whole super-network, then cut it to the budgets at once.

What GOLD-NAS does without: between the accuracy before the cut and the accuracy after it lies
the discretisation gap.
"""

from collections.abc import Hashable
from itertools import islice
from typing import Any

from goldnas.searching.schedules import LinearBudgetSchedule, weak_and_free
from goldnas.searching.strategies.gated import GatedSearch
from goldnas.searching.strategies.gold import GradualSearch
from goldnas.searching.subnet import inherited, recalibrate


class OneShotSearch(GatedSearch):
    """A super-network that is trained as GOLD-NAS's is, under its penalty, and cut once."""

    presses = True

    RECALIBRATED = 4096
    """Images, at most, that the statistics of a cut network are taken from."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pace = LinearBudgetSchedule(
            self.config, self.feasibility, self.total_steps, len(self.data.space.gates)
        )

    def planned_learning_rate(self, step: int) -> float:
        """Of the weights at this step: GOLD-NAS's."""
        return self.pace.learning_rate(step)

    def penalty_weight(self, step: int) -> float:
        """Lambda at this step: where GOLD-NAS's starts."""
        return self.pace.penalty_weight(step)

    def _after_training(self) -> None:
        """Cut to the budgets, and on to a share of them after the other; nothing is trained."""
        step = self.step - 1
        if self.config.edge_rule:
            self._cut(step, self._against_edge_rule())
        for share in (1.0, *GradualSearch.BEYOND):
            chosen = self._weakest_over(share)
            if chosen is None:
                return
            if share == 1:
                chosen += self._weak_and_free(without=chosen)
            if chosen or share == 1:  # else it is the network before
                self._cut(step, chosen)
                self._record(step, ["end" if share == 1 else "beyond"])

    def _weak_and_free(self, without: list[int]) -> list[int]:
        """What GOLD-NAS would have pruned besides, since no budget asks for it."""
        left = self.active
        left[without] = False
        weights = self._gate_weights().normalised
        return weak_and_free(self.feasibility, weights, left, self.config.xi_max)

    def _cut(self, step: int, chosen: list[int]) -> None:
        if chosen:
            self._remove("cut", step, chosen)
            self._recalibrate()
            self._event("recalibrated", **{self._figure: self._score(self.data.check)})

    def _against_edge_rule(self) -> list[int]:
        """What DARTS would cut: all but the best operator of the two best edges of a node.

        The budgets have the last word: what they need to be met stays.
        """
        gates, weights = self.data.space.gates, self._gate_weights().relative
        by_weight = sorted(range(len(gates)), key=lambda index: -weights[index])
        kept: dict[Hashable, dict[Hashable, int]] = {}
        for index in by_weight:
            edges = kept.setdefault(gates[index].node_id, {})
            if gates[index].edge_id not in edges and len(edges) < 2:
                edges[gates[index].edge_id] = index
        keep = {index for edges in kept.values() for index in edges.values()}
        left, chosen = self.active, []
        for index in reversed(by_weight):
            if index not in keep and self.feasibility.may_prune(left, index):
                left[index] = False
                chosen.append(index)
        return chosen

    def _recalibrate(self) -> None:
        """Take the running statistics anew, from the network that is left."""
        network = inherited(self.supernet, self.device)
        loader = self.data.loader
        batches = -(-self.RECALIBRATED // loader.images_per_batch)
        batches_of_images = (images for images, _ in islice(loader.epoch(0), batches))
        recalibrate(network, batches_of_images, self.device, self.ranks)
        self.supernet.network.load_state_dict(network.state_dict(), strict=False)

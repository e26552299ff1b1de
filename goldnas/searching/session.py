"""What every part of one search works with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from goldnas.data.examples import Examples
from goldnas.searching.config import SearchConfig
from goldnas.searching.data import SearchData
from goldnas.searching.feasibility import Feasibility, Mask
from goldnas.searching.folder import SearchRun
from goldnas.searching.front import Front
from goldnas.spaces import SearchSpace
from goldnas.training.loop import TrainingLoop

if TYPE_CHECKING:
    from goldnas.searching.strategies.registry import StrategyInfo
    from goldnas.searching.widths import WidthBudgets


@dataclass(frozen=True)
class Session:
    """One search: its loop, its settings, its data, its costs and budgets, its folder."""

    loop: TrainingLoop[Front]
    config: SearchConfig
    data: SearchData
    feasibility: Feasibility
    run: SearchRun
    strategy: "StrategyInfo"
    widths: "WidthBudgets | None" = None
    """What sizes cost, where a network is shrunk; then there are no gates."""

    @property
    def space(self) -> SearchSpace:
        """The networks there are to choose from."""
        return self.data.space

    def resources(self, mask: Mask) -> dict[str, float]:
        """What the operators of some gates ``(G,)`` need, by resource, read or not."""
        return {name: cost.total(mask) for name, cost in self.feasibility.costs.items()}

    def network_resources(self, mask: Mask) -> dict[str, float]:
        """What the network of some gates ``(G,)`` needs, by resource.

        Less than :meth:`resources` if no operator reads the output of some: the network has
        none of these. Budgets count them, so that they hold for all kept operators.
        """
        if self.space.wiring is None:
            return self.resources(mask)
        kept = (gate for gate, keep in zip(self.space.gates, mask, strict=True) if keep)
        parts = tuple(self.space.plan(self.space.architecture(kept)).parts())
        return {
            name: cost.of_parts(parts) if cost.resource else cost.total(mask)
            for name, cost in self.feasibility.costs.items()
        }

    def meets_budgets(self, resources: Mapping[str, float]) -> bool:
        """Whether all budgets hold for a network that needs these resources."""
        return all(resources[b.resource] <= b.limit for b in self.feasibility.budgets)

    def score(self, network: nn.Module, examples: Examples) -> float:
        """The metric of the task, over all ranks."""
        return self.loop.scorer.score(network, examples)

    def emit(self, event: str, **fields: Any) -> None:
        """Tell the log, and whoever watches, of an event."""
        self.loop.events.emit(event, **fields)

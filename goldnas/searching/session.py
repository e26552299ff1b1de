"""What every part of one search works with."""

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


@dataclass(frozen=True)
class Session:
    """One search: its loop, its settings, its data, its costs and budgets, its folder."""

    loop: TrainingLoop[Front]
    config: SearchConfig
    data: SearchData
    feasibility: Feasibility
    run: SearchRun
    strategy: "StrategyInfo"

    @property
    def space(self) -> SearchSpace:
        """The networks there are to choose from."""
        return self.data.space

    def resources(self, mask: Mask) -> dict[str, float]:
        """What the network of some gates ``(G,)`` needs, by resource."""
        return {name: cost.total(mask) for name, cost in self.feasibility.costs.items()}

    def score(self, network: nn.Module, examples: Examples) -> float:
        """The metric of the task, over all ranks."""
        return self.loop.scorer.score(network, examples)

    def emit(self, event: str, **fields: Any) -> None:
        """Tell the log, and whoever watches, of an event."""
        self.loop.events.emit(event, **fields)

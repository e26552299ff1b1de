"""Strategies by name. A file of this folder that registers what it defines is all one needs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from goldnas.errors import ConfigError
from goldnas.searching.front import Front
from goldnas.supernet import Relaxation
from goldnas.training.strategy import Learner, Strategy

if TYPE_CHECKING:
    from goldnas.searching.budgets import Limit
    from goldnas.searching.config import SearchConfig
    from goldnas.searching.session import Session


class SearchLearner(Learner, Protocol):
    """What a search trains: a super-network, or a network that becomes smaller."""

    def count_left(self) -> int:
        """How many operators, or channels, are left."""

    def count_all(self) -> int:
        """How many there were at first."""

    def resources(self) -> dict[str, float]:
        """The amounts that the remaining network needs."""

    def limits(self) -> "list[Limit]":
        """That, beside the least and the most that a network needs, and the budgets."""

    @property
    def penalty_weight(self) -> Callable[[int], float]:
        """Lambda at a step."""

    def step_bytes(self) -> int:
        """Memory that a training step needs with what is left, estimated."""


class SearchStrategy(Strategy[Front], Protocol):
    """A way to search a space; what is left at the end is a front."""

    @property
    def learner(self) -> SearchLearner:
        """What is trained."""

    @property
    def session(self) -> "Session":
        """What the strategy works with."""

    @property
    def total_steps(self) -> int:
        """Steps of the whole search; where their number is not planned, at most."""


MakeStrategy = Callable[["Session"], SearchStrategy]


def _accept(config: "SearchConfig") -> None:
    """Find nothing wrong."""


@dataclass(frozen=True, kw_only=True)
class StrategyInfo:
    """What distinguishes a strategy, and the settings that it starts from."""

    description: str
    make: MakeStrategy
    takes: frozenset[str] = frozenset()
    """Those of :data:`OPTIONAL` that it has a use for."""
    relaxation: Relaxation = "sigmoid"
    """``sigmoid`` gates stand alone; those of an edge compete under a ``softmax``."""
    levels: tuple[Literal[1, 2], ...] = (1, 2)
    """It can run on, the first unless said otherwise."""
    learning_rate: float = 0.05
    """Of the weights."""
    gate_learning_rate: float = 1.0
    networks: int | None = None
    """Networks that it tries, unless said otherwise; None for one that samples none."""
    counts: str = "operators"
    """What goes while it runs, for people."""
    always_ranks: bool = False
    """Whether it needs scores even of a single network."""
    check: Callable[["SearchConfig"], None] = field(default=_accept)
    """Refuses a search that lacks something here, before anything is written."""


OPTIONAL: dict[str, Any] = {
    "pace": "planned",
    "edge_rule": False,
    "networks": None,
    "score": None,
    "storage": None,
}
"""Settings that some strategies have, and the values that all have."""

STRATEGIES: dict[str, StrategyInfo] = {}

UNLISTED: dict[str, StrategyInfo] = {}
"""Those that search no space: what they do has a command of its own."""

_Make = TypeVar("_Make", bound=MakeStrategy)


def register_strategy(
    name: str, *, listed: bool = True, **info: Any
) -> Callable[[_Make], _Make]:
    """Make a strategy available under a name.

    Args:
        name: On the command line, in Python and in files.
        listed: Whether it searches spaces.
        info: Of :class:`StrategyInfo`, without ``make``, which is what is decorated: a call of
            it with a session makes the strategy.

    Raises:
        ConfigError: If the name is taken.
    """

    def register(make: _Make) -> _Make:
        if name in STRATEGIES or name in UNLISTED:
            raise ConfigError(f"strategy {name!r} is already registered; choose another name")
        (STRATEGIES if listed else UNLISTED)[name] = StrategyInfo(make=make, **info)
        return make

    return register


def find_strategy(name: str) -> StrategyInfo:
    """Look a strategy up.

    Raises:
        ConfigError: If there is none of this name.
    """
    known = STRATEGIES | UNLISTED
    if name not in known:
        raise ConfigError(f"unknown strategy {name!r}; known: {', '.join(STRATEGIES)}")
    return known[name]


def resolve_settings(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Fill in the settings that are left to the strategy.

    Args:
        name: Of the strategy.
        given: ``levels``, the two learning rates and those of :data:`OPTIONAL`; None where the
            strategy is to say.

    Raises:
        ConfigError: If it has no use for a setting that was given.
    """
    info = find_strategy(name)
    for setting, common in OPTIONAL.items():
        if setting not in info.takes and given[setting] != common:
            raise ConfigError(
                f"strategy {name} does not use `{setting}={given[setting]!r}`; leave it out"
            )
    resolved = dict(given)
    if given["levels"] is None:
        resolved["levels"] = info.levels[0]
    elif given["levels"] not in info.levels:
        takes = " or ".join(f"`levels={levels}`" for levels in info.levels)
        raise ConfigError(
            f"strategy {name} takes only {takes}; leave `levels={given['levels']}` out"
        )
    if given["learning_rate"] is None:
        resolved["learning_rate"] = 0.01 if given["pace"] == "paper" else info.learning_rate
    if given["gate_learning_rate"] is None:
        resolved["gate_learning_rate"] = info.gate_learning_rate
    if given["networks"] is None:
        resolved["networks"] = info.networks
    if info.networks is not None and given["score"] is None:
        ranks = info.always_ranks or resolved["networks"] != 1
        resolved["score"] = "supernet" if ranks else None
    return resolved

"""The ways to search a space, by name; all leave the same folder and the same kind of front."""

from dataclasses import dataclass
from typing import Literal

from goldnas.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Strategy:
    """What distinguishes a strategy, and the settings that it starts from."""

    description: str
    relaxation: Literal["sigmoid", "softmax", "none"] = "sigmoid"
    """``sigmoid`` gates stand alone; those of an edge compete under a ``softmax``."""
    levels: tuple[Literal[1, 2], ...] = (1, 2)
    """It can be run on, the first unless said otherwise."""
    learning_rate: float = 0.05
    """Of the weights."""
    gate_learning_rate: float = 1.0
    cuts: bool = False
    """Whether it trains the whole super-network and then cuts it at once."""
    samples: int | None = None
    """Networks that it tries, unless said otherwise; None for one that samples none."""
    study: bool = False
    """Whether Optuna chooses them."""


STRATEGIES = {
    "gold": Strategy("GOLD-NAS: one level, pruned gradually (arXiv:2007.03331)"),
    "one-shot": Strategy(
        "the same super-network and penalty, cut to the budgets at the end", cuts=True
    ),
    "darts1": Strategy(
        "DARTS, first order: two levels, softmax, cut at the end (arXiv:1806.09055)",
        relaxation="softmax",
        levels=(2,),
        learning_rate=0.025,
        gate_learning_rate=3e-4,
        cuts=True,
    ),
    "darts2": Strategy(
        "DARTS, second order: the gates look one step of the weights ahead",
        relaxation="softmax",
        levels=(2,),
        learning_rate=0.025,
        gate_learning_rate=3e-4,
        cuts=True,
    ),
    "random": Strategy(
        "random networks that cost what the budgets allow",
        relaxation="none",
        levels=(1,),
        samples=100,
    ),
    "evolution": Strategy(
        "NSGA-II, by Optuna", relaxation="none", levels=(1,), samples=200, study=True
    ),
    "tpe": Strategy(
        "the tree-structured Parzen estimator, by Optuna",
        relaxation="none",
        levels=(1,),
        samples=200,
        study=True,
    ),
}

SCORES = ("supernet", "naswot", "synflow")
"""What a strategy that samples ranks networks by; the last two need no training."""


def strategy_named(name: str) -> Strategy:
    """Look a strategy up.

    Raises:
        ConfigError: If there is none of this name.
    """
    if name not in STRATEGIES:
        raise ConfigError(f"unknown strategy {name!r}; known: {', '.join(STRATEGIES)}")
    return STRATEGIES[name]


def check_strategy(
    name: str,
    *,
    levels: int,
    pace: str,
    rule: bool,
    samples: int | None,
    score: str | None,
    storage: str | None,
) -> None:
    """Refuse settings that a strategy does not have.

    Raises:
        ConfigError: Naming the setting, and what to do.
    """
    strategy = strategy_named(name)
    if levels not in strategy.levels:
        raise ConfigError(
            f"strategy {name} runs on {' or '.join(map(str, strategy.levels))} levels, got "
            f"levels {levels}; leave --levels out"
        )
    if pace != "planned" and name != "gold":
        raise ConfigError(f"strategy {name} prunes at no pace; leave --pace {pace} out")
    if rule and not strategy.cuts:
        raise ConfigError(f"strategy {name} does not cut at the end; leave --edge-rule out")
    if strategy.samples is None:
        for option, value in (("--samples", samples), ("--score", score)):
            if value is not None:
                raise ConfigError(f"strategy {name} samples no networks; leave {option} out")
    elif samples is None:
        raise ConfigError(
            f"strategy {name} samples networks: say how many, for example --samples "
            f"{strategy.samples}"
        )
    elif score is None and (samples > 1 or strategy.study):
        raise ConfigError(
            f"strategy {name} has to rank {samples} networks; give --score {SCORES[0]}, or one "
            f"of {', '.join(SCORES[1:])}, which need no training"
        )
    if storage is not None and not strategy.study:
        raise ConfigError(f"strategy {name} keeps no study; leave --storage out")

"""GOLD-NAS (arXiv:2007.03331): a super-network becomes a network, a few operators at a time.

Two schedules: by importance to a plan that has an end, and Algorithm 1 of the paper.
"""

import msgspec

from goldnas.errors import ConfigError
from goldnas.searching.config import SearchConfig
from goldnas.searching.session import Session
from goldnas.searching.strategies.gold_paper import AlgorithmOne
from goldnas.searching.strategies.gold_planned import ImportancePruning
from goldnas.searching.strategies.registry import register_strategy

GATE_LEARNING_RATE = 1.0
OF_LEARNT_GATES = ("mu", "lambda0", "xi_max", "gate_learning_rate")


def _check(config: SearchConfig) -> None:
    """Refuse settings of gates that learn, where they do not."""
    unless_given = {field.name: field.default for field in msgspec.structs.fields(config)}
    unless_given["gate_learning_rate"] = GATE_LEARNING_RATE
    for name in OF_LEARNT_GATES:
        value = getattr(config, name)
        if config.pace == "planned" and value != unless_given[name]:
            raise ConfigError(
                "with `pace='planned'`, gold chooses by importance and does not use "
                f"`{name}={value!r}`: leave it out, or give `pace='paper'`"
            )


@register_strategy(
    "gold",
    description="GOLD-NAS: one level, pruned step by step (arXiv:2007.03331)",
    takes={"pace"},
    gate_learning_rate=GATE_LEARNING_RATE,
    check=_check,
)
def gold(session: Session) -> ImportancePruning | AlgorithmOne:
    """Prune by importance with the planned pace, and by gates with that of the paper."""
    if session.config.pace == "planned":
        return ImportancePruning(session)
    return AlgorithmOne(session)

"""Taking operators out of a super-network, and saying in the log what it cost."""

from goldnas.searching.gates import Gates
from goldnas.searching.session import Session
from goldnas.searching.supernet_learner import SupernetLearner

TIGHTER_SHARES = (0.97, 0.94, 0.91, 0.88, 0.85)
"""Shares of the budgets at which the front goes on below them."""


def remove_operators(
    session: Session,
    learner: SupernetLearner,
    gates: Gates,
    event: str,
    step: int,
    chosen: list[int],
) -> None:
    """Prune operators, and log the score before and after.

    Args:
        session: Of the search.
        learner: To prune.
        gates: Of the learner.
        event: Its name in the log.
        step: After which it happens.
        chosen: The gates, by index.
    """
    active = learner.mask
    with_nested = (gate for i in chosen for gate in session.feasibility.with_nested(i))
    chosen = [gate for gate in dict.fromkeys(with_nested) if active[gate]]
    names = [session.space.gates[index].name for index in chosen]
    key = session.data.task.metric_kind.key
    weights = gates.weights()
    before = learner.score(session.data.check)
    learner.prune(chosen)
    mask = learner.mask
    session.emit(
        event,
        epoch=step // session.loop.steps_per_epoch,
        step=step + 1,
        operators=names,
        relative_weights=[round(float(weights.relative[i]), 4) for i in chosen],
        **{
            f"{key}_before": before,
            f"{key}_after": learner.score(session.data.check),
        },
        penalty_weight=learner.penalty_weight(step),
        live_operators=int(mask.sum()),
        resources=session.resources(mask),
    )

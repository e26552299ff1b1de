"""The resources that latency tables predict: times and energies."""

from collections.abc import Iterable, Sequence

from goldnas.lut import QUANTILES, LatencyTable
from goldnas.resource_names import ENERGY, name_latency
from goldnas.resources.budget import Budget
from goldnas.resources.energy import Energy
from goldnas.resources.latency import Latency
from goldnas.resources.predicted import Predicted
from goldnas.spaces import SearchSpace


def predict_by(table: LatencyTable, space: SearchSpace) -> Predicted:
    """The latency, or the energy, that a table predicts.

    Raises:
        TableError: If the table has a loop, but no networks of the space in it.
    """
    return Energy(table, space) if table.kind == ENERGY else Latency(table, space)


def list_predicted(
    tables: Iterable[LatencyTable], space: SearchSpace, budgets: Sequence[Budget]
) -> list[Predicted]:
    """The latency or energy of each table, and the quantiles of it that have budgets.

    Raises:
        TableError: If a table does not have a quantile.
    """
    asked = dict.fromkeys(budget.resource for budget in budgets)
    found: list[Predicted] = []
    for table in tables:
        found.append(predict_by(table, space))
        names = [q for q in QUANTILES if name_latency(table.name, q) in asked]
        found += [Latency(table, space, quantile) for quantile in names]
    return found

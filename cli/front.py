"""How the networks of a search are shown."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from goldnas.search.front import Front


def front_table(
    front: "Front", test_accuracy: Mapping[str, float | None] | None = None
) -> Table:
    """The recorded networks, the cheapest first.

    Args:
        front: Of a search.
        test_accuracy: By fingerprint, for a further column; None of what was not trained.
    """
    from goldnas.resources import format_amount

    table = Table(
        caption="* on the Pareto front, with these weights;  bold: within every budget"
    )
    table.add_column("#", justify="right")
    table.add_column("network")
    table.add_column("validation %", justify="right")
    if test_accuracy is not None:
        table.add_column("test %", justify="right")
    scored = any(network.score is not None for network in front.networks)
    if scored:
        table.add_column("score", justify="right")
    names = list(front.networks[0].resources) if front.networks else []
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("recorded at")
    for number, network in enumerate(front.networks, 1):
        cells = [
            str(number),
            network.fingerprint + ("" if network.dominated else " *"),
            _percent(network.accuracy),
        ]
        if test_accuracy is not None:
            cells.append(_percent(test_accuracy[network.fingerprint]))
        if scored:
            cells.append("" if network.score is None else f"{network.score:.5g}")
        cells += [format_amount(name, network.resources[name]) for name in names]
        when = f"epoch {network.epoch + 1}: " if network.step else ""
        cells.append(when + ", ".join(network.reasons))
        table.add_row(*cells, style="bold" if network.meets_budgets else None)
    return table


def _percent(accuracy: float | None) -> str:
    return "untrained" if accuracy is None else f"{100 * accuracy:.2f}"

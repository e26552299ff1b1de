"""How the networks of a search are shown."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.table import Table

from goldnas.cli.console import as_text
from goldnas.cli.metric_text import cell, heading

if TYPE_CHECKING:
    from goldnas.metric import Metric
    from goldnas.searching.front import Front


def front_table(front: "Front", test: "Mapping[str, Metric | None] | None" = None) -> Table:
    """The recorded networks, the cheapest first.

    Args:
        front: Of a search.
        test: What each is worth on the test set, by fingerprint, for a further column; None of
            what was not trained.
    """
    from goldnas.units import format_amount

    table = Table(
        caption="* on the Pareto front, with these weights;  bold: within every budget"
    )
    table.add_column("#", justify="right")
    table.add_column("network")
    figures = [network.figure for network in front.networks]
    table.add_column(as_text(heading("validation", figures)), justify="right")
    if test is not None:
        table.add_column(as_text(heading("test", figures)), justify="right")
    scored = any(network.score is not None for network in front.networks)
    if scored:
        table.add_column("score", justify="right")
    names = list(front.networks[0].resources) if front.networks else []
    for name in names:
        table.add_column(as_text(name), justify="right")
    table.add_column("recorded at")
    for number, network in enumerate(front.networks, 1):
        cells = [
            str(number),
            network.fingerprint + ("" if network.dominated else " *"),
            cell(network.figure),
        ]
        if test is not None:
            cells.append(cell(test[network.fingerprint]))
        if scored:
            cells.append("" if network.score is None else f"{network.score:.5g}")
        cells += [format_amount(name, network.resources[name]) for name in names]
        when = f"epoch {network.epoch + 1}: " if network.step else ""
        cells.append(when + ", ".join(network.reasons))
        table.add_row(*map(as_text, cells), style="bold" if network.meets_budgets else None)
    return table

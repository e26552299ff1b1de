"""How the networks of a search are shown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from goldnas.cli.console import as_text, out, say
from goldnas.cli.metric_text import cell, heading
from goldnas.cli.wording import command

if TYPE_CHECKING:
    from goldnas.metric import Metric
    from goldnas.searching.baselines import Baseline, Baselines
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


def print_ready_made(baselines: "Baselines | None", run: Path) -> None:
    """Show the best few ready-made networks that a search is compared with, if any.

    Args:
        baselines: Of the search.
        run: Its folder.
    """
    if baselines is None:
        return
    count = len(baselines.within)
    if not count:
        say(f"no ready-made network of {baselines.table}'s device is within the budgets")
        return
    out.print(ready_made_table(baselines, baselines.shown))
    what = "1 ready-made network is" if count == 1 else f"{count} ready-made networks are"
    say(
        f"{what} within the budgets. To compare them on this data: "
        f"{command('train', run, '--zoo-train', 1)}"
    )


def ready_made_table(baselines: "Baselines", shown: "Sequence[Baseline]") -> Table:
    """Ready-made networks that a search is compared with.

    Their published accuracies on other data are in a separate column.

    Args:
        baselines: Of the search.
        shown: Those to show.
    """
    from goldnas.units import format_amount

    table = Table(
        caption="ready-made networks within the budgets; their latencies are measured. Their "
        "accuracies are on other data, mostly ImageNet: do not compare them with "
        "those above"
    )
    table.add_column("ready-made")
    for name in ("FLOPs", "params", f"{baselines.table}, measured", "accuracy elsewhere"):
        table.add_column(as_text(name), justify="right")
    for baseline in shown:
        table.add_row(
            as_text(baseline.network),
            *(format_amount(n, amount) for n, amount in baseline.resources.items()),
            as_text(baseline.told_accuracy),
        )
    return table

"""``goldnas status``: where a search stands, on one screen."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goldnas.cli.console import as_text, errors_shown, out, print_json, say
from goldnas.cli.options import JsonOption
from goldnas.cli.wording import command
from goldnas.errors import count_of
from goldnas.reference import name_items

if TYPE_CHECKING:
    from goldnas.report.status import Status


def status(
    run: Annotated[Path, typer.Argument(help="Folder of a search, in progress or ended.")],
    as_json: JsonOption = False,
) -> None:
    """Show the progress of a search: epoch, accuracy, operators, budgets, networks, next step.

    The command only reads the folder. So it works while the search runs, and from any machine
    that sees the folder.

    Examples:
        goldnas status runs/a
        goldnas status runs/a --json
    """
    with errors_shown():
        from goldnas.report.status import Status

        found = Status.read(run)
        if as_json:
            print_json(found)
        else:
            _print(found)


def _print(status: "Status") -> None:
    from rich.table import Table

    from goldnas.units import format_amount

    say(f"{status.folder}: {_state(status)}")
    facts = Table.grid(padding=(0, 2))
    facts.add_row("search", as_text(f"{status.strategy} in {status.space} on {status.data}"))
    facts.add_row("budgets", as_text(", ".join(status.budgets)))
    if status.networks_to_try is not None:
        facts.add_row("networks", f"{status.networks_tried} of {status.networks_to_try} tried")
    epochs = f"{status.epochs_done} of {status.epochs}"
    if status.seconds_left is not None:
        epochs += f", about {timedelta(seconds=round(status.seconds_left))} left"
    facts.add_row("epochs", epochs)
    if status.metric is not None and status.loss is not None:
        found = f"{status.metric.text} on held-out {name_items(status.data)}"
        shown = as_text(f"{found}, loss {status.loss:.3f}")
        facts.add_row(as_text(status.metric.name), shown)
    if status.live_operators is not None and status.networks_to_try is None:
        whole = "" if status.operators is None else f" of {status.operators}"
        penalty = f", lambda {status.penalty_weight:.1e}" if status.penalty_weight else ""
        from goldnas.searching.strategies import find_strategy

        counts = find_strategy(status.strategy).counts
        facts.add_row(counts, f"{status.live_operators}{whole} are left{penalty}")
    out.print(facts)
    resources = Table("resource")
    for header in ("now", "budget", "share"):
        resources.add_column(header, justify="right")
    best = status.best
    if best is not None:
        resources.add_column(as_text(f"network {best.fingerprint}"), justify="right")
    for name, resource in status.resources.items():
        budget = resource.budget
        cells = [
            format_amount(name, resource.amount),
            "none" if budget is None else format_amount(name, budget),
            "" if budget is None else f"{100 * resource.amount / budget:.0f} %",
        ]
        if best is not None:
            cells.append(format_amount(name, best.resources[name]))
        resources.add_row(as_text(name), *cells)
    if resources.row_count:
        out.print(resources)
    say(_recorded(status))
    _print_ready_made(status)
    if best is not None:
        say(f"See the report: {command('report', Path(status.folder))}")


def _print_ready_made(status: "Status") -> None:
    """Say which ready-made networks the search is held against, and who wins."""
    from goldnas.resource_names import name_latency
    from goldnas.searching.baselines import SHOWN
    from goldnas.units import format_amount

    for one in (status.ready_made or [])[:SHOWN]:
        latency = format_amount(name_latency(one.table), one.measured_us)
        flops, params = (
            format_amount(*amount) for amount in (("FLOPs", one.flops), ("params", one.params))
        )
        say(
            f"ready-made, within the budgets: {one.network}, {latency} measured on "
            f"{one.table}'s device, {flops}, {params}"
        )
    for verdict in status.verdicts:
        say(verdict)


def _state(status: "Status") -> str:
    ran = "" if status.seconds is None else f" after {timedelta(seconds=round(status.seconds))}"
    if status.state == "ended":
        return f"ended{ran}"
    again = command("search", "--resume", Path(status.folder))
    if status.state == "not begun":
        return f"has not begun; if no process runs it: {again}"
    since = f"wrote its log {timedelta(seconds=round(status.quiet_seconds or 0))} ago"
    if status.state == "quiet":
        return f"{since}, so it may have been stopped{ran}; if no process runs it: {again}"
    return f"in progress{ran}; {since}"


def _recorded(status: "Status") -> str:
    best = status.best
    networks = f"{count_of(status.networks, 'network')} recorded"
    if best is None:
        return f"{networks}, none within all budgets yet"
    merit, figure = "untrained", best.figure
    if figure is not None:
        merit = figure.on(f"held-out {name_items(status.data)}")
    elif best.score is not None:
        merit = f"score {best.score:.5g}"
    done = (
        f"{count_of(status.trained, 'training')} done, "
        f"{count_of(status.measured, 'network')} measured"
    )
    return f"{networks}; the best within all budgets is {best.fingerprint}: {merit}; {done}"

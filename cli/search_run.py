"""A search of the command line: started or gone on with, and what is said of it."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from goldnas.cli.console import out, print_json, say, warn
from goldnas.cli.front import front_table
from goldnas.cli.metric_text import things
from goldnas.cli.search_progress import search_shown
from goldnas.cli.signals import signals_noted
from goldnas.errors import ConfigError, GoldnasError, RankError, WriteError
from goldnas.files import write_atomic

if TYPE_CHECKING:
    from goldnas.lut import LatencyTable
    from goldnas.searching.config import SearchConfig
    from goldnas.searching.feasibility import Feasibility, Mask
    from goldnas.searching.strategies.engine import SupernetSearch
    from goldnas.training.distributed import Ranks


def start(
    config: "SearchConfig",
    tables: "list[LatencyTable]",
    folder: Path,
    ranks: "Ranks",
    *,
    amp: str,
    fit_batch: bool,
    report: bool,
    as_json: bool,
    options: str,
) -> None:
    """Start a search in a new folder, once it is known to be possible.

    Args:
        config: Settings.
        tables: Latency tables of the devices.
        folder: To make.
        ranks: The processes that search together.
        amp: Number format of the training, as it was asked for.
        fit_batch: Whether a step takes as many images as fit the memory.
        report: Whether to write a report at the end.
        as_json: Whether to print the front as JSON.
        options: What to keep as ``options.toml``.

    Raises:
        GoldnasError: If it is not, or the search ends before its time.
    """
    from goldnas.searching.folder import SearchRun
    from goldnas.searching.start import PreparedSearch

    ranks.broadcast(lambda: SearchRun.check_free(folder))
    prepared = PreparedSearch(config, tables, amp=amp, fit_batch=fit_batch, ranks=ranks)
    space = prepared.data.space
    out.print(
        f"{config.data}: {prepared.data.loader.num_images} {things(config.data)} to train on, "
        f"{len(prepared.data.validation)} held out, {prepared.data.loader.kept}; space of "
        f"10^{space.log10_size():.2f} networks; training on {prepared.device}",
        soft_wrap=True,
        highlight=False,
    )
    out.print(_limits_table(prepared.feasibility))
    prepared.check_feasible()
    search = prepared.start(folder)
    ranks.broadcast(lambda: write_atomic(folder / "options.toml", options))
    _print_memory(search, "try --batch-size auto, or --checkpointing")
    _run(search, report, as_json)


def go_on(
    folder: Path, workers: int | None, ranks: "Ranks", *, report: bool, as_json: bool
) -> None:
    """Go on with the search in a folder.

    Raises:
        GoldnasError: If that is not possible, or the search ends before its time.
    """
    from goldnas.searching.start import PreparedSearch, opened

    search = PreparedSearch.resume(opened(folder, ranks), workers=workers, ranks=ranks)
    out.print(_limits_table(search.feasibility, search.active))
    _print_memory(search, "go on where there is more")
    _run(search, report, as_json)


def _run(search: "SupernetSearch", report: bool, as_json: bool) -> None:
    folder = search.run.path
    try:
        with (
            search_shown(search),
            signals_noted(torchrun=search.ranks.by_torchrun) as stop_signal,
        ):
            search.stop_signal = stop_signal
            front = search.search()
    except (RankError, WriteError) as error:
        raise type(error)(
            f"{error}; then go on with: goldnas search --resume {shlex.quote(str(folder))}"
        ) from None
    if not search.ranks.first:
        return
    if as_json:
        print_json({"folder": folder, "budgets": front.budgets, "networks": front.networks})
    else:
        out.print(front_table(front))
    _print_drops(search)
    if report:
        _write_report(folder)
    next_step = f"Next: goldnas export {shlex.quote(str(folder))} --out net.onnx"
    if not search.trains:
        next_step = f"Nothing was trained yet. Next: goldnas train {shlex.quote(str(folder))}"
    out.print(
        f"{folder}: {len(front.networks)} networks. {next_step}",
        soft_wrap=True,
        highlight=False,
    )


def _print_drops(search: "SupernetSearch") -> None:
    """Say what pruning, or the cut, cost at once."""
    # By step: after a resumption the log holds some prunings twice.
    events = search.run.events()
    prunings = {e["step"]: e for e in events if e["event"] == "prune"}
    cut = next((e for e in events if e["event"] == "cut"), None)
    task = search.data.task
    if search.config.task is None:
        drops = [e["accuracy_before"] - e["accuracy_after"] for e in prunings.values()]
        most = f"drop of accuracy in one: {100 * max(drops, default=0.0):.2f} %"
        if cut:
            shares = (100 * cut["accuracy_before"], 100 * cut["accuracy_after"])
            span = f"accuracy from {shares[0]:.2f} to {shares[1]:.2f} %"
    else:
        sign = 1 if task.higher_is_better else -1
        drops = [sign * (e["metric_before"] - e["metric_after"]) for e in prunings.values()]
        most = f"loss of {task.name} in one: {max(drops, default=0.0):.4g}"
        if cut:
            span = f"{task.name} from {cut['metric_before']:.4g} to {cut['metric_after']:.4g}"
    if drops:
        out.print(f"{len(drops)} prunings; largest {most}", highlight=False)
    if cut:
        out.print(f"the cut to the budgets took the {span}", highlight=False)


def _write_report(folder: Path) -> None:
    """Write the report into the folder; a search that ended does not fail for it."""
    from goldnas.cli.report import write_report

    try:
        say(f"wrote {write_report(folder)}")
    except (GoldnasError, OSError) as error:
        warn(f"there is no report: {error}. Try: goldnas report {shlex.quote(str(folder))}")


def _print_memory(search: "SupernetSearch", advice: str) -> None:
    """Say what a step needs, before the first, and what to do if that is too much."""
    from goldnas.training.memory import free_bytes, memory_text

    if not search.ranks.first or not search.trains:
        return
    config, needed, at_once = search.config, search.step_bytes(), search.gradients.at_once
    line = f"a step on {at_once} {things(config.data)} at once needs about "
    line += memory_text(needed)
    try:
        free = free_bytes(search.device)
    except ConfigError:  # not known everywhere
        free = needed
    else:
        line += f" of {memory_text(free)} free"
    out.print(line + (", in bf16" if config.amp == "bf16" else ""), highlight=False)
    if needed > free:
        warn(f"that may not fit: {advice}")


def _limits_table(feasibility: "Feasibility", active: "Mask | None" = None) -> Table:
    from goldnas.searching.setup import limits
    from goldnas.units import format_amount

    table = Table()
    for heading in ("resource", "smallest", "current", "full", "budget", ""):
        table.add_column(heading, justify="left" if heading == "resource" else "right")
    for limit in limits(feasibility, active):
        amounts = (limit.smallest, limit.current, limit.full)
        budget = limit.budget
        verdict = ""
        if budget is not None and limit.smallest > budget.limit:
            verdict = "too small"
        elif budget is not None:
            verdict = "met" if limit.current <= budget.limit else "within reach"
        table.add_row(
            limit.resource,
            *(format_amount(limit.resource, amount) for amount in amounts),
            "none" if budget is None else format_amount(limit.resource, budget.limit),
            verdict,
        )
    return table

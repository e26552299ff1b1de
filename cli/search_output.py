"""What a search says: before it starts, for each epoch, and at its end."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from rich.table import Table

from goldnas.cli.console import as_text, err, note, out, print_json, say, warn
from goldnas.cli.front import front_table, print_ready_made
from goldnas.cli.progress import setback_line, warn_of_logger
from goldnas.cli.search_display import live_display, strategy_of
from goldnas.cli.signals import signals_noted
from goldnas.cli.wording import command, in_options
from goldnas.errors import ConfigError, GoldnasError, count_of
from goldnas.metric import read_logged
from goldnas.reference import name_items

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from goldnas.api.runs import Run
    from goldnas.cli.search_display import SearchDisplay
    from goldnas.searching.budgets import Limit
    from goldnas.searching.session import Session
    from goldnas.searching.start import SearchLoop
    from goldnas.training.distributed import Ranks


class SearchOutput:
    """Watches one search; from its first step on signals stop it in good order.

    Args:
        ranks: Of which the first speaks.
        resumed: Whether the search goes on.
        note: What else to say when it begins; "" for nothing.
    """

    def __init__(self, ranks: "Ranks", *, resumed: bool = False, note: str = "") -> None:
        self._ranks = ranks
        self._resumed = resumed
        self._note = note
        self._stack = ExitStack()
        self._signal: Callable[[], int] = lambda: 0
        self._loop: SearchLoop | None = None
        self._display: SearchDisplay | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.close()

    def stop_signal(self) -> int:
        """The number of the signal that came, 0 for none."""
        return self._signal()

    def observe(self, event: str, fields: dict[str, Any]) -> None:
        """Say what there is to say of an event."""
        if event == "begin":
            self._begin(fields["loop"])
        if not self._ranks.first:
            return
        if event == "ready":
            _print_ready(fields)
        if event == "note":
            note(in_options(fields["text"]))
        if event == "waiting":
            warn(fields["text"])
        if self._loop is None:
            return
        if self._display is not None:
            self._display.observe(event, fields)
        warn_of_logger(self._loop, event, fields)
        line = _line(self._loop, event, fields) or setback_line(self._loop, event, fields)
        if line is not None:
            note(line)

    def _begin(self, loop: "SearchLoop") -> None:
        if self._resumed:
            strategy = strategy_of(loop)
            out.print(_limits_table(strategy.learner.limits()))
        if self._note:
            note(self._note)
        advice = "try --batch-size auto, or --checkpointing"
        _print_memory(
            loop, "continue on a machine with more memory" if self._resumed else advice
        )
        torchrun = self._ranks.by_torchrun
        self._signal = self._stack.enter_context(signals_noted(torchrun=torchrun))
        if self._ranks.first and err.is_terminal:
            self._display = self._stack.enter_context(live_display(loop))
        self._loop = loop


# -- before the first step ---------------------------------------------------------------------


def _print_ready(fields: dict[str, Any]) -> None:
    data = fields["data"]
    say(
        f"{data}: {fields['images']} {name_items(data)} to train on, {fields['held_out']} held "
        f"out, {fields['kept']}; space of 10^{fields['log10_size']:.2f} networks; training on "
        f"{fields['device']}"
    )
    limits = fields["limits"]
    out.print(_limits_table(limits))
    asked = [(limit, limit.budget) for limit in limits if limit.budget is not None]
    if asked and all(limit.full <= budget.limit for limit, budget in asked):
        warn(
            "the largest network of this space keeps every budget, so the budgets decide "
            "nothing: give smaller budgets, or search a larger space"
        )


def _limits_table(limits: "Sequence[Limit]") -> Table:
    from goldnas.units import format_amount

    table = Table()
    for heading in ("resource", "smallest", "current", "full", "budget", ""):
        table.add_column(heading, justify="left" if heading == "resource" else "right")
    for limit in limits:
        amounts = (limit.smallest, limit.current, limit.full)
        budget = limit.budget
        verdict = ""
        if budget is not None and limit.smallest > budget.limit:
            verdict = "too small"
        elif budget is not None:
            verdict = "met" if limit.current <= budget.limit else "within reach"
        table.add_row(
            as_text(limit.resource),
            *(format_amount(limit.resource, amount) for amount in amounts),
            "none" if budget is None else format_amount(limit.resource, budget.limit),
            verdict,
        )
    return table


def _print_memory(loop: "SearchLoop", advice: str) -> None:
    """Say what a step needs, and what to do if that is too much."""
    from goldnas.training.memory import free_bytes, memory_text

    strategy = strategy_of(loop)
    if not loop.ranks.first or not strategy.total_steps:
        return
    config, at_once = strategy.session.config, loop.gradients.at_once
    needed = strategy.learner.step_bytes()
    line = f"a step on {at_once} {name_items(config.data)} at once needs about "
    line += memory_text(needed)
    try:
        free = free_bytes(loop.device)
    except ConfigError:  # not known everywhere
        free = needed
    else:
        line += f" of {memory_text(free)} free"
    say(line + (", in bf16" if config.amp == "bf16" else ""))
    if needed > free:
        warn(f"the step may not fit into memory: {advice}")


# -- while it runs -----------------------------------------------------------------------------


def _line(loop: "SearchLoop", event: str, fields: dict[str, Any]) -> str | None:
    """What a search says of an event, if anything."""
    from goldnas.resource_names import read_precision
    from goldnas.units import format_amount

    session = strategy_of(loop).session
    if event == "epoch":
        resources = ", ".join(
            f"{name} " * (read_precision(name) is not None) + format_amount(name, amount)
            for name, amount in fields["resources"].items()
        )
        penalty_weight = fields["penalty_weight"]
        weight = f", lambda {penalty_weight:.1e}" if penalty_weight else ""
        of = f"/{session.config.epochs}" if session.config.pace == "planned" else ""
        return (
            f"epoch {fields['epoch'] + 1}{of}: loss {fields['loss']:.3f}, validation "
            f"{_held_out(session, fields)}, {fields['live_operators']} "
            f"{session.strategy.counts}, {resources}{weight}, {fields['seconds']:.0f} s"
        )
    if event == "score" and fields["best"]:
        of = f"{fields['number']} of {session.config.networks}"
        return f"network {of}: score {fields['score']:.5g}, the best so far"
    if event == "network":
        return f"  saved {fields['fingerprint']}: {', '.join(fields['reasons'])}"
    return None


def _held_out(session: "Session", fields: dict[str, Any]) -> str:
    if "validation_accuracy" in fields:
        return f"{100 * fields['validation_accuracy']:.2f} %"
    return f"{session.data.task.name} {fields['validation_metric']:.4g}"


# -- at its end --------------------------------------------------------------------------------


def print_end(run: "Run", *, report: bool, as_json: bool) -> None:
    """Show the result of a search, and the next step."""
    from goldnas.searching.baselines import ReadyMade

    front = run.front.record
    if as_json:
        found: dict[str, Any] = {
            "folder": run.path,
            "budgets": front.budgets,
            "networks": front.networks,
        }
        if run.folder.baselines is not None:
            found["ready_made"] = list(map(ReadyMade.read, run.folder.baselines.within))
        print_json(found)
    else:
        out.print(front_table(front))
        print_ready_made(run.folder.baselines, run.path)
    _print_drops(run)
    if report:
        _write_report(run)
    next_step = f"Next: {command('export', run.path, '--out', 'net.onnx')}"
    if all(network.figure is None for network in front.networks):
        next_step = f"Nothing was trained yet. Next: {command('train', run.path)}"
    say(f"{run.path}: {count_of(len(front.networks), 'network')}. {next_step}")


def _print_drops(run: "Run") -> None:
    """Say what pruning, or the cut, cost at once."""
    from goldnas.task import load_task

    # By step: after a resumption the log holds some prunings twice.
    events = run.read_events()
    prunings = {e["step"]: e for e in events if e["event"] == "prune"}
    cut = next((e for e in events if e["event"] == "cut"), None)
    kind = load_task(run.config.task).metric_kind
    sign = 1 if kind.higher_is_better else -1
    pairs = [_around(event) for event in prunings.values()]
    drops = [sign * (before - after) for before, after in pairs]
    most = kind.scale * max(drops, default=0.0)
    if most <= 0:
        most_text = f"none made the {kind.name} worse"
    elif kind.is_accuracy:
        most_text = f"largest drop of accuracy in one: {most:.2f} %"
    else:
        most_text = f"largest loss of {kind.name} in one: {most:.4g}"
    if drops:
        say(f"{count_of(len(drops), 'pruning')}; {most_text}")
    if cut:
        before, after = (kind.scale * value for value in _around(cut))
        if kind.is_accuracy:
            span = f"accuracy from {before:.2f} to {after:.2f} %"
        else:
            span = f"{kind.name} from {before:.4g} to {after:.4g}"
        say(f"the cut to the budgets changed the {span}")


def _around(event: dict[str, Any]) -> tuple[float, float]:
    """The metric before and after operators went."""
    before, after = (read_logged(event, name) for name in ("{}_before", "{}_after"))
    assert before is not None  # the reader of the log sees to it
    assert after is not None
    return before, after


def _write_report(run: "Run") -> None:
    """Write the report into the folder; a search that ended does not fail for it."""
    from goldnas.cli.report import write_report

    try:
        say(f"wrote {write_report(run.path)}")
    except (GoldnasError, OSError) as error:
        warn(f"no report was written: {error}. Try: {command('report', run.path)}")

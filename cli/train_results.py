"""The results of trainings, and the list of recipes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from goldnas.cli.console import as_text, out, print_json, say
from goldnas.cli.metric_text import cell, heading
from goldnas.cli.wording import command
from goldnas.errors import count_of
from goldnas.reference import name_items

if TYPE_CHECKING:
    from goldnas.metric import Metric
    from goldnas.training.result import TrainResult


@dataclass(frozen=True)
class Trained:
    """A training that is done."""

    result: "TrainResult"
    folder: Path


Outcomes = Mapping[str, Trained | str]
"""By the name of the network: what came of it, or why nothing did."""


def print_result(result: "TrainResult", folder: Path, data: str) -> None:
    """Show the result of one training."""
    from goldnas.resource_names import read_table
    from goldnas.units import format_amount

    held_out = ""
    if result.validation is not None:
        # The name of the metric is not said twice.
        on = result.validation.on(f"the held-out {name_items(data)}").removeprefix("accuracy ")
        held_out = f", {on}"
    amounts = [
        f"{name} " * (read_table(name) is not None) + format_amount(name, amount)
        for name, amount in result.resources.items()
    ]
    say(
        f"network {result.fingerprint}: {result.test.on('the test set')} after the last "
        f"epoch{held_out}"
    )
    say(
        f"{', '.join(amounts)}; {count_of(result.epochs, 'epoch')} of {result.recipe} on "
        f"{result.images} {name_items(data)} took {timedelta(seconds=round(result.seconds))}"
    )
    say(f"saved in {folder}. Next: {command('export', folder, '--out', 'net.onnx')}")


def print_outcomes(outcomes: Outcomes) -> None:
    """Print the results of trainings as JSON."""
    import msgspec

    trainings = [
        {"network": name, "error": outcome}
        if isinstance(outcome, str)
        else {"network": name, "folder": outcome.folder, **msgspec.to_builtins(outcome.result)}
        for name, outcome in outcomes.items()
    ]
    print_json({"trainings": trainings})


def print_summary(outcomes: Outcomes) -> None:
    """Show the results of several trainings."""
    from goldnas.units import format_amount

    names: dict[str, None] = {}
    figures: list[Metric | None] = []
    for outcome in outcomes.values():
        if not isinstance(outcome, str):
            names |= dict.fromkeys(outcome.result.resources)
            figures.append(outcome.result.test)
    table = Table("network")
    for head in (heading("test", figures), heading("validation", figures), *names):
        table.add_column(as_text(head), justify="right")
    for network, outcome in outcomes.items():
        if isinstance(outcome, str):
            table.add_row(as_text(network), "failed", *("-" for _ in ("validation", *names)))
            continue
        result = outcome.result
        held_out = result.validation
        table.add_row(
            as_text(network),
            cell(result.test),
            "-" if held_out is None else cell(held_out),
            *(
                # A ready-made network has no latency by a table.
                format_amount(name, result.resources[name]) if name in result.resources else "-"
                for name in names
            ),
        )
    out.print(table)
    for network, outcome in outcomes.items():
        if isinstance(outcome, str):
            say(f"{network} failed: {outcome}")


def print_recipes(*, as_json: bool = False) -> None:
    """Show every setting of every recipe."""
    from goldnas.training.recipes import PURPOSES, RECIPES, Recipe

    if as_json:
        print_json({"recipes": RECIPES})
        return
    table = Table("", *RECIPES)
    table.add_row("for", *PURPOSES.values(), end_section=True)
    for field in Recipe.__struct_fields__:
        values = [getattr(recipe, field) for recipe in RECIPES.values()]
        table.add_row(field.replace("_", " "), *(str(value or "-") for value in values))
    out.print(table)

"""``goldnas export``: a found or trained network as files, and whether it keeps its budgets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goldnas.cli import completion
from goldnas.cli.console import as_text, errors_shown, out, print_json, say, warn
from goldnas.cli.options import JsonOption, OfRunOption, TrustOption
from goldnas.cli.struct_options import Options, with_options
from goldnas.cli.wording import in_options
from goldnas.deploying.config import ExportConfig
from goldnas.errors import Status

if TYPE_CHECKING:
    from goldnas.deploying.export import Exported

_OPTIONS = Options(ExportConfig)


@with_options(_OPTIONS)
def export(
    ctx: typer.Context,
    run: Annotated[
        Path, typer.Argument(help="Folder of a search or of a training (its --out).")
    ],
    pick: Annotated[
        str,
        typer.Option(
            metavar="best|N|FINGERPRINT",
            help="Network of a search to export: best (the most accurate within all "
            "budgets), a number from the front (1 is the cheapest), or a fingerprint.",
            autocompletion=completion.networks_of_run,
            rich_help_panel="Network",
        ),
    ] = "best",
    tables: Annotated[
        list[Path] | None,
        typer.Option(
            "--latency-lut",
            metavar="FILE",
            help="Latency table to check besides those of the search, for example a table "
            "of the same device in int8. Repeat for several.",
            rich_help_panel="Device",
        ),
    ] = None,
    space_: OfRunOption = None,
    trust: TrustOption = False,
    as_json: JsonOption = False,
    **settings: Any,
) -> None:
    """Export a network of a search or a training, measure it, and check every budget.

    Budgets and latency tables come from the search, also for a training in its folder. A
    latency is verified if its table was made on this machine, its GPU or the --device, with the
    same --precision. By a hot table, 10ms is the undisturbed latency. By a table of a loop
    (goldnas profile --loop), 10ms is p50 of single calls in that loop, and 10ms:p99 is p99.
    With --pipeline, the calls include what the product does before and after the network. The
    folder of the search keeps the measurements of the network alone, for goldnas compare. The
    exit status is 3 if a budget is exceeded.

    Examples:
        goldnas export runs/a --out net.onnx
        goldnas export runs/a/trained/best --out net.onnx --python-out net.py
        goldnas export runs/a --pick 2 --out net.onnx --precision int8 --dynamic-batch
        goldnas export runs/a --out net.onnx --runtime best
    """
    with errors_shown(if_interrupted=lambda: "interrupted; run the command again"):
        given = _OPTIONS.given(ctx, settings)
        # Imported here so that --help need not load torch.
        from goldnas.api.exports import export as export_network

        exported = export_network(
            run,
            tables=tables or [],
            pick=pick,
            space=space_,
            trust=trust,
            on_warning=warn,
            **given,
        )
        say(f"network {exported.fingerprint}: {exported.figure}")
        first, *others = exported.notes
        say(f"wrote {', '.join(map(str, exported.files))}; {in_options(first)}")
        for line in others:
            say(in_options(line))
        if as_json:
            print_json(_plain(exported))
        else:
            _print(exported)
        if exported.runtimes:
            _print_runtimes(exported, as_json)
        say(in_options(exported.summary))
    if exported.failed:
        raise typer.Exit(Status.OVER_BUDGET)


def _plain(exported: "Exported") -> dict[str, Any]:
    """An export as JSON, in FLOPs, parameters, microseconds, microjoules and bytes."""
    return {
        "network": exported.fingerprint,
        "precision": exported.precision,
        "files": exported.files,
        "resources": [
            {
                "resource": check.resource,
                "budget": None if check.budget is None else check.budget.limit,
                "predicted": check.predicted,
                "measured": check.measured,
                "measured_limits": check.limits,
                "pipeline": check.around,
                "verdict": check.verdict or None,
                "unverified": in_options(check.unverified) or None,
            }
            for check in exported.checks
        ],
        "runtimes": exported.runtimes,
        "pipeline": exported.pipeline,
    }


def _print(exported: "Exported") -> None:
    from rich.table import Table

    from goldnas.exporting.budget_check import list_summarised
    from goldnas.units import format_amount

    checks = exported.checks
    styles = {"PASS": "bold green", "FAIL": "bold red"}
    table = Table("resource")
    for header in ("budget", "predicted", "measured", "difference"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("")
    for check in checks:
        limit = None if check.budget is None else check.budget.limit
        table.add_row(
            as_text(check.resource),
            *(
                "-" if amount is None else format_amount(check.resource, amount)
                for amount in (limit, check.predicted, check.measured)
            ),
            "-" if check.difference is None else f"{100 * check.difference:+.1f} %",
            as_text(check.verdict, styles.get(check.verdict, "")),
        )
    out.print(table)
    for check in checks:
        if check.limits is not None:
            low, high = (format_amount(check.resource, amount) for amount in check.limits)
            say(f"{check.resource}: with 95 % confidence not below {low}, nor above {high}")
        if check.around is not None:
            around = format_amount(check.resource, check.around)
            say(
                f"{check.resource}: {around} of the prediction is for what comes before and "
                f"after the network, measured with {exported.pipeline}"
            )
    summarised = list_summarised(checks)  # the last line gives their reasons
    for check in checks:
        if check.unverified and check not in summarised:
            say(f"{check.resource} not verified: {in_options(check.unverified)}")


def _print_runtimes(exported: "Exported", as_json: bool) -> None:
    from rich.table import Table

    from goldnas.deploying.runtimes import describe_fastest

    table = Table("runtime")
    for header in ("ms", "+-", "differs from PyTorch by"):
        table.add_column(header, justify="right", no_wrap=True)
    for one in exported.runtimes:
        if one.latency_us is None:
            say(f"{one.runtime} not measured: {in_options(one.refused)}")
            continue
        table.add_row(
            as_text(one.backend),
            f"{one.latency_us / 1000:.4g}",
            f"{100 * (one.interval_us or 0) / one.latency_us:.1f} %",
            f"{one.difference:.1e}",
        )
    if not as_json:
        out.print(table)
    say(describe_fastest(exported.runtimes))

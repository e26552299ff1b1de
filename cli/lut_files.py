"""``goldnas lut lint | diff | merge | import``: checking, comparing and converting tables."""

import datetime
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from goldnas.bounded import open_regular
from goldnas.cli.console import as_text, errors_shown, note, out, print_json, say, warn
from goldnas.cli.drawing import check_drawing, write_drawing
from goldnas.cli.lut_plot import KINDS
from goldnas.cli.options import ForceOption, JsonOption, OfFileOption
from goldnas.cli.wording import command, in_options, option
from goldnas.errors import ConfigError, Status, count_of, list_some
from goldnas.files import check_replaceable
from goldnas.locks import file_locked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from goldnas.lut.diff import TableDifference
    from goldnas.lut.lint import Finding
    from goldnas.zoo.file import Zoo

_LISTED = 10
"""Places that are printed of one rule; --json has all."""
_SHOWN = 500
"""Rows that differ that are printed; --json has all."""


def lint(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Latency tables."),
    ],
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OTHER",
            help="Table of another device. Rows copied from it are errors. Repeat for several.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is wrong with latency tables, why it matters, and what to do.

    The exit status is 1 if there are errors; warnings alone leave it 0.

    Examples:
        goldnas lut lint lut/cpu.json
        goldnas lut lint lut/pi5.json --against lut/cpu.json --json
    """
    from goldnas.lut.lint import lint as lint_table

    with errors_shown():
        found = {file: lint_table(file, against or ()) for file in files}
    if as_json:
        content = [
            {
                "file": file,
                "errors": _count(findings, "error"),
                "warnings": _count(findings, "warning"),
                "findings": [_shown(finding) for finding in findings],
            }
            for file, findings in found.items()
        ]
        print_json({"files": content})
    else:
        for file, findings in found.items():
            _print_findings(file, findings)
    if any(_count(findings, "error") for findings in found.values()):
        raise typer.Exit(Status.FOUND)


def _shown(finding: "Finding") -> dict[str, Any]:
    """A finding with its explanation."""
    content = finding.to_json()
    return content | {"advice": in_options(content["advice"])}


def _count(findings: "Sequence[Finding]", severity: str) -> int:
    return sum(finding.severity == severity for finding in findings)


def _print_findings(file: str, findings: "Sequence[Finding]") -> None:
    from goldnas.lut.lint import RULES

    if not findings:
        say(f"{file}: nothing is wrong")
        return
    for name, rule in RULES.items():
        places = [finding for finding in findings if finding.rule == name]
        if not places:
            continue
        style = "bold red" if rule.severity == "error" else "yellow"
        say(f"{rule.severity}: {name}", style, f" in {file}: {rule.why}")
        for finding in places[:_LISTED]:
            say(f"  {finding.place}: {finding.found}")
        if places[_LISTED:]:
            say(f"  and {len(places) - _LISTED} more; --json lists all")
        say(f"  to do: {in_options(rule.advice)}")
    counted = [(_count(findings, kind), kind) for kind in ("error", "warning")]
    say(f"{file}: " + ", ".join(count_of(n, kind) for n, kind in counted))


def diff(
    a: Annotated[str, typer.Argument(help="Latency table.")],
    b: Annotated[str, typer.Argument(help="Latency table to compare it with.")],
    as_json: JsonOption = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PLOT",
            help="Also draw both tables side by side: .svg, .png, .pdf or .html.",
        ),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Show how two latency tables differ: conditions, rows, and ratios of b to a.

    It prints the 500 rows that differ most. With --json it prints all.

    Examples:
        goldnas lut diff lut/cpu.json lut/pi5.json
        goldnas lut diff lut/cpu.json lut/pi5.json --out diff.html
    """
    from goldnas.lut import LatencyTable
    from goldnas.lut.diff import diff as diff_tables

    with errors_shown():
        if plot is not None:
            check_drawing(plot, KINDS, command="lut diff", force=force)
        first, second = LatencyTable.load(a), LatencyTable.load(b)
        difference = diff_tables(first, second)
        if plot is not None:
            from goldnas.lut.plot_diff import plot_diff
            from goldnas.report.tables import make_diff_page

            write_drawing(
                plot,
                lambda: plot_diff(first, second),
                lambda: make_diff_page(first, second),
                command="lut diff",
            )
            note(f"wrote {plot}")
    if as_json:
        print_json(difference)
    else:
        _print_difference(difference, a, b, first.unit)


def _print_difference(difference: "TableDifference", a: str, b: str, unit: str) -> None:
    from rich.table import Table

    for condition in difference.conditions:
        say(f"condition: {condition}")
    for name, only in ((a, difference.only_in_a), (b, difference.only_in_b)):
        if only:
            say(f"only in {name}: {list_some(only, _LISTED)}")
    if difference.differing:
        rows = Table("row", title="rows that differ by more than their intervals")
        for header in (f"a\n{unit}", f"b\n{unit}", "b / a", f"allowed\n{unit}"):
            rows.add_column(header, justify="right", no_wrap=True)
        for row in difference.differing[:_SHOWN]:
            ratio = "-" if row.ratio is None else f"{row.ratio:.3f}"
            of_a, of_b, allowed = row.values
            digits = ".1f" if unit == "us" else ".4g"
            values = (f"{of_a:{digits}}", f"{of_b:{digits}}", ratio, f"{allowed:.2f}")
            rows.add_row(as_text(row.row), *values)
        out.print(rows)
    if difference.differing[_SHOWN:]:
        say(f"and {len(difference.differing) - _SHOWN} that differ less; --json has all")
    ratios = (difference.ratio_median, difference.ratio_p5, difference.ratio_p95)
    median, low, high = ("-" if ratio is None else f"{ratio:.3f}" for ratio in ratios)
    spearman = "-" if difference.spearman is None else f"{difference.spearman:.3f}"
    say(
        f"{difference.common_rows} rows in both, {len(difference.differing)} differ; b / a: "
        f"median {median}, 5th to 95th percentile {low} to {high}; rank correlation {spearman}"
    )


def merge(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="Latency tables of the same device and settings."
        ),
    ],
    target: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Latency table to write.")
    ],
    prefer: Annotated[
        Literal["first", "newest"] | None,
        typer.Option(
            help="Which row to take where tables differ: that of the table given first, or "
            "the one measured last. Default: a difference is an error."
        ),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Merge tables of the same device and settings, with their calibrations and campaigns.

    Examples:
        goldnas lut merge lut/monday.json lut/tuesday.json --out lut/cpu.json
        goldnas lut merge lut/old.json lut/new.json --prefer newest --out lut/cpu.json
    """
    from goldnas.lut import LatencyTable
    from goldnas.lut.merge import merge as merge_tables

    with errors_shown(), file_locked(target):
        check_replaceable(target, force=force)
        tables = [LatencyTable.load(file) for file in files]
        merged = merge_tables(tables, prefer=prefer)
        merged.save(target)
    rows, read = count_of(len(merged.rows), "row"), count_of(len(tables), "table")
    say(f"wrote {target!s}: {rows} of {read}")


def import_(
    file: Annotated[
        Path,
        typer.Argument(
            help="Latency table of another project, or the results.zip of a bundle."
        ),
    ],
    target: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Latency table to write.")
    ],
    form: Annotated[
        Literal[
            "proxylessnas",
            "ofa",
            "harmonic-nas",
            "harmonic-nas-energy",
            "fbnet",
            "tinynas",
            "csv",
        ]
        | None,
        typer.Option(
            "--format",
            help="Format of the file: the name of its project, or csv for the columns "
            "operator, site and latency_ms, or energy_mJ or energy_uJ for a table of energies.",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Device that was measured. For cpu or cuda, goldnas lut lint knows how "
            "fast the device can be."
        ),
    ] = None,
    cpu_model: Annotated[str | None, typer.Option(help="Name of the processor.")] = None,
    architecture: Annotated[
        str | None,
        typer.Option(help="Architecture of the processor: x86_64, aarch64 or another."),
    ] = None,
    os_: Annotated[
        str | None, typer.Option("--os", help="Operating system and its version.")
    ] = None,
    measured_on: Annotated[
        datetime.datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"],
            metavar="YYYY-MM-DD",
            help="Day of the measurements. Default: the day of the import.",
        ),
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="Runtime that was measured, and its version.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="Number format: fp32, int8 or another.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads that ran an operator. Default: 1.")
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Images per call. Default: the number in the file, or 1."),
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option(
            "--map",
            metavar="FILE.csv",
            help="Rows for the keys of the file, with the columns key, operator and site. "
            "Keys with the same operator and site are added up.",
        ),
    ] = None,
    activation: Annotated[
        Literal["relu6", "relu", "hswish"] | None,
        typer.Option(help="Activation of all blocks, if the format does not say it."),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="FILE.zip", help="Check that results.zip comes from this bundle."),
    ] = None,
    force: ForceOption = False,
    space_: OfFileOption = None,
) -> None:
    """Convert the results of a bundle, or the latency table of another project.

    Results of a bundle need no options. A bundle of goldnas profile gives the table that
    goldnas profile would have written on the device. A bundle of goldnas pick gives a file for
    goldnas pick --measured.

    The table of another project needs --format and --device. Layers that match operators of
    the space mobile get their names; --map names others. Rows are marked as interpolated,
    because such files give neither the spread nor the conditions of the measurements.
    lut/README.md describes the formats and their units.

    Examples:
        goldnas lut import results.zip --out lut/board.json
        goldnas lut import lut.yaml --format ofa --device note10 --out lut/note10.json
        goldnas lut import joules.csv --format csv --device pi5 --out lut/pi5-energy.json
    """
    from goldnas.lut import Failed
    from goldnas.lut.importers import import_table
    from goldnas.resource_names import ENERGY

    stated = {
        "backend": backend,
        "precision": precision,
        "threads": threads,
        "cpu_model": cpu_model,
        "architecture": architecture,
        "os": os_,
        "measured_on": measured_on and measured_on.date(),
    }
    known = {name: value for name, value in stated.items() if value is not None}
    with errors_shown(), file_locked(target):
        if is_zip(file):
            from goldnas.profiling.bundle_records import ZooManifest
            from goldnas.profiling.bundle_results import (
                check_of_bundle,
                import_results,
                read_found,
            )

            check_of_bundle(file)
            if force:
                raise ConfigError(
                    f"`force` does not go with {file}, whose results go into a new file: leave "
                    "it out, and give another `out` if that file exists"
                )
            theirs = {"form": form, "names": names, "activation": activation}
            own = {**theirs, "device": device, "batch": batch, **known}
            for name, given in own.items():
                if given is not None:
                    raise ConfigError(f"{file} already says {option(name)}: leave it out")
            if isinstance(read_found(file, bundle)[0], ZooManifest):
                from goldnas.picking.bundle import import_zoo

                if space_ is not None:
                    raise ConfigError(
                        f"{file} is for ready-made networks, which need no --space: leave "
                        "it out"
                    )
                zoo = import_zoo(file, target, bundle=bundle, on_warning=warn)
                _show_zoo(zoo)
                return
            from goldnas.api.together import name_space
            from goldnas.cli.profile_table import show_filled

            name_space(space_ or "")
            show_filled(*import_results(file, target, bundle=bundle, on_warning=warn))
            return
        if bundle is not None:
            raise ConfigError(f"--bundle needs a results.zip, and {file} is not a zip file")
        if form is None or device is None:
            what = "not the results.zip of a bundle" if os.path.lexists(file) else "not there"
            raise ConfigError(
                f"{file} is {what}; give the results.zip of a bundle, or --format and --device "
                "for the table of another project"
            )
        check_replaceable(target, force=force)
        imported = import_table(
            file,
            form,
            target,
            device=device,
            batch=batch,
            activation=activation,
            names=names,
            **known,
        )
        imported.table.save()
    rows = imported.table.rows
    failed = sum(isinstance(row, Failed) for row in rows)
    of = " of energies" if imported.table.kind == ENERGY else ""
    say(f"wrote {target!s}: {len(rows)} rows{of}, {failed} of them failed")
    unnamed = imported.unnamed
    if unnamed and form != "csv":  # whose names are the user's own
        say(
            f"{count_of(len(unnamed), 'key')} kept their names from the file, because no "
            f"operator is known for them: {list_some(unnamed)}. Name their operators with --map"
        )


def _show_zoo(zoo: "Zoo") -> None:
    """What a device said of ready-made networks, and how to choose among them."""
    from goldnas.zoo.file import Failed

    rows = [row for part in zoo.parts for row in part.rows]
    failed = [row for row in rows if isinstance(row, Failed)]
    told = f"wrote {zoo.path}: {count_of(len(rows), 'network')}, {len(failed)} of them failed"
    if len(failed) < len(rows):
        chosen = command("pick", "--measured", zoo.path, "--budget", "10ms")
        told += f". Choose with {chosen}"
    say(told)
    if failed:
        warn(f"{failed[0].key} failed: {failed[0].error}")


def is_zip(file: Path) -> bool:
    """Whether a file begins as zip files do, also if it is not whole."""
    try:
        with open_regular(file) as opened:
            return opened.read(4) == b"PK\x03\x04"
    except OSError:  # whoever reads it says why
        return False

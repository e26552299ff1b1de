"""``goldnas lut predict``, ``calibrate`` and ``check``: tables against whole networks."""

import secrets
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goldnas.cli.console import errors_shown, out, print_json, say, warn
from goldnas.cli.device_options import DeviceOption, PerfTestOption, PythonOption
from goldnas.cli.options import JsonOption, OfFileOption, TableArgument
from goldnas.cli.progress import visits_shown
from goldnas.errors import TableError

if TYPE_CHECKING:
    from goldnas.lut import Calibration, LatencyTable
    from goldnas.profiling.session import Session

NetworksOption = Annotated[
    int, typer.Option("--networks", min=2, metavar="N", help="How many networks to measure.")
]


def predict(
    file: TableArgument,
    architecture: Annotated[
        Path, typer.Argument(metavar="ARCH", help="Architecture, a JSON file.")
    ],
    space_: OfFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict the latency of a network, and say where it goes.

    Examples:
        goldnas lut predict lut/cpu.json network.json
        goldnas lut predict lut/cpu.json network.json --json
    """
    from collections import Counter

    from rich.table import Table
    from rich.text import Text

    from goldnas.lut import LatencyTable

    with errors_shown():
        table = LatencyTable.load(file)
        # Imported here so that --help need not load torch.
        from goldnas.architecture import Architecture
        from goldnas.resources import Latency
        from goldnas.resources.costs import total_cost
        from goldnas.spaces import import_space, space_of

        import_space(space_ or "")
        network = Architecture.load(architecture)
        space = space_of(network)
        parts = list(space.plan(network).parts())
        latency = Latency(table, space)
        latency_us = total_cost(latency, parts)
        rows = [
            {
                "operator": operator,
                "site": str(site),
                "count": count,
                "latency_us": count * latency.cost(operator, site),
            }
            for (operator, site), count in Counter(parts).items()
        ]
    fitted = latency.calibration
    if as_json:
        print_json(
            {
                "architecture": network.fingerprint,
                "table": table.name,
                "latency_us": latency_us,
                "calibrated": fitted is not None,
                "mape_percent": fitted.accuracy.mape_percent if fitted else None,
                "overhead_us": latency.overhead,
                "rows": rows,
            }
        )
        return
    shown = Table("operator", "site")
    for header in ("times", "us", "share"):
        shown.add_column(header, justify="right")
    for row in sorted(rows, key=lambda row: -float(str(row["latency_us"]))):
        us = float(str(row["latency_us"]))
        shown.add_row(
            Text(str(row["operator"])),
            Text(str(row["site"])),
            str(row["count"]),
            f"{us:.1f}",
            f"{100 * us / latency_us:.1f} %",
        )
    shown.add_row("whatever it holds", "", "", f"{latency.overhead:.1f}", "")
    out.print(shown)
    accuracy = (
        f"off by {fitted.accuracy.mape_percent:.1f} % on networks it was not fitted to"
        if fitted
        else "not calibrated for this space: expect 10 % or more"
    )
    say(f"{network.fingerprint}: {latency_us / 1000:.4g} ms on {table.name} ({accuracy})")


def calibrate(
    file: TableArgument,
    networks: NetworksOption = 20,
    device: DeviceOption = "cpu",
    python: PythonOption = None,
    perf_test: PerfTestOption = None,
    space_: OfFileOption = None,
) -> None:
    """Measure more random networks, and fit the rows of a table anew.

    Examples:
        goldnas lut calibrate lut/cpu.json
        goldnas lut calibrate lut/pi5.json --networks 40 --device ssh://pi@raspberry
    """
    journal = Path(f"{file}.visits")
    interrupted = f"interrupted; run the command again to go on: {journal} keeps what is done"
    with errors_shown(if_interrupted=lambda: interrupted), visits_shown() as on_progress:
        from goldnas.profiling.calibration import calibrate as fit_to_networks
        from goldnas.profiling.calibration import rebuild_space
        from goldnas.profiling.gpu_backend import forget_engines
        from goldnas.spaces import import_space

        import_space(space_ or "")
        table, session = _on_its_device(
            file, journal, on_progress, device=device, python=python, perf_test=perf_test
        )
        before = _calibration(table)
        space = rebuild_space(before)
        more = len(before.networks) + networks
        table_now = session.finish(fit_to_networks(session, table, space, networks=more), table)
        forget_engines(session.backend)
        after = _calibration(table_now)
    say(
        f"{file}: fitted to {len(after.networks)} networks of {after.space_and_settings}, "
        f"{networks} of them new: off by "
        f"{after.accuracy.mape_percent:.2f} % on networks it was not fitted to, before "
        f"{before.accuracy.mape_percent:.2f} %; measured twice they differ by "
        f"{after.noise_floor_percent:.2f} %"
    )


def check(
    file: TableArgument,
    networks: NetworksOption = 20,
    device: DeviceOption = "cpu",
    python: PythonOption = None,
    perf_test: PerfTestOption = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Of the networks; other ones each time if not given."),
    ] = None,
    space_: OfFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure fresh random networks now, and compare with what the table predicts.

    Examples:
        goldnas lut check lut/cpu.json
        goldnas lut check lut/cpu.json --networks 40 --seed 1 --json
    """
    drawn_by = secrets.randbits(31) if seed is None else seed
    with errors_shown(), visits_shown() as on_progress:
        from goldnas.profiling.calibration import rebuild_space
        from goldnas.profiling.check import check_table
        from goldnas.profiling.gpu_backend import forget_engines
        from goldnas.spaces import import_space

        import_space(space_ or "")
        table, session = _on_its_device(
            file, None, on_progress, device=device, python=python, perf_test=perf_test
        )
        calibration = _calibration(table)
        space = rebuild_space(calibration)
        found = check_table(session, table, space, networks=networks, seed=drawn_by)
        forget_engines(session.backend)
    result = {
        "table": str(file),
        "space": calibration.space,
        "settings": calibration.settings,
        "networks": found.accuracy.networks,
        "mape_percent": found.accuracy.mape_percent,
        "within_5_percent": found.accuracy.within_5_percent,
        "within_10_percent": found.accuracy.within_10_percent,
        "spearman": found.accuracy.spearman,
        "kendall": found.accuracy.kendall,
        "slowdown": found.slowdown,
        "mape_percent_at_its_speed": found.at_its_speed and found.at_its_speed.mape_percent,
        "noise_floor_percent": found.measured.noise_floor_percent,
        "seed": drawn_by,
    }
    if as_json:
        print_json(result)
        return
    spearman = found.accuracy.spearman
    say(
        f"{file}: {found.accuracy.networks} fresh networks of "
        f"{calibration.space_and_settings} are off by "
        f"{found.accuracy.mape_percent:.2f} % on average; within 5 %: "
        f"{found.accuracy.within_5_percent:.0f} %, within 10 %: "
        f"{found.accuracy.within_10_percent:.0f} % of them; Spearman "
        f"{'undefined' if spearman is None else f'{spearman:.3f}'}; measured twice they "
        f"differ by {found.measured.noise_floor_percent:.2f} % (seed {drawn_by})"
    )
    if found.slowdown is None or found.at_its_speed is None:
        return
    say(
        "Networks that the table was calibrated with, measured again, take "
        f"{found.slowdown:.3f} times what they took then; at that speed it is off by "
        f"{found.at_its_speed.mape_percent:.2f} %"
    )
    if found.at_its_speed.mape_percent < found.accuracy.mape_percent / 2:
        warn(
            "the machine runs at another speed than when the table was made (clocks, other "
            "work). Where this one is usual, make the table anew"
        )


def _calibration(table: "LatencyTable") -> "Calibration":
    if not table.calibrations:
        raise TableError(
            f"{table.path} was never calibrated, so it does not say of which space networks "
            f"are to be drawn. Measure some with: goldnas profile --calibrate 20 and the "
            f"options of the space, --out {shlex.quote(str(table.path))}"
        )
    return table.calibrations[-1]


def _on_its_device(
    file: Path,
    journal: Path | None,
    on_progress: Callable[[int, int], None],
    *,
    device: str,
    python: str | None,
    perf_test: str | None,
) -> "tuple[LatencyTable, Session]":
    """Open a table, and what measures under its conditions.

    Raises:
        ConfigError: If an option does not go with the table.
        TableError: If the device or its software is another.
    """
    from goldnas.lut import LatencyTable
    from goldnas.profiling.gpu_backend import locate_engines
    from goldnas.profiling.host import find_host
    from goldnas.profiling.match_backend import match_backend
    from goldnas.profiling.session import Session

    table = LatencyTable.load(file)
    theirs = table.conditions
    session = Session(
        match_backend(
            theirs,
            host=find_host(device, python, perf_test),
            folder=locate_engines(table.path),
            on_warning=warn,
        ),
        batch=theirs.batch,
        journal=journal,
        on_progress=on_progress,
        on_warning=warn,
    )
    if differences := theirs.differences(session.conditions):
        raise TableError(
            f"{file} was measured under other conditions: {'; '.join(differences)}. "
            "Networks can be measured for it only where it was made: --device says where"
        )
    return table, session

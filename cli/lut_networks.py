"""``goldnas lut predict``, ``calibrate`` and ``check``: tables against whole networks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goldnas.cli.console import as_text, errors_shown, out, print_json, say, warn
from goldnas.cli.options import JsonOption, OfFileOption, TableArgument, WaitOption
from goldnas.cli.progress import visits_shown
from goldnas.cli.struct_options import Options, with_options
from goldnas.errors import ConfigError
from goldnas.profiling.config import HostConfig

if TYPE_CHECKING:
    from goldnas.api.tables import PredictedEnergyRow, PredictedRow

_HOST = Options(HostConfig)

NetworksOption = Annotated[
    int, typer.Option("--networks", min=2, metavar="N", help="Number of networks to measure.")
]


def predict(
    file: TableArgument,
    architecture: Annotated[
        Path,
        typer.Argument(
            metavar="ARCH",
            help="JSON file of an architecture, or the net.config of a network that "
            "ProxylessNAS or Once-for-All published.",
        ),
    ],
    size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Height and width of the images, for a published network. Default: the "
            "size in run.config beside it, or 224.",
        ),
    ] = None,
    space_: OfFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict the latency or the energy of a network, and which operators take it.

    Examples:
        goldnas lut predict lut/cpu.json network.json
        goldnas lut predict lut/cpu.json network.json --json
        goldnas lut predict lut/note10.json net.config --size 176
    """
    from rich.table import Table

    rows: list[tuple[PredictedRow | PredictedEnergyRow, float]]
    with errors_shown():
        # Imported here so that --help need not load torch.
        from goldnas.api.tables import LatencyTable
        from goldnas.api.together import name_space
        from goldnas.architecture import Architecture
        from goldnas.lut.published import PublishedNetwork, is_published, read_published
        from goldnas.resource_names import ENERGY, LATENCY
        from goldnas.units import list_units

        table = LatencyTable.load(file)
        name_space(space_ or "")
        network: Architecture | PublishedNetwork
        if is_published(architecture):
            network = read_published(architecture, size)
            name = f"{network.name} at {network.side} pixels"
        elif size is not None:
            raise ConfigError(
                f"--size is for published networks, and {architecture} is not one"
            )
        else:
            network = Architecture.load(architecture)
            name = network.fingerprint
        if table.kind == ENERGY:
            energy = table.predict_energy(network)
            told = {"energy_uj": energy.energy_uj, "overhead_uj": energy.overhead_uj}
            mape_percent = energy.mape_percent
            rows = [(row, row.energy_uj) for row in energy.rows]
        else:
            latency = table.predict(network)
            told = {"latency_us": latency.latency_us, "overhead_us": latency.overhead_us}
            mape_percent = latency.mape_percent
            rows = [(row, row.latency_us) for row in latency.rows]
    total, overhead = told.values()
    if as_json:
        print_json(
            {
                "architecture": name,
                "table": table.name,
                **told,
                "calibrated": mape_percent is not None,
                "mape_percent": mape_percent,
                "rows": [row for row, _ in rows],
            }
        )
        return
    shown = Table("operator", "site")
    for header in ("times", table.unit, "share"):
        shown.add_column(header, justify="right")
    digits = ".1f" if table.kind == LATENCY else ".4g"
    for row, cost in sorted(rows, key=lambda pair: -pair[1]):
        shown.add_row(
            as_text(row.operator),
            as_text(row.site),
            str(row.count),
            f"{cost:{digits}}",
            f"{100 * cost / total:.1f} %",
        )
    shown.add_row("fixed overhead", "", "", f"{overhead:{digits}}", "")
    out.print(shown)
    accuracy = (
        "not calibrated for this space: expect 10 % or more"
        if mape_percent is None
        else f"off by {mape_percent:.1f} % on networks it was not fitted to"
    )
    scale, unit = list_units(table.kind)[1]  # milliseconds or millijoules
    say(f"{name}: {total / scale:.4g} {unit} on {table.name} ({accuracy})")
    if table.kind == LATENCY and not table.conditions.called.is_hot:
        say(f"this is {table.conditions.called.explain()}")


@with_options(_HOST)
def calibrate(
    ctx: typer.Context,
    file: TableArgument,
    networks: NetworksOption = 20,
    space_: OfFileOption = None,
    wait: WaitOption = False,
    **host: Any,
) -> None:
    """Measure more random networks, and fit the rows of a table again.

    Examples:
        goldnas lut calibrate lut/cpu.json
        goldnas lut calibrate lut/pi5.json --networks 40 --device ssh://pi@raspberry
    """
    journal = Path(f"{file}.visits")
    interrupted = (
        f"interrupted; run the command again to continue: {journal} keeps the measurements"
    )
    with errors_shown(if_interrupted=lambda: interrupted), visits_shown() as on_progress:
        from goldnas.api.tables import LatencyTable
        from goldnas.api.together import name_space

        name_space(space_ or "")
        table = LatencyTable.load(file)
        before = table.last_calibration
        fitted = table.calibrate(
            networks,
            wait=wait,
            on_progress=on_progress,
            on_warning=warn,
            **_HOST.given(ctx, host),
        )
        after = fitted.last_calibration
    say(
        f"{file}: fitted to {len(after.networks)} networks of {after.space_and_settings}, "
        f"{len(after.networks) - len(before.networks)} of them new: off by "
        f"{after.accuracy.mape_percent:.2f} % on networks it was not fitted to, "
        f"{before.accuracy.mape_percent:.2f} % before; two measurements of a network differ by "
        f"{after.noise_floor_percent:.2f} %"
    )


@with_options(_HOST)
def check(
    ctx: typer.Context,
    file: TableArgument,
    networks: NetworksOption = 20,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, help="Random seed of the networks. Default: fresh networks each time."
        ),
    ] = None,
    space_: OfFileOption = None,
    as_json: JsonOption = False,
    **host: Any,
) -> None:
    """Measure fresh random networks, and compare them with the predictions of the table.

    Examples:
        goldnas lut check lut/cpu.json
        goldnas lut check lut/cpu.json --networks 40 --seed 1 --json
    """
    with errors_shown(), visits_shown() as on_progress:
        from goldnas.api.tables import LatencyTable
        from goldnas.api.together import name_space

        name_space(space_ or "")
        table = LatencyTable.load(file)
        found = table.check(
            networks,
            seed=seed,
            on_progress=on_progress,
            on_warning=warn,
            **_HOST.given(ctx, host),
        )
        calibration = table.last_calibration
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
        "seed": found.seed,
    }
    if as_json:
        print_json(result)
        return
    spearman = found.accuracy.spearman
    say(
        f"{file}: {found.accuracy.networks} fresh networks of {calibration.space_and_settings} "
        f"are off by {found.accuracy.mape_percent:.2f} % on average; within 5 %: "
        f"{found.accuracy.within_5_percent:.0f} %, within 10 %: "
        f"{found.accuracy.within_10_percent:.0f} % of them; Spearman "
        f"{'undefined' if spearman is None else f'{spearman:.3f}'}; two measurements of a "
        f"network differ by {found.measured.noise_floor_percent:.2f} % (seed {found.seed})"
    )
    if found.slowdown is None or found.at_its_speed is None:
        return
    say(
        f"The networks of the calibration, measured again, take {found.slowdown:.3f} times as "
        "long as then; at that speed the table is off by "
        f"{found.at_its_speed.mape_percent:.2f} %"
    )
    if found.at_its_speed.mape_percent < found.accuracy.mape_percent / 2:
        warn(
            "the machine runs at another speed than when the table was made (clocks, other "
            "work). If today's speed is the usual one, make the table again"
        )

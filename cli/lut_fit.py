"""``goldnas lut fit``: a latency table from whole networks alone."""

import os
from pathlib import Path
from typing import Annotated

import typer

from goldnas.cli.console import errors_shown, print_json, say, warn
from goldnas.cli.options import ForceOption, JsonOption
from goldnas.errors import ConfigError, count_of, list_some
from goldnas.resource_names import ENERGY


def fit(
    networks: Annotated[
        Path,
        typer.Option(
            help="CSV file with a row for each network. Column latency_ms has the latency, or "
            "energy_mJ or energy_uJ the energy. A column for each operator says how often the "
            "network has it. Columns name, network, id and columns of text are labels."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Latency table to write."),
    ],
    test: Annotated[
        Path | None,
        typer.Option(help="CSV file of other networks, to measure the accuracy of the table."),
    ] = None,
    prior: Annotated[
        list[Path] | None,
        typer.Option(
            help="Expected costs, up to a common factor: a latency table, or a CSV file of "
            "networks on another device. Repeat for several. A prior counts as much "
            "as the networks support it; one that misleads is left out."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Name of the device, for the table.")] = "unknown",
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a table from whole networks, if operators cannot be measured alone.

    The networks have latencies, or energies from a power meter: then it is a table of energies.
    10 to 20 networks are needed. Without --test, the accuracy is cross-validated: each network
    is predicted by a fit to the others.

    Costs are never below 0. For an operator that saves time or energy, count how often a
    network lacks it.

    Examples:
        goldnas lut fit --networks measured.csv --out lut/board.json
        goldnas lut fit --networks joules.csv --out lut/board-energy.json
        goldnas lut fit --networks few.csv --prior lut/cpu.json --test more.csv --out board.json
    """
    with errors_shown():
        from goldnas.files import check_replaceable, check_writable
        from goldnas.locks import file_locked
        from goldnas.lut.fit.fitted_networks import fit_networks
        from goldnas.lut.fit.networks_csv import LABELS, Networks
        from goldnas.lut.fit.prior import Prior

        priors = prior or []
        for given in (networks, test, *priors):
            if given is not None and os.path.realpath(given) == os.path.realpath(out):
                raise ConfigError(f"--out {out} would replace an input file. Name another file")
        with file_locked(out):
            check_replaceable(out, force=force)
            check_writable(out)
            train = Networks.read(networks)
            fitted = fit_networks(train, [Prior.read(path) for path in priors])
            tested = Networks.read(test) if test else None
            accuracy = fitted.test(tested) if tested else fitted.held_out()
            fitted.table(out, device=device).save()

    for read in filter(None, (train, tested)):
        texts = [n for n in read.labels if n.lower() not in LABELS]
        if texts:
            warn(f"{read.path}: no numbers in {', '.join(texts)}, used as labels")
    if fitted.guessed:
        listed = list_some(sorted(fitted.guessed))
        warn(
            f"no network of {networks} has {listed}: {out} estimates them from the other "
            "operators"
        )
    if fitted.held_at_zero:
        cheaper = "cheaper" if train.kind == ENERGY else "faster"
        warn(
            f"networks of {networks} get {cheaper} with more of "
            f"{list_some(fitted.held_at_zero)}, but a cost cannot be below 0: {out} has 0. "
            "Count how often a network lacks it instead: the highest count of all networks, "
            "less its own"
        )
    weights = {
        str(path): 100 * share
        for path, share in zip(priors, fitted.fit.prior_shares.tolist(), strict=True)
    }
    figures = {
        "mape_percent": accuracy.mape_percent,
        "within_5_percent": accuracy.within_5_percent,
        "within_10_percent": accuracy.within_10_percent,
        "spearman": accuracy.spearman,
        "kendall": accuracy.kendall,
        "networks": accuracy.networks,
        "set": "test" if tested else "cross-validated",
        "prior_weights_percent": weights,
        "held_at_zero": fitted.held_at_zero,
    }
    if as_json:
        print_json(figures)
        return
    on = f"of {test}" if tested else f"of {networks}, each by a fit to the others"
    rows = count_of(len(fitted.operators), "row")
    of = " of energies" if train.kind == ENERGY else ""
    say(f"{out}: {rows}{of}, fitted to {len(train.names)} networks")
    if weights:
        none = max(0.0, 100 - sum(weights.values()))
        shares = ", ".join(f"{weight:.0f} % {path}" for path, weight in weights.items())
        say(f"weights of the priors: {shares}; without a prior {none:.0f} %")
    say(f"predicting {count_of(accuracy.networks, 'network')} {on}:")
    for name, value in figures.items():
        if isinstance(value, float) or value is None:
            say(f"  {name}  {'-' if value is None else f'{value:.3f}'}")

"""A summary of a measured latency table."""

from typing import TYPE_CHECKING, Any

from goldnas.cli.console import say
from goldnas.errors import MeasurementError
from goldnas.resource_names import ENERGY

if TYPE_CHECKING:
    from goldnas.lut import LatencyTable, QuantileFit
    from goldnas.spaces import SearchSpace


def describe_filled(table: "LatencyTable", space: "SearchSpace") -> dict[str, Any]:
    """What a table has of a space, as plain values."""
    fitted = table.calibration_for(space.name, space.settings)
    return {
        "table": table.path,
        "rows": len(space.rows()),
        "conditions": table.conditions,
        "networks": len(fitted.networks) if fitted else 0,
        "mape_percent": fitted.accuracy.mape_percent if fitted else None,
        "noise_floor_percent": fitted.noise_floor_percent if fitted else None,
        "loop": fitted.loop.quantiles if fitted and fitted.loop else None,
    }


def show_filled(table: "LatencyTable", space: "SearchSpace") -> None:
    """Say what a table has of a space, and how far off it is.

    Raises:
        MeasurementError: If it lacks rows.
    """
    rows = space.rows()
    lacking = table.missing(rows)
    say(
        f"{table.path}: {len(rows) - len(lacking)} of the {len(rows)} rows of this space, "
        f"on {table.conditions.machine} with {table.conditions.backend}"
    )
    if fitted := table.calibration_for(space.name, space.settings):
        say(
            f"fitted to {len(fitted.networks)} networks: off by "
            f"{fitted.accuracy.mape_percent:.1f} % on networks it was not fitted to; two "
            f"measurements of a network differ by {fitted.noise_floor_percent:.1f} %"
        )
        if fitted.loop:
            say(
                f"called in the loop {table.conditions.called}: "
                f"{len(fitted.loop.networks)} networks that the rows were not fitted to. The "
                f"machine then took {fitted.loop.slowdown:.2f} times as long as predicted for "
                "hot calls"
            )
            for name, fit in fitted.loop.quantiles.items():
                say(f"  {describe_fit(name, fit)}")
    say(describe_bare(table))
    if lacking:
        raise MeasurementError(
            f"{len(lacking)} of {len(rows)} rows could not be measured and are in {table.path} "
            "as failed. Run the same command again to retry, or leave the operator out of "
            "--operators"
        )


def describe_fit(name: str, fit: "QuantileFit") -> str:
    """A quantile as it follows from the hot latency, in one line."""
    margin = f", and {fit.margin_percent:.1f} % more as a bound" if fit.margin_percent else ""
    return (
        f"{name} = {fit.offset_us:.1f} us + {fit.factor:.3f} x the hot latency{margin}; mean "
        f"error {fit.error_percent:.1f} % on networks left out"
    )


def describe_bare(table: "LatencyTable") -> str:
    """What a budget means that names no quantile, in a sentence."""
    if table.kind == ENERGY:
        return f"a budget of 10mJ@{table.name} means the energy of one call"
    loop = table.conditions.called
    others = "" if loop.is_hot else f"; 10ms@{table.name}:p99 means {loop.explain('p99')}"
    return f"a budget of 10ms@{table.name} means {loop.explain()}{others}"

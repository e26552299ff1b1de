"""A summary of a measured latency table."""

from typing import TYPE_CHECKING, Any

from goldnas.cli.console import say
from goldnas.errors import MeasurementError

if TYPE_CHECKING:
    from goldnas.lut import LatencyTable
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
    if lacking:
        raise MeasurementError(
            f"{len(lacking)} of {len(rows)} rows could not be measured and are in {table.path} "
            "as failed. Run the same command again to retry, or leave the operator out of "
            "--operators"
        )
